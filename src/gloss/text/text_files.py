"""Reads texts of the user's from files and streams that may be no texts, or have no end."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from gloss.errors import CorpusError, GlossError, first_line

LARGEST_TEXT = 256 * 2**20
"""Bytes: more than any text or chat that somebody reads with an NLA."""


def read_text_file(path: Path, error: type[GlossError] = CorpusError) -> str:
    """The text of a UTF-8 file, without its BOM. Raises: ``error``."""
    try:
        with path.open("rb") as file:
            return text_of(file, where=path, error=error)
    except OSError as wrong:
        raise error(f"cannot be read ({wrong.strerror})", where=path) from wrong


def text_of(stream: BinaryIO, *, where: object, error: type[GlossError]) -> str:
    """The text of a stream of UTF-8, without its BOM. Raises: ``error`` if it is none or has no
    end."""
    if len(data := stream.read(LARGEST_TEXT + 1)) > LARGEST_TEXT:
        expected = f"at most {LARGEST_TEXT >> 20} MB"
        raise error("too much to be a text", where=where, expected=expected)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        found = first_line(wrong)
        raise error("not a text", where=where, expected="UTF-8", found=found) from wrong
