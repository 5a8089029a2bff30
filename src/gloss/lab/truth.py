"""Reads an explanation as claims and judges each against a document's truth."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gloss.lab.documents import LabDocument, render
from gloss.lab.statements import next_class, spoken
from gloss.lab.wording_facts import HELD, VALUES
from gloss.lab.wording_label import NEXT_CLASSES

Verdict = Literal["right", "wrong", "absent", "text only"]
ENDING, NEXT = "ending", "next"

_KIND_OF = {value: kind for kind, values_ in VALUES.items() for value in values_} | dict.fromkeys(
    NEXT_CLASSES, NEXT
)
_QUOTE_OR_WORD = re.compile(r'"(?P<quoted>[^"\n]*)"?|(?P<word>[A-Za-z]+)')
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Claim:
    """One claim of an explanation: its kind, the value it names, and the characters where it
    does."""

    kind: str
    value: str
    start: int
    end: int


def kinds() -> tuple[str, ...]:
    """All kinds of claims: the kinds of facts, then the ending and what comes next."""
    return (*VALUES, ENDING, NEXT)


def values(kind: str) -> tuple[str, ...]:
    """The closed set of values of a kind; empty for endings, which may be any words."""
    return NEXT_CLASSES if kind == NEXT else VALUES.get(kind, ())


def parse_claims(explanation: str) -> tuple[Claim, ...]:
    """The claims in order: each value word outside of quotes, each quote as a claim about the
    ending."""
    return tuple(_claims(explanation))


def _claims(explanation: str) -> Iterator[Claim]:
    for match in _QUOTE_OR_WORD.finditer(explanation):
        if match["word"] is None:
            yield Claim(
                ENDING,
                " ".join(match["quoted"].removeprefix("...").split()),
                match.start(),
                match.end(),
            )
        elif match["word"] in _KIND_OF:
            yield Claim(_KIND_OF[match["word"]], match["word"], match.start(), match.end())


def judge(claim: Claim, document: LabDocument, char_offset: int) -> Verdict:
    """Whether a claim holds after the first ``char_offset`` characters.

    "absent" means that nothing of its kind is settled there, "text only" that the text says so and
    no activation holds it.
    """
    if claim.kind == ENDING:
        return "right" if _ends_with(document, char_offset, claim.value) else "wrong"
    truth = (
        next_class(document, char_offset)
        if claim.kind == NEXT
        else document.known(char_offset).get(claim.kind)
    )
    if truth is None:
        return "absent"
    if claim.value != truth:
        return "wrong"
    return "right" if claim.kind in (*HELD, NEXT) else "text only"


def _ends_with(document: LabDocument, char_offset: int, quoted: str) -> bool:
    """Compares whole words, without signs; a word cut off by the offset may also be quoted in
    full."""
    words = _WORD.findall(quoted)
    text = render(document)
    said = spoken(text[:char_offset])
    completed = said
    if said and said[-1].isalnum() and (rest := _WORD.match(text, char_offset)):
        completed = said + rest[0]
    return bool(words) and any(
        _WORD.findall(end)[-len(words) :] == words for end in (said, completed)
    )
