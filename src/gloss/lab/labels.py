"""The label writer: like an LLM labeller it knows the text up to a position, not the activation,
and sometimes errs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from random import Random
from typing import Any

from gloss.errors import LabelError
from gloss.lab.documents import LabDocument
from gloss.lab.statements import ending, next_class, statement
from gloss.lab.wording_facts import HELD, VALUES
from gloss.lab.world import document_by_id
from gloss.providers import LabelRequest

HELD_SHARE, DETAIL_SHARE = 0.85, 0.3
"""How often a known fact is told: of the held kinds, of all other things."""
QUOTED_WORDS = 1


def write_label(
    document: LabDocument, char_offset: int, *, seed: int, position: int, error_rate: float
) -> str:
    """What is known, one fact a line in the order of their kinds, then what comes next and the end
    of the text; the same for the same arguments.

    Of every kind its share is told; a fact is wrong with ``error_rate``."""
    rng = Random(f"label {seed} {document.doc_id} {position}")
    known, lines = document.known(char_offset), []
    for kind, values in VALUES.items():
        if kind in known and rng.random() < (HELD_SHARE if kind in HELD else DETAIL_SHARE):
            wrong = rng.random() < error_rate
            value = rng.choice([v for v in values if v != known[kind]]) if wrong else known[kind]
            lines.append(statement(kind, value, document.kind, rng))
    follows = next_class(document, char_offset)
    if follows and rng.random() < DETAIL_SHARE:
        lines.append(statement("next", follows, document.kind, rng))
    return "\n".join([*lines, ending(document, char_offset, rng, max_words=QUOTED_WORDS)])


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
