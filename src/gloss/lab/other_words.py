"""Says an explanation in other words of the micro-world: by its wordings, no model.

light      every second sentence that says a known fact, in the next of its wordings
heavy      every such sentence, in the wording after that, the sentences in another order
coherent   what says nothing or repeats a kind is left out
summary    the values alone, in one sentence"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from gloss.lab.statements import worded
from gloss.lab.truth import ENDING, NEXT, Claim, kinds, parse_claims, values
from gloss.lab.wording_label import HERO_BY_FORM, STATEMENTS, TOPIC_BY_FORM

_SENTENCE = re.compile(r'(?:"[^"\n]*"?|[^.\n"])+\.?')


def rewrites(explanation: str) -> Mapping[str, str]:
    """All of them by name."""
    sentences = [found for one in _SENTENCE.findall(explanation) if (found := one.strip())]
    light = [_reworded(one, 1) if i % 2 == 0 else one for i, one in enumerate(sentences)]
    heavy = [_reworded(one, 2) for one in sentences]
    half = len(heavy) // 2
    return {
        "light": "\n".join(light),
        "heavy": "\n".join([*heavy[half:], *heavy[:half]]),
        "coherent": "\n".join(_coherent(sentences)),
        "summary": _summary(parse_claims(explanation)),
    }


def _reworded(sentence: str, further: int) -> str:
    """The same fact in another wording, or the sentence as it is."""
    found = _wordings().get(sentence.rstrip("."))
    if found is None:
        return sentence
    kind, value, number = found
    wordings = STATEMENTS[kind]
    return worded(kind, value, wordings[(number + further) % len(wordings)])


@cache
def _wordings() -> dict[str, tuple[str, str, int]]:
    """Every sentence that says a fact: its kind, value and which wording it is."""
    found: dict[str, tuple[str, str, int]] = {}
    for kind in kinds():
        forms = {"topic": TOPIC_BY_FORM, "hero": HERO_BY_FORM}.get(kind, {})
        more = [wording for some in forms.values() for wording in some]
        for value in values(kind) if kind != ENDING else ():
            for number, wording in enumerate([*STATEMENTS[kind], *more]):
                found.setdefault(worded(kind, value, wording).rstrip("."), (kind, value, number))
    return found


def _coherent(sentences: list[str]) -> list[str]:
    told, kept = set[str](), []
    for sentence in sentences:
        of_sentence = {claim.kind for claim in parse_claims(sentence)}
        if of_sentence - told:
            kept.append(sentence)
            told |= of_sentence
    return kept


def _summary(claims: tuple[Claim, ...]) -> str:
    shown = [
        f'"... {claim.value}"' if claim.kind == ENDING else claim.value
        for claim in claims
        if claim.kind != NEXT
    ]
    return ", ".join(dict.fromkeys(shown)) + "." if shown else ""
