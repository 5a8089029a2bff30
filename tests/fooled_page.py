"""The lab examples of docs/how_to_be_fooled.md: every block that names one, and what to hold it
to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from docs_examples import examples

from examples.how_to_be_fooled.lab_rows import as_lines

PAGE = Path(__file__).resolve().parents[1] / "docs" / "how_to_be_fooled.md"
NUMBER = re.compile(r"−?\d+\.\d+(?: %)?|\d+ %")


def blocks(page: Path = PAGE) -> dict[str, list[str]]:
    """The lines of every block that a comment names."""
    named = [one for one in examples(page) if one.note.startswith("lab: ")]
    found = {one.note.removeprefix("lab: "): one.content.splitlines() for one in named}
    assert len(found) == len(named), "a name comes twice"
    return found


def hold(
    shown: list[str], found: Mapping[str, float | int | str], *, within: float, counts: int = 0
) -> None:
    """Names, texts and order are those computed; numbers within a distance, counts in theirs.

    Raises: AssertionError that shows both lines."""
    computed = as_lines(found)
    assert len(shown) == len(computed), "\n".join(["another number of lines:", *computed])
    for line, right, (name, value) in zip(shown, computed, found.items(), strict=True):
        said = line.removeprefix(name).strip()
        assert line.startswith(f"{name} "), f"{line!r} should be {right!r}"
        if isinstance(value, str):
            assert said == value, f"{line!r} should be {right!r}"
        else:
            room = counts if isinstance(value, int) else within
            assert abs(float(said.replace("−", "-")) - value) <= room, f"{line!r}: {right!r}"


def sections(page: Path = PAGE) -> dict[str, tuple[str, str]]:
    """The prose and the blocks of every part, by its title."""
    parts = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    fence = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    return {
        part.partition("\n")[0]: (fence.sub("", part), "\n".join(fence.findall(part)))
        for part in parts
    }
