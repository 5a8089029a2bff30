"""The fuzzer's doors open here a few times each, so that ``make fuzz`` is known to reach them."""

import random

import pytest
from fuzz_boundaries import LINE_CHARS, doors

from gloss.errors import GlossError

KNOCKS = 60
NEVER_REFUSE = ("JSON values", "command line")


@pytest.mark.parametrize("door", doors(), ids=lambda door: door.name)
@pytest.mark.invariant("edges-5")
def test_what_comes_to_a_door_is_answered_or_refused_in_one_line(door, tmp_path):
    lines = []
    for seed in range(KNOCKS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        try:
            door.knock(folder, random.Random(seed))
        except GlossError as error:
            lines.append(str(error))
    assert len(lines) < KNOCKS
    assert lines or door.name in NEVER_REFUSE
    assert all("\n" not in line and len(line) < LINE_CHARS for line in lines)
