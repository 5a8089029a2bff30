"""What tables of results show, and how their numbers are printed."""

from gloss.nla.results import (
    ComparedSide,
    Comparison,
    ExplainPart,
    Explanations,
    Score,
    TokenExplanation,
)


def _row(**fields):
    return TokenExplanation(
        **{"position": 7, "text": "said", "response": "r", "norm": 1.0, **fields}
    )


def test_a_table_of_explanations_shows_token_place_text_and_number():
    rows = (
        _row(token=" cat", fve=-0.25, flags=("early position",), doc_id="a", section="content"),
        _row(position=None, row=3, text=None, response="cut", doc_id="b"),
    )
    heads, cells = Explanations(rows, layer=2)._shown()
    assert list(heads) == ["document", "pos", "token", "in", "explanation", "FVE", "flags"]
    assert cells == [
        ("a", "7", "·cat", "content", "said", "−0.25", "early position"),
        ("b", "3", "", "", "cut", "—", ""),
    ]
    heads, _ = Explanations(rows[1:], layer=2)._shown()
    assert list(heads) == ["pos", "token", "explanation", "FVE", "flags"]


def test_an_explanation_is_one_line_of_a_terminal():
    said = _row(row=5, token=" cat", text="a cat\nsleeps", fve=0.5, flags=("difference",))
    assert said.line == "5  ·cat  FVE 0.50  a cat sleeps  difference"
    assert _row(text=None).line == "0  FVE —  r"


def test_scores_have_three_digits_and_a_true_minus_sign():
    assert Score(0.5, -0.1234, None, 99.6)._shown()[1] == [["−0.123", "—", "100"]]
    assert Score(0.5, 0.5, 0.76543, None)._shown()[1] == [["0.500", "0.765", "—"]]


def test_a_part_is_not_done_and_an_explanation_is():
    assert ExplainPart(1, 0, "so far").done is False
    assert _row().done is True


def test_a_comparison_shows_both_sides_and_their_difference():
    sides = (ComparedSide(3, " cat", 12.34, None, None), ComparedSide(None, None, 5.0, "b", 0.126))
    shown = Comparison("more", 7.05, 0.5, 0.25, 0.9, sides)._shown()
    assert list(shown[0]) == ["", "token", "explanation", "FVE", "norm"]
    assert shown[1] == [
        ["first", "·cat", "", "—", "12.3"],
        ["second", "", "b", "0.13", "5.0"],
        ["first − second", "", "more", "0.25", "7.0"],
    ]


def test_an_explanation_is_the_first_sample_of_the_first_row_unless_it_says_otherwise():
    assert (_row().sample, _row().row, _row().flags) == (0, 0, ())
