"""The text between the explanation tags of a response, as a typed result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OPEN_TAG, CLOSE_TAG = "<explanation>", "</explanation>"


@dataclass(frozen=True)
class Explanation:
    """An extracted explanation, without surrounding white space and never empty."""

    text: str


@dataclass(frozen=True)
class ExtractionFailed:
    """Why a response holds no explanation."""

    reason: Literal["no_open_tag", "no_close_tag", "empty"]
    response: str


def extract_explanation(response: str) -> Explanation | ExtractionFailed:
    """The text between the first opening tag and the next closing one; never white space alone."""
    _, opened, rest = response.partition(OPEN_TAG)
    inner, closed, _ = rest.partition(CLOSE_TAG)
    if not closed:
        return ExtractionFailed("no_close_tag" if opened else "no_open_tag", response)
    text = inner.strip()
    return Explanation(text) if text else ExtractionFailed("empty", response)


def wrap_explanation(text: str) -> str:
    """A training response: the text between tags, each on its own line."""
    return f"{OPEN_TAG}\n{text}\n{CLOSE_TAG}"
