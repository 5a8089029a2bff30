"""Which tokens of a text are meant: an index, several, ``all``, or ``3,7-9``; or a selection by
their content."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Mapping
from typing import Any, SupportsIndex

from gloss.errors import PositionError
from gloss.foreign import shown

SELECTIONS = "all, last, every:N or regex:PATTERN"
_EXPECTED = "-1, all, or 3,7-9"
_NUMBER = "[0-9]{1,18}"
_ONE = rf"\s*(?:{_NUMBER}-{_NUMBER}|-?{_NUMBER})\s*"
_POSITIONS = re.compile(rf"{_ONE}(?:,{_ONE})*")
_EVERY = re.compile(r"every:0*[1-9][0-9]{0,17}")


def parse_positions(
    positions: str | int | slice | Iterable[SupportsIndex], num_tokens: int
) -> list[int]:
    """Non-negative positions, in the order given, each once; negative ones count from the end.

    Numbers and arrays of numpy and torch are taken as what they are; a slice as Python takes it.
    Raises: PositionError for one that the text does not have, or what cannot be read."""
    wanted = plain_positions(positions)
    if isinstance(wanted, str):
        wanted = _parse(wanted, num_tokens)
    elif isinstance(wanted, slice):
        wanted = list(range(num_tokens)[wanted])
    elif isinstance(wanted, int):
        wanted = [wanted]
    if not wanted:
        raise PositionError("no position given", expected=_EXPECTED, found=shown(positions))
    return list(dict.fromkeys(_checked(position, num_tokens) for position in wanted))


def plain_positions(positions: Any) -> str | int | slice | list[int]:
    """Positions as Python's own values, whichever library's numbers they are.

    Raises: PositionError for what is no position: True, 1.5, None, a mapping."""
    if isinstance(positions, str):
        return positions
    if isinstance(positions, slice):
        parts = (positions.start, positions.stop, positions.step)
        start, stop, step = (one if one is None else whole_position(one) for one in parts)
        if step == 0:
            raise PositionError("a slice without a step", expected=_EXPECTED, found=positions)
        return slice(start, stop, step)
    found = positions.tolist() if callable(getattr(positions, "tolist", None)) else positions
    if isinstance(found, Iterable) and not isinstance(found, str | bytes | bytearray | Mapping):
        return [whole_position(one) for one in found]
    return whole_position(found)


def whole_position(value: Any) -> int:
    """A whole number of any library; True is none. Raises: PositionError."""
    value = value.tolist() if callable(getattr(value, "tolist", None)) else value
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError as error:
        what, expected = "no position", "whole numbers, or text like 3,7-9"
        raise PositionError(what, expected=expected, found=shown(value)) from error


def check_positions(text: str) -> None:
    """Raises PositionError for a specification that no text could meet."""
    if text.strip() != "all" and not _POSITIONS.fullmatch(text):
        raise PositionError("cannot read positions", expected=_EXPECTED, found=shown(text))


def _checked(position: int, num_tokens: int) -> int:
    if not -num_tokens <= position < num_tokens:
        expected = f"a position from {-num_tokens} to {num_tokens - 1}"
        raise PositionError("no such token", expected=expected, found=position)
    return position % num_tokens


def check_selection(selection: str) -> None:
    """Raises PositionError for a selection that ``choose_tokens`` does not know."""
    kind, _, argument = selection.partition(":")
    every = _EVERY.fullmatch(selection)
    if not (selection in ("all", "last") or every or (kind == "regex" and argument)):
        what = "cannot read the selection of tokens"
        raise PositionError(what, expected=SELECTIONS, found=shown(selection))


def _parse(text: str, num_tokens: int) -> list[int]:
    check_positions(text)
    if text.strip() == "all":
        return list(range(num_tokens))
    positions: list[int] = []
    for part in text.split(","):
        if match := re.fullmatch(r"\s*(\d+)-(\d+)\s*", part):
            first, last = int(match[1]), _checked(int(match[2]), num_tokens)
            if first > last:
                raise PositionError(
                    "a range that runs backwards", expected=f"{last}-{first}", found=part.strip()
                )
            positions += range(first, last + 1)
        else:
            positions.append(int(part))
    return positions
