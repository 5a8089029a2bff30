"""Examples and their claims as they are shown: marks inside the text, and scores per kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

from gloss.formatting import count, decimal, finite, interval_of
from gloss.store.run_files import section

VERDICTS = {
    "right": ("✓", "agrees with what is known at this token"),
    "wrong": ("✗", "contradicts it"),
    "absent": ("○", "nothing of this kind is known at this token"),
    "text only": ("◐", "agrees with the text, and no activation holds it"),
}


@dataclass(frozen=True)
class ClaimMark:
    """One judged claim; ``truth`` is what is known of its kind, given where the claim is wrong."""

    kind: str
    value: str
    verdict: str
    truth: str | None

    @property
    def mark(self) -> str:
        """The symbol of the verdict."""
        return VERDICTS.get(self.verdict, "?")[0]


@dataclass(frozen=True)
class Segment:
    """A stretch of an explanation, with the claim it makes where it makes one."""

    text: str
    claim: ClaimMark | None = None


@dataclass(frozen=True)
class Example:
    """An explained activation and its text; ``before`` leaves out the token that ends it."""

    doc_id: str
    position: str
    before: str
    token: str
    token_in_text: bool
    parts: tuple[Segment, ...]
    claims: tuple[ClaimMark, ...]
    facts: dict[str, str]
    fve: str
    cosine: str
    flags: tuple[str, ...]


@dataclass(frozen=True)
class KindScores:
    """Claim scores of one kind of fact; None where it was not measured."""

    kind: str
    precision: float | None
    recall: float | None
    best_reader: float | None
    chance: float | None
    n_claims: int
    n_known: int
    above_chance: tuple[float, float] | None = None
    """95 % interval of precision minus chance."""
    majority: float | None = None
    """How often the commonest value is the truth where one is known."""
    precision_ci95: tuple[float, float] | None = None
    n_values: int | None = None
    """Distinct values that are claimed."""
    commonest: float | None = None
    """Share of the claims that name the value that is claimed most."""


def read_example(example: Mapping[str, Any]) -> Example:
    """An entry of ``examples`` as it is shown."""
    text, token = str(example.get("text") or ""), str(example.get("token") or "")
    inside = bool(token) and text.endswith(token)
    placed = _placed_claims(example)
    return Example(
        doc_id=str(example.get("doc_id", "")),
        position=count(example.get("position")),
        before=text.removesuffix(token),
        token=token,
        token_in_text=inside,
        parts=tuple(_segments(str(example.get("explanation") or ""), placed)),
        claims=tuple(mark for _, _, mark in placed),
        facts={kind: str(value) for kind, value in section(example, "facts").items()},
        fve=decimal(example.get("fve")),
        cosine=decimal(example.get("cosine")),
        flags=tuple(map(str, example.get("flags") or [])),
    )


def _placed_claims(example: Mapping[str, Any]) -> list[tuple[int, int, ClaimMark]]:
    """The claims with their places in the text, -1 for one without, in order of place."""
    facts, placed = section(example, "facts"), []
    for claim in example.get("claims") or []:
        kind, value, verdict = (str(claim.get(name, "")) for name in ("kind", "value", "verdict"))
        truth = facts.get(kind) if verdict == "wrong" else None
        mark = ClaimMark(kind, value, verdict, None if truth is None else str(truth))
        start, end = (finite(claim.get(name)) for name in ("start", "end"))
        placed.append((-1 if start is None else int(start), -1 if end is None else int(end), mark))
    return sorted(placed, key=lambda item: item[:2])


def _segments(text: str, placed: Sequence[tuple[int, int, ClaimMark]]) -> list[Segment]:
    """The text cut at its claims, but for those without a place or overlapping an earlier one."""
    parts, done = [], 0
    for start, end, mark in placed:
        if done <= start < end <= len(text):
            parts += [Segment(text[done:start]), Segment(text[start:end], mark)]
            done = end
    return [part for part in (*parts, Segment(text[done:])) if part.text]


def kind_scores(results: Mapping[str, Any]) -> tuple[KindScores, ...]:
    """Scores of every kind, those furthest above chance first."""
    rows = []
    for kind, values in section(results, "claims").items():
        if isinstance(values, Mapping):
            score = {name: finite(value) for name, value in values.items()}
            precision, recall, ceiling, chance = map(
                score.get, ("precision", "recall", "best_reader", "chance")
            )
            n_claims, n_known = (int(score.get(name) or 0) for name in ("n_claims", "n_known"))
            shares = precision, recall, ceiling, chance
            interval = interval_of(values.get("above_chance_ci95"))
            n_values = score.get("n_values")
            row = KindScores(
                kind,
                *shares,
                n_claims,
                n_known,
                interval,
                majority=score.get("majority"),
                precision_ci95=interval_of(values.get("precision_ci95")),
                n_values=None if n_values is None else int(n_values),
                commonest=score.get("commonest"),
            )
            rows.append(row)
    above = {row.kind: (row.precision or 0.0) - (row.chance or 0.0) for row in rows}
    return tuple(sorted(rows, key=lambda row: (-above[row.kind], row.kind)))


def pooled(scores: Sequence[KindScores], name: Literal["precision", "best_reader"]) -> float | None:
    """A score over all claims of whatever kind: the share that is right, or what the best
    readers would reach on the same mix; kinds without it are left out."""
    value = attrgetter(name)
    counted = [row for row in scores if value(row) is not None and row.n_claims]
    total = sum(row.n_claims for row in counted)
    return sum(value(row) * row.n_claims for row in counted) / total if total else None
