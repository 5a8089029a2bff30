"""An explanation cut into its claims: lines and sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator

_BULLET = re.compile(r"^\s*(?:[-*•·–—]+|\(?\d{1,2}[.)])\s+")
_QUOTES = {'"': '"', "“": "”", "«": "»"}


def split_claims(explanation: str) -> list[str]:
    """The lines of an explanation without bullets, cut at ; and after sentences, not in quotes."""
    lines = [_BULLET.sub("", line) for line in explanation.splitlines()]
    return [claim for line in lines for piece in _pieces(line) if (claim := piece.strip())]


def _pieces(line: str) -> Iterator[str]:
    """The line cut after ; and after . ! ? before white space, where no quotation is open."""
    start, closing = 0, ""
    for i, char in enumerate(line):
        if closing:
            closing = "" if char == closing else closing
        elif char in _QUOTES and _QUOTES[char] in line[i + 1 :]:
            closing = _QUOTES[char]
        elif char == ";" or (
            char in ".!?" and line[i + 1 : i + 2].isspace() and _ends_sentence(line[:i])
        ):
            yield line[start : i + (char != ";")]
            start = i + 1
    yield line[start:]


def _ends_sentence(before: str) -> bool:
    """Not after an initial, an abbreviation of one letter or a number: "J. Smith", "1. First"."""
    word = before.rsplit(None, 1)[-1] if before.strip() else ""
    return len(word) > 1 and not word.isdigit()
