"""Embeddings as servers take them: JSON text, or a saved tensor in base64. Only the injected row is made anew."""

from __future__ import annotations

import base64
import io

import torch
from torch import Tensor

from gloss.models import PromptEmbedder

_DIGITS = {torch.float32: 9, torch.float16: 5, torch.bfloat16: 4}
"""Significant decimal digits from which every value of a dtype is read back exactly."""


class JSONPrompt:
    """The prompt's embeddings as a JSON list of rows; the text before and after the marker's row is written once."""

    def __init__(self, embedder: PromptEmbedder) -> None:
        site, rows = embedder.site, [_json_row(row) for row in embedder.prompt]
        self._before = b"[" + b"".join(row + b"," for row in rows[:site])
        self._after = b"".join(b"," + row for row in rows[site + 1 :]) + b"]"

    def encode(self, injected_row: Tensor) -> bytes:
        """The text for one injected row [d_model]; its values, read as JSON, are exactly those of the row."""
        return b"".join((self._before, _json_row(injected_row), self._after))


def _json_row(row: Tensor) -> bytes:
    number = f"%.{_DIGITS[row.dtype]}g,"
    text = (number * len(row)) % tuple(row.tolist())
    return b"[" + text[:-1].replace("e-0", "e-").replace("e+0", "e").encode() + b"]"


class SavedPrompt:
    """The prompt's embeddings as base64 of a tensor [T, d_model] written by ``torch.save``."""

    def __init__(self, embedder: PromptEmbedder) -> None:
        self._prompt, self._site = embedder.prompt, embedder.site

    def encode(self, injected_row: Tensor) -> bytes:
        """The base64 text for one injected row [d_model]."""
        prompt = self._prompt.clone()
        prompt[self._site] = injected_row
        buffer = io.BytesIO()
        torch.save(prompt, buffer)
        return base64.b64encode(buffer.getbuffer())
