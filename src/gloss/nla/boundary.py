"""Options of questions as callers give them, whichever library's numbers they are: read as Python's
own or refused in one line."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from typing import Any

from gloss.errors import ConfigError
from gloss.foreign import shown, without_surrogates

_LARGEST = 2**63 - 1
MOST = 100_000
"""Samples, neighbours or words that one question may ask for."""


def whole(name: str, value: Any, *, least: int = 0, most: int = _LARGEST) -> int:
    """A whole number. Raises: ConfigError for any other value; True is none."""
    plain = _plain(value)
    try:
        if isinstance(plain, bool):
            raise TypeError
        number = operator.index(plain)
    except TypeError as error:
        raise ConfigError(name, expected="a whole number", found=shown(value)) from error
    if not least <= number <= most:
        expected = f"{least} or more" if number < least else f"at most {most}"
        raise ConfigError(name, expected=expected, found=shown(number))
    return number


def counts(*, least: int = 0, **values: Any) -> list[int]:
    """How many of several things, no more than somebody means.

    Raises: ConfigError that names the first that is none."""
    return [whole(name, value, least=least, most=MOST) for name, value in values.items()]


def seed_of(value: Any) -> int:
    """A seed. Raises: ConfigError."""
    return whole("seed", value, least=-_LARGEST)


def finite(name: str, value: Any, *, least: float = -math.inf) -> float:
    """A finite number. Raises: ConfigError for any other value."""
    plain = _plain(value)
    good = isinstance(plain, int | float) and not isinstance(plain, bool)
    if not good or not abs(plain) <= _LARGEST:  # NaN is not
        raise ConfigError(name, expected="a finite number", found=shown(value))
    if plain < least:
        raise ConfigError(name, expected=f"{least:g} or more", found=shown(value))
    return float(plain)


def finite_numbers(name: str, values: Any) -> list[float]:
    """One finite number or several. Raises: ConfigError."""
    plain = _plain(values)
    several = _items(plain)
    return [finite(name, one) for one in ([plain] if several is None else several)]


def one_of(name: str, value: Any, known: tuple[Any, ...]) -> Any:
    """One of the values that are known, of their very type. Raises: ConfigError."""
    plain = _plain(value)
    for one in known:
        if type(plain) is type(one) and plain == one:
            return one
    expected = " or ".join(str(one).lower() for one in known if one is not None)
    raise ConfigError(name, expected=expected, found=shown(value))


def text(name: str, value: Any) -> str:
    """A text, without half characters. Raises: ConfigError for what is none."""
    if not isinstance(value, str):
        raise ConfigError(name, expected="a text", found=shown(value))
    return without_surrogates(value)


def text_or_none(name: str, value: Any) -> str | None:
    """A text, or None. Raises: ConfigError."""
    return None if value is None else text(name, value)


def texts(name: str, values: Any) -> list[str]:
    """One text or several, as they are: what cannot be scored is refused, not mended.

    Raises: ConfigError that names the first that is none, or holds half a character.
    """
    if isinstance(values, str):
        values = [values]
    if (found := _items(values)) is None:
        raise ConfigError(f"{name}s", expected="a text, or several", found=shown(values))
    for place, one in enumerate(found):
        if not isinstance(one, str):
            what, kind = f"{name} {place} is not a text", type(one).__name__
            raise ConfigError(what, expected="str", found=kind)
        if one != without_surrogates(one):
            what, expected = f"{name} {place} holds half a character", "Unicode text"
            raise ConfigError(what, expected=expected, found=shown(one))
    return found


def pair(name: str, value: Any) -> tuple[str, str] | None:
    """Two texts, or None. Raises: ConfigError."""
    if value is None:
        return None
    found = [text(name, one) for one in _items(value) or ()]
    if len(found) != 2:
        raise ConfigError(name, expected="two texts, before and after", found=shown(value))
    return found[0], found[1]


def _items(value: Any) -> list[Any] | None:
    """What several things hold; None for what is one thing, as an array without dimensions is."""
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
        return None
    try:
        return list(value)
    except TypeError:
        return None


def _plain(value: Any) -> Any:
    return value.tolist() if callable(getattr(value, "tolist", None)) else value
