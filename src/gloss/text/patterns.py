"""Regular expressions of a user's: searched in bounded time, which Python's own cannot be."""

from __future__ import annotations

import time
from collections.abc import Iterable

import regex

from gloss.errors import GlossError, first_line

MATCHING_S = 2.0
"""How long a pattern may take on the texts of one call."""


class Pattern:
    """A regular expression; with ``fixed`` the words themselves.

    Raises: the ``error`` that is given, for what is no expression and for one that takes too long.
    """

    def __init__(
        self,
        pattern: str,
        error: type[GlossError],
        *,
        fixed: bool = False,
        any_case: bool = False,
        remedy: str = "Write a simpler one",
    ) -> None:
        self._error, self._written, self._remedy = error, pattern, remedy
        flags = regex.IGNORECASE if any_case else 0
        try:
            self._compiled = regex.compile(regex.escape(pattern) if fixed else pattern, flags)
        except (regex.error, RecursionError, OverflowError, ValueError) as wrong:
            what, expected = "cannot read the pattern", "a regular expression"
            found = f"{pattern[:80]!r} ({first_line(wrong)})"
            raise error(what, expected=expected, found=found, remedy=remedy) from wrong

    def spans(self, texts: Iterable[str]) -> list[list[tuple[int, int]]]:
        """Of each text where the pattern matches at least one character."""
        found, deadline = [], time.monotonic() + MATCHING_S
        for text in texts:
            left = max(1e-6, deadline - time.monotonic())
            try:
                matches = list(self._compiled.finditer(text, timeout=left, concurrent=True))
            except TimeoutError as late:
                what, expected = "this pattern takes too long", f"at most {MATCHING_S:g} s"
                shown, remedy = repr(self._written[:80]), self._remedy
                raise self._error(what, expected=expected, found=shown, remedy=remedy) from late
            found.append([match.span() for match in matches if match.group()])
        return found
