"""Searches explanations that a request brings along; no pattern, however written, keeps the server
busy.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import regex

from gloss.errors import ConfigError
from gloss.serve import v1_checking_models as m

TIME_S = 2.0


def search_texts(body: m.SearchIn) -> m.SearchOut:
    """The texts that hold a match and where, at most ``limit`` of them.

    Raises: ConfigError for a pattern that cannot be read, or that takes too long.
    """
    try:
        pattern = regex.compile(
            regex.escape(body.query) if body.fixed else body.query,
            0 if body.case_sensitive else regex.IGNORECASE,
        )
    except (regex.error, RecursionError, OverflowError) as error:
        raise ConfigError(
            "cannot read the query as a regular expression",
            found=f"{body.query!r} ({error})",
            remedy="Search for the words themselves with fixed",
        ) from error
    try:
        hits = _hits(pattern, body.texts)
    except TimeoutError as error:
        raise ConfigError(
            "this pattern takes too long",
            expected=f"at most {TIME_S:g} s",
            remedy="Write a simpler one",
        ) from error
    return m.SearchOut(hits=hits[: body.limit], num_found=len(hits))


def _hits(pattern: regex.Pattern[str], texts: Sequence[str | None]) -> list[m.Hit]:
    deadline = time.monotonic() + TIME_S
    hits = []
    for index, text in enumerate(texts):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        found = pattern.finditer(text or "", timeout=left, concurrent=True)
        spans = [match.span() for match in found if match.end() > match.start()]
        if spans:
            hits.append(m.Hit(index=index, spans=spans))
    return hits
