"""The lab's label writer: like an LLM labeller it reads the text, not the activation, picks a few features, and sometimes errs."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from gloss.lab import wording
from gloss.lab.truth import values_of
from gloss.lab.world import LabDocument, document_by_id
from gloss.providers import LabelRequest

MIN_FEATURES, MAX_FEATURES = 2, 4
MIN_ENDING_WORDS, MAX_ENDING_WORDS = 2, 4


@lru_cache(maxsize=4096)
def _document(doc_id: str) -> LabDocument:
    return document_by_id(doc_id)


class LabLabeller:
    """A ``Labeller`` for lab documents.

    Two to four of the facts known at the position, each worded in one of several ways and wrong with probability ``error_rate``; last
    the final words. The same (seed, document, position) gives the same label.
    """

    name = "lab"
    needs_next_tokens = False

    def __init__(self, *, seed: int = 0, error_rate: float = 0.08) -> None:
        self.seed, self.error_rate = seed, error_rate

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the labels depend on."""
        return {"labeller": self.name, "seed": self.seed, "error_rate": self.error_rate}

    def label(self, requests: Sequence[LabelRequest]) -> list[str | None]:
        """One label per request."""
        return [self._label(request) for request in requests]

    def _label(self, request: LabelRequest) -> str:
        draw = random.Random(f"label {self.seed} {request.doc_id} {request.position}")
        document = _document(request.doc_id)
        return write_label(draw, document, request.text, error_rate=self.error_rate)


def write_label(draw: random.Random, document: LabDocument, text: str, *, error_rate: float) -> str:
    """A label for ``text``, the first characters of the document's rendered text."""
    known = sorted(document.known(len(text)).items())
    picked = draw.sample(known, min(len(known), draw.randint(MIN_FEATURES, MAX_FEATURES)))
    lines = []
    for kind, value in picked:
        if draw.random() < error_rate:
            value = draw.choice([other for other in values_of(kind) if other != value])
        lines.append(draw.choice(wording.FEATURES[kind]).format(value))
    if len(lines) < MIN_FEATURES:
        lines.insert(0, draw.choice(wording.GENRES[document.kind]))
    lines.append(draw.choice(wording.ENDINGS).format(last_words(text, draw.randint(MIN_ENDING_WORDS, MAX_ENDING_WORDS))))
    return "\n".join(lines)


def last_words(text: str, count: int) -> str:
    """The last ``count`` words of a text, without template tokens, on one line."""
    words = text.replace("<|im_start|>", " ").replace("<|im_end|>", " ").split()
    return " ".join(words[-count:])
