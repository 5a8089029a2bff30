"""Which tokens of a text are meant: an index, several, ``all``, or ``3,7-9``; or a selection by
their content."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gloss.errors import PositionError

SELECTIONS = "all, last, every:N or regex:PATTERN"
_EXPECTED = "-1, all, or 3,7-9"
_ONE = r"\s*(?:\d+-\d+|-?\d+)\s*"
_POSITIONS = re.compile(rf"{_ONE}(?:,{_ONE})*")


def parse_positions(positions: str | int | Sequence[int], num_tokens: int) -> list[int]:
    """Non-negative positions, in the order given, each once; negative ones count from the end.

    Raises: PositionError for one that the text does not have, or what cannot be read."""
    if isinstance(positions, str):
        wanted = _parse(positions, num_tokens)
    else:
        wanted = [positions] if isinstance(positions, int) else list(positions)
    if not wanted:
        raise PositionError("no position given", expected=_EXPECTED, found=repr(positions))
    return list(dict.fromkeys(_checked(position, num_tokens) for position in wanted))


def check_positions(text: str) -> None:
    """Raises PositionError for a specification that no text could meet."""
    if text.strip() != "all" and not _POSITIONS.fullmatch(text):
        raise PositionError("cannot read positions", expected=_EXPECTED, found=repr(text))


def _checked(position: int, num_tokens: int) -> int:
    if not -num_tokens <= position < num_tokens:
        expected = f"a position from {-num_tokens} to {num_tokens - 1}"
        raise PositionError("no such token", expected=expected, found=position)
    return position % num_tokens


def check_selection(selection: str) -> None:
    """Raises PositionError for a selection that ``choose_tokens`` does not know."""
    kind, _, argument = selection.partition(":")
    every = kind == "every" and argument.isdigit() and int(argument) > 0
    if not (selection in ("all", "last") or every or (kind == "regex" and argument)):
        raise PositionError(
            "cannot read the selection of tokens", expected=SELECTIONS, found=repr(selection)
        )


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
