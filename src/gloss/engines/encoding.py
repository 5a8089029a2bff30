"""Embeddings as servers take them: JSON text, or a saved tensor in base64. Only the injected row is
made anew.
"""

from __future__ import annotations

import base64
import io
import re
import zlib

import torch
from torch import Tensor

from gloss.models import PromptEmbedder

_DIGITS = {torch.float32: 9, torch.float16: 5, torch.bfloat16: 4}
"""Significant decimal digits from which every value of a dtype is read back exactly."""


class JSONPrompt:
    """The prompt's embeddings as a JSON list of rows; the text before and after the marker's row is
    written once.
    """

    def __init__(self, embedder: PromptEmbedder) -> None:
        site, rows = embedder.site, [_json_row(row) for row in embedder.prompt]
        self._before = b"[" + b"".join(row + b"," for row in rows[:site])
        self._after = b"".join(b"," + row for row in rows[site + 1 :]) + b"]"

    def encode(self, injected_row: Tensor) -> bytes:
        """The text for one injected row [d_model]; its values, read as JSON, are exactly those of
        the row.
        """
        return b"".join((self._before, _json_row(injected_row), self._after))


def _json_row(row: Tensor) -> bytes:
    number = f"%.{_DIGITS[row.dtype]}g,"
    text = (number * len(row)) % tuple(row.tolist())
    return b"[" + text[:-1].replace("e-0", "e-").replace("e+0", "e").encode() + b"]"


class SavedPrompt:
    """The prompt's embeddings as base64 of a tensor [T, d_model] as ``torch.save`` writes it: a zip
    archive.

    The archive is made once. For each activation its row is put in and the record's checksum, which
    the archive holds behind the record and in its table of contents, is brought up to date; what
    stands before the row is encoded once."""

    def __init__(self, embedder: PromptEmbedder) -> None:
        buffer = io.BytesIO()
        torch.save(embedder.prompt.clone(), buffer)
        archive, data = buffer.getvalue(), _bytes_of(embedder.prompt)
        start, width = archive.index(data), len(data) // len(embedder.prompt)
        row = start + embedder.site * width
        sums = _places_of(
            zlib.crc32(data).to_bytes(4, "little"), archive, skip=range(start, start + len(data))
        )
        changed = min(row, *sums) // 3 * 3
        self._encoded, self._rest = base64.b64encode(archive[:changed]), archive[changed:]
        self._row, self._sums = row - changed, [place - changed for place in sums]
        self._sum_before, self._after = (
            zlib.crc32(archive[start:row]),
            archive[row + width : start + len(data)],
        )

    def encode(self, injected_row: Tensor) -> bytes:
        """The base64 text for one injected row [d_model]."""
        row, rest = _bytes_of(injected_row), bytearray(self._rest)
        rest[self._row : self._row + len(row)] = row
        checksum = zlib.crc32(self._after, zlib.crc32(row, self._sum_before)).to_bytes(4, "little")
        for place in self._sums:
            rest[place : place + 4] = checksum
        return self._encoded + base64.b64encode(rest)


def _bytes_of(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def _places_of(found: bytes, archive: bytes, *, skip: range) -> list[int]:
    """Where ``found`` stands in the archive, outside ``skip``."""
    places = [match.start() for match in re.finditer(re.escape(found), archive)]
    outside = [place for place in places if place not in skip]
    assert outside, "torch.save writes a checksum"
    return outside
