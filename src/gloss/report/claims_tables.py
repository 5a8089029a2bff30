"""Claims of explanations as they are shown: marks inside the text, and scores per kind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gloss.report.formatting import finite
from gloss.report.run_files import section

MARKS = {"right": "✓", "wrong": "✗", "absent": "○"}
VERDICT_MEANINGS = {
    "right": "agrees with what is known at this token",
    "wrong": "contradicts it",
    "absent": "nothing of this kind is known at this token",
}


@dataclass(frozen=True)
class ClaimMark:
    """One judged claim; ``truth`` is what is known of its kind, where anything is."""

    kind: str
    value: str
    verdict: str
    truth: str | None

    @property
    def mark(self) -> str:
        """The symbol of the verdict."""
        return MARKS.get(self.verdict, "?")

    @property
    def description(self) -> str:
        """The claim and its verdict in words."""
        words = f"{self.kind} = {self.value}: {self.verdict}"
        return (
            f"{words}, truth is {self.truth}"
            if self.verdict == "wrong" and self.truth is not None
            else words
        )


@dataclass(frozen=True)
class Segment:
    """A stretch of an explanation, with the claim it makes where it makes one."""

    text: str
    claim: ClaimMark | None = None


@dataclass(frozen=True)
class KindScores:
    """Claim scores of one kind of fact; None where it was not measured."""

    kind: str
    precision: float | None
    recall: float | None
    probe_ceiling: float | None
    chance: float | None
    n_claims: int
    n_known: int

    @property
    def error_of_difference(self) -> float | None:
        """Standard error of precision minus chance, claims taken as independent (so rather too
        small).
        """
        if self.precision is None or self.chance is None or not self.n_claims:
            return None
        spread = self.precision * (1 - self.precision) + self.chance * (1 - self.chance)
        return math.sqrt(max(spread, 0.0) / self.n_claims)


def claim_marks(example: Mapping[str, Any]) -> tuple[ClaimMark, ...]:
    """The judged claims of an example, in order of their place in the text."""
    return tuple(mark for _, _, mark in _placed_claims(example))


def segments(example: Mapping[str, Any]) -> tuple[Segment, ...]:
    """The explanation cut at its claims; one without a place, or overlapping an earlier one, is not
    marked inside.
    """
    text = str(example.get("explanation") or "")
    parts: list[Segment] = []
    done = 0
    for start, end, mark in _placed_claims(example):
        if not done <= start < end <= len(text):
            continue
        if start > done:
            parts.append(Segment(text[done:start]))
        parts.append(Segment(text[start:end], mark))
        done = end
    return (*parts, Segment(text[done:])) if done < len(text) else tuple(parts)


def kind_scores(results: Mapping[str, Any]) -> tuple[KindScores, ...]:
    """Scores of every kind, those furthest above chance first."""
    rows = [
        KindScores(
            kind=kind,
            precision=finite(values.get("precision")),
            recall=finite(values.get("recall")),
            probe_ceiling=finite(values.get("probe_ceiling")),
            chance=finite(values.get("chance")),
            n_claims=int(finite(values.get("n_claims")) or 0),
            n_known=int(finite(values.get("n_known")) or 0),
        )
        for kind, values in section(results, "claims").items()
        if isinstance(values, Mapping)
    ]
    return tuple(
        sorted(rows, key=lambda row: (-((row.precision or 0.0) - (row.chance or 0.0)), row.kind))
    )


def pooled_precision(scores: Sequence[KindScores]) -> float | None:
    """The share of all claims, of whatever kind, that are right."""
    counted = [
        (row.precision, row.n_claims)
        for row in scores
        if row.precision is not None and row.n_claims
    ]
    total = sum(n for _, n in counted)
    return sum(precision * n for precision, n in counted) / total if total else None


def pooled_ceiling(scores: Sequence[KindScores]) -> float | None:
    """What the probes would reach on the same mix of claims; kinds without a probe are left out."""
    counted = [
        (row.probe_ceiling, row.n_claims)
        for row in scores
        if row.probe_ceiling is not None and row.n_claims
    ]
    total = sum(n for _, n in counted)
    return sum(ceiling * n for ceiling, n in counted) / total if total else None


def _placed_claims(example: Mapping[str, Any]) -> list[tuple[int, int, ClaimMark]]:
    facts = section(example, "facts")
    placed = []
    for claim in example.get("claims") or []:
        kind = str(claim.get("kind", ""))
        truth = facts.get(kind)
        mark = ClaimMark(
            kind=kind,
            value=str(claim.get("value", "")),
            verdict=str(claim.get("verdict", "")),
            truth=None if truth is None else str(truth),
        )
        start, end = (finite(claim.get(name)) for name in ("start", "end"))
        placed.append((-1 if start is None else int(start), -1 if end is None else int(end), mark))
    return sorted(placed, key=lambda item: item[:2])
