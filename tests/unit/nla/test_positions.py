import pytest
from hypothesis import given
from hypothesis import strategies as st

from gloss.errors import PositionError
from gloss.nla import parse_positions


@pytest.mark.parametrize(
    ("given_positions", "expected"),
    [
        (-1, [9]),
        ("-1", [9]),
        ("all", list(range(10))),
        ("3,7-9", [3, 7, 8, 9]),
        ([0, -10, 2], [0, 2]),
        ("1,-9", [1]),
    ],
)
def test_positions_are_read(given_positions, expected):
    assert parse_positions(given_positions, 10) == expected


@pytest.mark.parametrize(
    "wrong", ["10", "-11", "x", "", "7-12", "0-99999999999999", [], "9-3", "1;2"]
)
def test_positions_that_a_text_does_not_have_are_refused(wrong):
    with pytest.raises(PositionError):
        parse_positions(wrong, 10)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [("9-3", "runs backwards: expected 3-9"), ("7-12", "from -10 to 9, found 12")],
)
def test_a_range_that_cannot_be_is_explained(wrong, said):
    with pytest.raises(PositionError, match=said):
        parse_positions(wrong, 10)


@given(st.lists(st.integers(-50, 49), min_size=1))
def test_positions_are_valid_and_unique(wanted):
    chosen = parse_positions(wanted, 50)
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) == {position % 50 for position in wanted}
