"""Claims are read from explanations and judged against what the document holds at that point."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gloss.lab.documents import Fact, LabDocument
from gloss.lab.truth import Claim, judge, kinds, parse_claims, values

POEM = LabDocument(
    "poem",
    "couplet",
    "Ada slept on the mat,\nAlong came a soft cat.\nShe sat",
    None,
    (Fact("hero", "Ada", 3), Fact("rhyme", "cat", 20, 43)),
)


def _claim(kind: str, value: str) -> Claim:
    return Claim(kind, value, 0, 0)


def test_claims_carry_kind_value_and_span():
    explanation = (
        'A story about sailing.\nAda is the hero.\nA noun may follow.\nIt ends with "... of the'
        ' harbor".'
    )
    claims = parse_claims(explanation)
    assert [(claim.kind, claim.value) for claim in claims] == [
        ("topic", "sailing"),
        ("hero", "Ada"),
        ("next", "noun"),
        ("ending", "of the harbor"),
    ]
    assert [explanation[claim.start : claim.end] for claim in claims] == [
        "sailing",
        "Ada",
        "noun",
        '"... of the harbor"',
    ]


def test_values_inside_quotes_are_no_claims_of_facts():
    assert [claim.kind for claim in parse_claims('"... Ada at the harbor')] == ["ending"]
    assert [claim.kind for claim in parse_claims('"... Ada\nThe hero is Mia.')] == [
        "ending",
        "hero",
    ]


def test_values_are_whole_words():
    assert parse_claims("Adam, sailings and calmly") == ()


@pytest.mark.parametrize(
    ("kind", "value", "offset", "verdict"),
    [
        ("hero", "Ada", 3, "right"),
        ("hero", "Mia", 3, "wrong"),
        ("hero", "Ada", 2, "absent"),
        ("topic", "sailing", 30, "absent"),
        ("rhyme", "cat", 19, "absent"),
        ("rhyme", "cat", 20, "right"),
        ("rhyme", "frog", 22, "wrong"),
        ("rhyme", "cat", 43, "right"),
        ("rhyme", "cat", 44, "absent"),
        ("next", "comma", 20, "right"),
        ("next", "break", 21, "right"),
        ("next", "noun", 21, "wrong"),
        ("next", "adverb", 22, "right"),
        ("next", "noun", 18, "absent"),
        ("next", "noun", 51, "absent"),
    ],
)
def test_facts_are_judged_by_what_holds_there(kind, value, offset, verdict):
    assert judge(_claim(kind, value), POEM, offset) == verdict


@pytest.mark.parametrize(
    ("quoted", "offset", "verdict"),
    [
        ("on the mat,", 21, "right"),
        ("on the mat", 21, "right"),
        ("on  the mat", 20, "right"),
        ("on the", 20, "wrong"),
        ("the mat, Along", 27, "right"),
        ("on the ma", 19, "right"),
        ("on the mat", 19, "right"),
        ("n the mat", 20, "wrong"),
        ("", 20, "wrong"),
        ("...", 20, "wrong"),
        ("once upon a time Ada", 3, "wrong"),
    ],
)
def test_endings_are_compared_word_by_word(quoted, offset, verdict):
    assert judge(_claim("ending", quoted), POEM, offset) == verdict


def test_an_ending_in_a_chat_is_looked_for_in_its_message_only():
    messages = (
        {"role": "user", "content": "Can you help"},
        {"role": "assistant", "content": "Ask"},
    )
    chat = LabDocument("chat", "chat", None, messages, ())
    end = len("<|im_start|>user\nCan you help<|im_end|>\n<|im_start|>assistant\nAsk")
    assert judge(_claim("ending", "Ask"), chat, end) == "right"
    assert judge(_claim("ending", "help Ask"), chat, end) == "wrong"
    assert judge(_claim("ending", "assistant Ask"), chat, end) == "wrong"


def test_kinds_and_values_are_closed_sets():
    assert kinds() == (
        "topic",
        "hero",
        "companion",
        "place",
        "mood",
        "time",
        "weather",
        "object",
        "user",
        "motive",
        "test",
        "voice",
        "rhyme",
        "ending",
        "next",
    )
    assert len(values("hero")) == 16
    assert len(values("rhyme")) == 26
    assert values("ending") == ()
    assert "noun" in values("next")


@given(st.text())
def test_any_text_can_be_read_and_judged(text):
    for claim in parse_claims(text):
        assert 0 <= claim.start < claim.end <= len(text)
        assert judge(claim, POEM, 20) in ("right", "wrong", "absent")
