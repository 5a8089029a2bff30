"""Text and values from elsewhere, made safe once: for terminals and pages, for UTF-8, for JSON.

Everything that Gloss writes as JSON goes through ``json_text``, everything that it shows of others
through ``printable``."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import PurePath
from typing import Any

_REPLACEMENT = "\ufffd"
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_ASCII = re.compile("[^\0-~]")
_DIRECTION_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def without_surrogates(text: str) -> str:
    """The text with lone surrogates (halves of an emoji, bytes of a name that is no UTF-8), which
    no tokenizer or file takes, replaced by U+FFFD."""
    return _LONE_SURROGATE.sub(_REPLACEMENT, text)


def printable(text: str) -> str:
    """A text without what a terminal obeys or what turns text around; breaks and tabs stay."""
    return "".join(_REPLACEMENT if _unsafe(character) else character for character in text)


def shown(value: Any, most: int = 80) -> str:
    """The beginning of a foreign value as Python writes it; its type where that fails (a number
    of many thousand digits, an object whose own ``repr`` raises)."""
    try:
        text = repr(value)
    except Exception:
        return f"a value of type {type(value).__name__} that cannot be shown"
    return text if len(text) <= most else f"{text[:most]}…"


def _unsafe(character: str) -> bool:
    if character in "\n\t":
        return False
    return character in _DIRECTION_CONTROLS or unicodedata.category(character) in {"Cc", "Cs"}


def json_text(
    value: Any,
    *,
    indent: int | None = None,
    sort_keys: bool = False,
    only_ascii: bool = False,
    compact: bool = False,
    keep_surrogates: bool = False,
    default: Callable[[Any], Any] | None = None,
) -> str:
    """JSON that every reader takes: null where a number is NaN or infinite, U+FFFD for a lone
    surrogate (its escape with ``keep_surrogates``), numbers of numpy and torch as
    numbers, a path as its text.

    Raises: TypeError for any other kind of value, unless ``default`` makes one of these of it."""
    write = partial(
        json.dumps,
        indent=indent,
        sort_keys=sort_keys,
        ensure_ascii=False,
        separators=(",", ":") if compact else None,
        allow_nan=False,
    )
    try:
        text = write(value)
    except (TypeError, ValueError):
        text = write(_plain(value, default))
    if keep_surrogates:
        text = _LONE_SURROGATE.sub(_escape, text)
    text = without_surrogates(text)
    return _NOT_ASCII.sub(_escape, text) if only_ascii else text


def _escape(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]


def _plain(value: Any, default: Callable[[Any], Any] | None) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_key(key): _plain(item, default) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, default) for item in value]
    if isinstance(value, PurePath):
        return str(value)
    if callable(getattr(value, "tolist", None)):  # scalars and arrays of numpy and torch
        return _plain(value.tolist(), default)
    if default is not None:
        return _plain(default(value), None)
    raise TypeError(f"no JSON value: {type(value).__name__}")


def _key(key: Any) -> Any:
    return str(key) if isinstance(key, float | PurePath) else key
