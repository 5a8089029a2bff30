"""What ``inspect`` prints of values that training noted."""

import pytest

from gloss.release.summary import _recorded


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ([3.0, 4.0] + [0.0] * 3582, "3584 values, norm 5"),
        ([1, 2], "[1, 2]"),
        ({"p50": 23.456789, "max": 31}, "p50 23.46, max 31"),
        (0.962731, "0.9627"),
        ("a name", "a name"),
    ],
)
def test_vectors_are_named_and_numbers_are_short(value, shown):
    assert _recorded(value) == shown
