"""Numbers and foreign text as they are shown."""

from __future__ import annotations

import pytest

from gloss.formatting import (
    cleaned,
    count,
    decimal,
    duration,
    interval_of,
    listed,
    percent,
    signed,
    visible_token,
)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (decimal(-0.004), "0.00"),
        (decimal(-0.187, 3), "−0.187"),
        (decimal(float("nan")), "—"),
        (decimal(True), "—"),
        (decimal(10**400), "—"),
        (signed(0.3), "+0.30"),
        (signed(-0.3), "−0.30"),
        (signed(0.001), "0.00"),
        (signed(None), "—"),
        (percent(0.0041), "0.41\u00a0%"),
        (percent(0.014), "1.4\u00a0%"),
        (percent(0.58), "58\u00a0%"),
        (percent(0), "0\u00a0%"),
        (percent(None), "—"),
        (count(12345), "12\u202f345"),
        (duration(4.04), "4.0 s"),
        (duration(59.7), "1 min 0 s"),
        (duration(276.4), "4 min 36 s"),
        (duration(7260), "2 h 1 min"),
        (listed(["a", "b", "c"]), "a, b and c"),
        (listed([]), ""),
        (visible_token("\n"), "⏎"),
        (visible_token("  "), "··"),
        (visible_token(" and"), " and"),
    ],
)
def test_numbers_are_written_one_way(shown: str, expected: str) -> None:
    assert shown == expected


def test_tables_and_pages_take_the_same_characters_out_of_foreign_text():
    from gloss.nla.presentation import visible

    hostile = "a\x1b[2Jb\u202ec\ud83dd\n\te"
    assert cleaned(hostile) == "a\ufffd[2Jb\ufffdc\ufffdd\n\te"
    assert visible(hostile) == "a\ufffd[2Jb\ufffdc\ufffdd⏎⇥e"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ([0.1, 0.5], (0.1, 0.5)),
        ((-1, 2), (-1.0, 2.0)),
        ([0.1], None),
        ([0.1, None], None),
        ([float("nan"), 1.0], None),
        (None, None),
        ("ab", None),
    ],
)
def test_an_interval_has_two_finite_ends(value, found):
    assert interval_of(value) == found
