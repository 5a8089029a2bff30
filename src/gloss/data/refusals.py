"""What of a corpus is refused: counted with the first reasons, and too much of it ends the work."""

from __future__ import annotations

from dataclasses import dataclass, field

from gloss.errors import CorpusError

_TOO_FEW_TO_JUDGE, _NAMED = 100, 3


@dataclass
class Refusals:
    """Of ``what`` (records, documents) at ``where``; ``most`` is the share that ``setting`` allows.

    How many were refused is said by the caller where a stopped work goes on."""

    what: str
    where: object
    most: float
    setting: str
    count: int = 0
    reasons: list[str] = field(default_factory=list)

    def add(self, reason: str) -> None:
        """Counts one, and keeps the first reasons."""
        self.count += 1
        self.reasons += [reason] if len(self.reasons) < _NAMED else []

    @property
    def first(self) -> str:
        """The first reason."""
        return self.reasons[0] if self.reasons else "in an earlier run"

    def check(self, count: int, total: int, *, at_end: bool = False) -> None:
        """Raises CorpusError if ``count`` of ``total`` is more than the share, when there are
        enough to judge or no more will come."""
        if count <= self.most * total or not (at_end or total >= _TOO_FEW_TO_JUDGE):
            return
        if count == total == 1:
            raise CorpusError(self.first)
        raise CorpusError(
            f"{count} of {total} {self.what} cannot be read ({self.first})",
            where=self.where,
            expected=f"at most {self.most:.0%}",
            remedy=f"Mend them, or allow more with {self.setting}",
        )
