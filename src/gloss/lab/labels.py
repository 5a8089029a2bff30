"""The label writer: like an LLM labeller it knows the text up to a position, not the activation,
and sometimes errs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from random import Random
from typing import Any

from gloss.errors import LabelError
from gloss.lab.documents import LabDocument
from gloss.lab.statements import features
from gloss.lab.world import document_by_id
from gloss.providers import LabelRequest


def write_label(
    document: LabDocument, char_offset: int, *, seed: int, position: int, error_rate: float
) -> str:
    """Three to five facts, one a line in the order of their kinds, the last line about the end of
    the text; the same for the same arguments."""
    rng = Random(f"label {seed} {document.doc_id} {position}")
    return features(document, char_offset, rng, error_rate, facts=(3, 5), in_order=True)


class LabLabeller:
    """Labels of lab documents, looked up by their ids."""

    name = "lab"
    needs_next_tokens = False

    def __init__(self, seed: int = 0, error_rate: float = 0.08) -> None:
        if not 0 <= error_rate <= 1:
            raise LabelError(
                "error_rate of the lab's labeller is no share", expected="0 to 1", found=error_rate
            )
        self.seed, self.error_rate = seed, error_rate

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the labels depend on besides the text."""
        return {"seed": self.seed, "error_rate": self.error_rate}

    def label(self, requests: Sequence[LabelRequest]) -> list[str | None]:
        """One label per request.

        Raises: LabelError if a request is not about a document of the lab.
        """
        return [
            write_label(
                _document(request.doc_id),
                len(request.text),
                seed=self.seed,
                position=request.position,
                error_rate=self.error_rate,
            )
            for request in requests
        ]


@lru_cache(maxsize=4096)
def _document(doc_id: str) -> LabDocument:
    return document_by_id(doc_id)
