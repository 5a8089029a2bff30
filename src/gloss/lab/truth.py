"""Parses explanations into claims and judges each against a document of the micro-world."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from gloss.lab import wording
from gloss.lab.world import LabDocument

if TYPE_CHECKING:
    from gloss.evaluate import Verdict

_QUOTED = re.compile(r"(?:ends with|last words|now reads): (.*)")
_WORD = re.compile(r"[A-Za-z]+")
ENDING = "ending"


@dataclass(frozen=True)
class Claim:
    """One claim: a value of a kind, at characters ``start`` … ``end`` of the explanation."""

    kind: str
    value: str
    start: int
    end: int


@cache
def _values() -> dict[str, tuple[str, ...]]:
    return {
        "topic": tuple(wording.TOPICS),
        "hero": tuple(wording.HEROES),
        "companion": wording.COMPANIONS,
        "place": wording.PLACES,
        "mood": tuple(wording.MOODS),
        "time": tuple(wording.TIMES),
        "weather": tuple(wording.WEATHERS),
        "object": wording.OBJECTS,
        "user": tuple(wording.USERS),
        "question": tuple(wording.QUESTIONS),
        "rhyme": tuple(wording.RHYMES.values()),
    }


@cache
def _kind_of() -> dict[str, tuple[str, str]]:
    return {value.lower(): (kind, value) for kind, values in _values().items() for value in values}


def kinds() -> tuple[str, ...]:
    """Every kind of fact, then ``ending``: the last words of the text, quoted."""
    return (*_values(), ENDING)


def values_of(kind: str) -> tuple[str, ...]:
    """The possible values of a kind of fact; no value belongs to two kinds."""
    return _values()[kind]


def parse_claims(explanation: str) -> tuple[Claim, ...]:
    """The claims of an explanation: value words, and what is quoted as the text's last words (the rest of a line after "ends with:" and the like)."""
    claims = [
        Claim(ENDING, match[1], match.start(1), match.end(1)) for match in _QUOTED.finditer(explanation) if match[1].strip()
    ]
    quoted = [(claim.start, claim.end) for claim in claims]
    for match in _WORD.finditer(explanation):
        if any(start <= match.start() < end for start, end in quoted):
            continue
        found = _kind_of().get(match[0].lower())
        if found is not None:
            claims.append(Claim(*found, match.start(), match.end()))
    return tuple(sorted(claims, key=lambda claim: claim.start))


def judge(claim: Claim, document: LabDocument, offset: int) -> Verdict:
    """Whether a claim is right or wrong for a reader of the first ``offset`` characters, or has nothing to be judged by."""
    if claim.kind == ENDING:
        return "right" if _ends_with(document.text[:offset], claim.value) else "wrong"
    known = document.known(offset)
    if claim.kind not in known:
        return "absent"
    return "right" if known[claim.kind] == claim.value else "wrong"


def _ends_with(text: str, quoted: str) -> bool:
    words = _words(text)
    last = _words(quoted)
    return bool(last) and words[-len(last) :] == last


def _words(text: str) -> Sequence[str]:
    return text.replace("<|im_start|>", " ").replace("<|im_end|>", " ").split()
