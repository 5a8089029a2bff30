"""Cases of steering in the lab: a couplet's planned rhyme at its line break.

text       couplets up to the line break behind a first line; the rhyme is settled, not yet written
partner    the same couplets, the first line with the word that calls for the intended rhyme
acts       the second line's last word, in whatever form it is written"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from random import Random

from gloss.lab.documents import LabDocument, render
from gloss.lab.truth import parse_claims, values
from gloss.lab.wording_facts import RHYMES
from gloss.lab.world import generate_documents
from gloss.plugins import SteeringCase

FIRST_SEED = 900_001
"""Documents of seeds from here on are nowhere trained on: runs take theirs from their own."""
MOST_SEARCHED = 100
"""Documents that are looked through for one case: every fifth holds couplets."""
_LINE = re.compile(r"\s*(?P<line>[^.\n]*)")
_CALLS_FOR = {b: (before, a) for a, (before, _, _, b) in RHYMES.items()}


class RhymeSteering:
    """The lab's ``SteeringBench``."""

    def cases(self, count: int, seed: int) -> list[SteeringCase]:
        """One case of each of ``count`` documents with couplets."""
        documents = generate_documents(count * MOST_SEARCHED, FIRST_SEED + seed)
        return list(islice(_cases(documents), count))

    def edited(self, explanation: str, kind: str, value: str) -> str | None:
        """The explanation with ``value`` where it names a value of ``kind``; None if it does
        not."""
        found = [claim for claim in parse_claims(explanation) if claim.kind == kind]
        if not found:
            return None
        for claim in reversed(found):
            explanation = explanation[: claim.start] + value + explanation[claim.end :]
        return explanation

    def shown(self, kind: str, continuation: str) -> str | None:
        """The rhyme that the next line ends on."""
        match = _LINE.match(continuation)
        words = match["line"].split() if match else []
        return words[-1] if words and words[-1] in values(kind) else None


def _cases(documents: Iterator[LabDocument]) -> Iterator[SteeringCase]:
    for document in documents:
        rhymes = [fact for fact in document.facts if fact.kind == "rhyme"]
        heroes = [fact for fact in document.facts if fact.kind == "hero"]
        if document.kind != "couplet" or not rhymes or not heroes:
            continue
        rng = Random(f"steering {document.doc_id}")
        fact, text = rng.choice(rhymes), render(document)
        others = sorted(set(_CALLS_FOR) - {one.value for one in rhymes})
        intended = rng.choice(others)
        hero = rng.choice(sorted(set(values("hero")) - {heroes[0].value}))
        begun = text[: fact.start]
        called = " ".join(_CALLS_FOR[fact.value])
        assert begun.endswith(called), "a first line ends on the word that calls for the rhyme"
        yield SteeringCase(
            text=text[: fact.start + len(",\n")],
            partner=begun.removesuffix(called) + " ".join(_CALLS_FOR[intended]) + ",\n",
            kind="rhyme",
            value=fact.value,
            intended=intended,
            unrelated=("hero", heroes[0].value, hero),
        )
