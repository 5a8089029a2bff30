"""Judges explanations of lab activations: the micro-world's truth behind the evaluation's
``ClaimJudge``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from gloss.lab.other_words import rewrites
from gloss.lab.rhyme_steering import RhymeSteering
from gloss.lab.statements import next_class
from gloss.lab.truth import NEXT, judge, parse_claims
from gloss.lab.wording_facts import HELD, PRIVILEGED, VALUES
from gloss.lab.world import LabDocument, document_by_id
from gloss.plugins import FactKinds, JudgedClaim


@lru_cache(maxsize=20_000)
def _document(doc_id: str) -> LabDocument:
    return document_by_id(doc_id)


class LabJudge:
    """Known truth about lab documents, looked up by their ids."""

    fact_kinds = FactKinds(
        held=frozenset(HELD),
        text_only=frozenset(VALUES) - frozenset(HELD),
        privileged=frozenset(PRIVILEGED),
    )
    steering = RhymeSteering()

    def rewrites(self, explanation: str) -> Mapping[str, str]:
        """The explanation in other words, by the name of the rewrite."""
        return rewrites(explanation)

    def judge(self, explanation: str, doc_id: str, context: str) -> Sequence[JudgedClaim]:
        """Every claim of the explanation, judged by what holds after ``context``."""
        document = _document(doc_id)
        return [
            JudgedClaim(c.kind, c.value, c.start, c.end, judge(c, document, len(context)))
            for c in parse_claims(explanation)
        ]

    def known(self, doc_id: str, context: str) -> Mapping[str, str]:
        """The facts that hold after ``context``, and the class of the word that truly comes next:
        kind → value."""
        document = _document(doc_id)
        follows = next_class(document, len(context))
        return document.known(len(context)) | ({NEXT: follows} if follows else {})
