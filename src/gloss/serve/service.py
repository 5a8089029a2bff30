"""What every path works with: the loaded NLAs behind one scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gloss.errors import ConfigError, GlossError
from gloss.nla import NLA
from gloss.plugins import KnownTruth
from gloss.serve.limits import Limits
from gloss.serve.reader import Reader
from gloss.serve.scheduler import Scheduler
from gloss.serve.telemetry import Telemetry

PARTS = ("av", "ar", "target")


@dataclass(frozen=True)
class Service:
    """Readers by name, the default one first, and what they share. ``runs`` is the folder whose run
    folders are shown.
    """

    readers: Mapping[str, Reader]
    scheduler: Scheduler
    limits: Limits
    telemetry: Telemetry
    runs: Path | None
    known_truth: KnownTruth | None = None

    @property
    def default(self) -> Reader:
        """The first NLA, which Neuronpedia's paths read with."""
        return next(iter(self.readers.values()))

    def reader(self, name: str | None) -> Reader:
        """The NLA of that name. Raises: ConfigError if none is loaded as such."""
        if name is None:
            return self.default
        if name not in self.readers:
            raise ConfigError(
                "no such NLA", expected=f"one of {', '.join(self.readers)}", found=repr(name)
            )
        return self.readers[name]


def open_service(
    nlas: Mapping[str, NLA],
    *,
    limits: Limits,
    runs: Path | None = None,
    known_truth: KnownTruth | None = None,
) -> Service:
    """Loads every part of every NLA and puts them behind one scheduler, which is not started yet.

    An NLA without one of its parts is served without it. Raises: GlossError if it has neither AV
    nor AR."""
    telemetry = Telemetry()
    missing = {name: _missing_parts(nla) for name, nla in nlas.items()}
    for lacking in missing.values():
        if "av" in lacking and "ar" in lacking:
            raise lacking["av"]
    scheduler = Scheduler(nlas, limits=limits, telemetry=telemetry)
    readers = {name: Reader(name, nla, scheduler, missing[name]) for name, nla in nlas.items()}
    return Service(readers, scheduler, limits, telemetry, runs, known_truth)


def _missing_parts(nla: NLA) -> dict[str, GlossError]:
    missing: dict[str, GlossError] = {}
    for part in PARTS:
        try:
            getattr(nla, "engine" if part == "av" else part)
        except GlossError as error:
            missing[part] = error
    return missing
