"""``validate``: every check on every half, and on both together; none stops the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gloss.release.contract_checks import CONTRACT_CHECKS
from gloss.release.findings import Finding, Half, run_checks
from gloss.release.pair_checks import pair_findings, target_findings
from gloss.release.parts import parts_of
from gloss.release.weight_checks import WEIGHT_CHECKS


@dataclass(frozen=True)
class Validation:
    """All findings about a checkpoint."""

    findings: tuple[Finding, ...]

    @property
    def failed(self) -> list[Finding]:
        """The findings that say no."""
        return [finding for finding in self.findings if finding.status == "fail"]

    @property
    def passed(self) -> bool:
        """Whether nothing failed; warnings and skipped checks do not count, but a skipped one
        always has a failed cause.
        """
        return not self.failed


def validate(
    name: str | Path,
    *,
    target: str | None = None,
    texts: Sequence[str] | None = None,
    revision: str | None = None,
) -> Validation:
    """Examines what stands at a folder or hub id, with the target also a round trip on ``texts`` (a
    few built-in ones by default).

    Raises: CheckpointError if there is no checkpoint, or the hub cannot be reached.
    """
    halves = {role: Half(role, place) for role, place in parts_of(name, revision=revision).items()}
    for half in halves.values():
        _ = half.folder  # fetched here, so that an unreachable hub is one error and not twenty
    findings = [
        f for half in halves.values() for f in run_checks(half, (*CONTRACT_CHECKS, *WEIGHT_CHECKS))
    ]
    if len(halves) == 2:
        findings += pair_findings(halves["av"], halves["ar"])
    if target is not None:
        findings += target_findings(halves, target, texts)
    return Validation(tuple(findings))
