"""Numbers and foreign text as they are shown: one way of writing each, in terminals and on pages.

The page's own scripts write numbers by the same rules (``explorer/static/js/numbers.js``)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gloss.foreign import printable as printable

NOT_MEASURED = "—"


def finite(value: Any) -> float | None:
    """The value as a float, or None where it is missing, not a number or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond any float
        return None


def interval_of(value: Any) -> tuple[float, float] | None:
    """The two ends of an interval as JSON holds it; None where it is missing or no such."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    low, high = map(finite, value)
    return None if low is None or high is None else (low, high)


def decimal(value: Any, digits: int = 2) -> str:
    """A number with a true minus sign, or a dash where there is none."""
    number = finite(value)
    if number is None:
        return NOT_MEASURED
    text = f"{number:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def signed(value: Any, digits: int = 2) -> str:
    """A difference with its sign, also where it is positive."""
    text = decimal(value, digits)
    return f"+{text}" if text.strip("0.") and text[0] not in f"−{NOT_MEASURED}" else text


def percent(value: Any) -> str:
    """A share as a percentage: whole from 2 %, one decimal below that, two below 1 %."""
    number = finite(value)
    if number is None:
        return NOT_MEASURED
    scaled = 100 * number
    digits = 0 if abs(scaled) >= 1.95 or scaled == 0 else 1 if abs(scaled) >= 0.995 else 2
    return f"{decimal(scaled, digits)}\u00a0%"


def count(value: Any) -> str:
    """A whole number with thin spaces between thousands."""
    number = finite(value)
    if number is None:
        return NOT_MEASURED
    return f"{round(number):,}".replace(",", "\u202f").replace("-", "−")


def duration(seconds: Any) -> str:
    """Seconds as hours, minutes and seconds, the two largest units."""
    number = finite(seconds)
    if number is None:
        return NOT_MEASURED
    if number < 10:
        return f"{number:.1f} s"
    minutes, rest = divmod(round(number), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def listed(names: list[str]) -> str:
    """Names in a sentence: ``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def cleaned(value: Any) -> Any:
    """The same JSON value with control characters, lone surrogates and text-direction overrides
    replaced one for one.

    Offsets into a text stay valid, terminals see no escape sequence and every text can be written
    as UTF-8."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {cleaned(str(key)): cleaned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(item) for item in value]
    return value


def visible_token(token: str) -> str:
    """A token with line breaks and tabs made visible; a token of spaces alone shows them too."""
    shown = token.replace("\n", "⏎").replace("\t", "⇥")
    return shown if shown.strip(" ") else shown.replace(" ", "·")
