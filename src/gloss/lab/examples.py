"""Texts of the laboratory that nothing was trained on, with their truth, for whoever reads an NLA
of its target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from gloss.lab.documents import render
from gloss.lab.judge import LabJudge
from gloss.lab.tokenizer import build_tokenizer
from gloss.lab.world import document_by_id
from gloss.plugins import JudgedClaim

SEED, COUNT = 7, 12
"""Documents of another seed than any training run's."""


class LabExamples:
    """A few lab texts for NLAs whose target has the lab's tokenizer, and the truth of what is said
    of them."""

    def texts(self, nla: Any) -> Mapping[str, str]:
        """Texts by document id; none for an NLA of another target."""
        own: dict[str, int] = build_tokenizer().get_vocab()
        vocabulary = nla.target.tokenizer.get_vocab()
        return (
            _texts() if all(vocabulary.get(token) == index for token, index in own.items()) else {}
        )

    def verdicts(self, text: str, end: int, explanation: str) -> Sequence[JudgedClaim] | None:
        """Every claim of an explanation of the token that ends at character ``end``, judged; None
        for another text."""
        doc_id = next((known for known, whole in _texts().items() if whole == text), None)
        return None if doc_id is None else LabJudge().judge(explanation, doc_id, text[:end])


@cache
def _texts() -> Mapping[str, str]:
    return {
        doc_id: render(document_by_id(doc_id))
        for doc_id in (f"lab-{SEED}-{i:06d}" for i in range(COUNT))
    }
