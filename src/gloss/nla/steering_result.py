"""What steering answers: continuations, next tokens, and how often the wanted words are written."""

from __future__ import annotations

from dataclasses import dataclass

from gloss.nla.presentation import Result, Shown, visible


@dataclass(frozen=True)
class Continuation:
    """What the target wrote under an edit (none, edit, random, unrelated, elsewhere) of strength
    α."""

    edit: str
    alpha: float
    text: str


@dataclass(frozen=True)
class NextToken:
    """The probability of one next token without an edit and with it."""

    token: str
    token_id: int
    before: float
    after: float


@dataclass(frozen=True)
class NextTokens:
    """The likeliest next tokens under one α of the edit."""

    alpha: float
    tokens: tuple[NextToken, ...]


@dataclass(frozen=True)
class SteeringRate:
    """In how many of ``samples`` continuations under an edit of strength α the wanted words are
    written, with the 95 % interval of their share (Wilson)."""

    edit: str
    alpha: float
    written: int
    samples: int
    ci95: tuple[float, float]


@dataclass(frozen=True)
class Steering(Result):
    """An edited explanation and the target's greedy continuations: without edit, along it, along a
    random direction, along an unrelated edit, and along the edit elsewhere in the text. ``token``
    is that of the last position; ``verdict`` says whether the ``rates`` of the ``wanted`` words
    show that the edit did it."""

    positions: tuple[int, ...]
    token: str
    original: str
    edited: str
    continuations: tuple[Continuation, ...]
    next: tuple[NextTokens, ...] = ()
    wanted: str = ""
    rates: tuple[SteeringRate, ...] = ()
    verdict: str = ""

    @property
    def _title(self) -> str:  # type: ignore[override]
        places = ", ".join(map(str, self.positions))
        edit = f"{self.original!r} → {self.edited!r}"
        return f"steering at token {places} {visible(self.token)!r}: {edit}"

    @property
    def _verdict(self) -> str:  # type: ignore[override]
        return self.verdict

    def _shown(self) -> Shown:
        rate = {(one.edit, one.alpha): f"{one.written} of {one.samples}" for one in self.rates}
        rows = [
            (one.edit, f"{one.alpha:g}", rate.get((one.edit, one.alpha), ""), one.text)
            for one in self.continuations
        ]
        if not rate:
            return ("edit", "α", "continuation"), [(*row[:2], row[3]) for row in rows]
        return ("edit", "α", f"writes {visible(self.wanted)!r}", "continuation"), rows
