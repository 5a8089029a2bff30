"""The text between the explanation tags of a response, as a typed result."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

OPEN_TAG, CLOSE_TAG = "<explanation>", "</explanation>"
_PATTERN = re.compile(re.escape(OPEN_TAG) + r"(.*?)" + re.escape(CLOSE_TAG), re.DOTALL)

FailureReason = Literal["no_open_tag", "no_close_tag", "empty"]


@dataclass(frozen=True)
class Explanation:
    """An extracted explanation, without surrounding white space and never empty."""

    text: str


@dataclass(frozen=True)
class ExtractionFailed:
    """Why a response holds no explanation."""

    reason: FailureReason
    response: str


def extract_explanation(response: str) -> Explanation | ExtractionFailed:
    """The text between the first opening tag that is closed and its closing tag.

    An explanation of white space only is a failure: it carries no information and must not be rewarded.
    """
    match = _PATTERN.search(response)
    if match is None:
        return ExtractionFailed("no_close_tag" if OPEN_TAG in response else "no_open_tag", response)
    text = match[1].strip()
    return Explanation(text) if text else ExtractionFailed("empty", response)


def wrap_explanation(text: str) -> str:
    """A training response: the text between tags, each on its own line."""
    return f"{OPEN_TAG}\n{text}\n{CLOSE_TAG}"
