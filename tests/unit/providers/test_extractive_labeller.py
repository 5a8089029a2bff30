import pytest
from hypothesis import given
from hypothesis import strategies as st

from gloss.errors import LabelError
from gloss.providers import ExtractiveLabeller, LabelRequest


def request(text, next_tokens=()):
    return LabelRequest(
        doc_id="d", text=text, position=3, token="x", next_tokens=tuple(next_tokens)
    )


def test_label_names_keywords_last_clause_and_next_tokens():
    text = "The keeper lit the lantern. The storm rose, and the keeper closed the lantern's door"
    [label] = ExtractiveLabeller(keywords=2).label([request(text, [" softly", ".", "\n"])])
    assert (
        label
        == 'About lantern, keeper.\nEnds: "keeper closed the lantern\'s door"\nNext: softly, ., new'
        " line"
    )


def test_a_sentence_that_has_just_begun_is_quoted_with_words_before_it():
    [label] = ExtractiveLabeller(keywords=0, next_tokens=0).label(
        [request("We saw the old boat sink. Then")]
    )
    assert label == 'Ends: "the old boat sink. Then"'


def test_settings_decide_whether_next_tokens_are_needed():
    assert ExtractiveLabeller().needs_next_tokens
    assert not ExtractiveLabeller(next_tokens=0).needs_next_tokens
    assert ExtractiveLabeller(keywords=1).settings == {
        "keywords": 1,
        "quote_words": 5,
        "next_tokens": 3,
        "max_chars": 160,
    }


def test_chat_markup_is_no_keyword():
    [label] = ExtractiveLabeller(next_tokens=0).label(
        [request("<|im_start|>user\nWhere do gulls nest<|im_end|>\n")]
    )
    assert "im_start" not in label
    assert "gulls" in label


def test_case_variants_count_as_one_word():
    [label] = ExtractiveLabeller(quote_words=0, next_tokens=0).label(
        [request("Storm storm STORM gull")]
    )
    assert label == "About storm, gull."


@pytest.mark.parametrize("text", ["", "  \n\t ", "<|im_start|>"])
def test_text_without_a_visible_character_gets_no_label(text):
    assert ExtractiveLabeller().label([request(text)]) == [None]


def test_a_quote_survives_when_space_is_short():
    text = "harbour keeper lantern storm chart anchor and then the boat came home"
    [label] = ExtractiveLabeller(max_chars=40).label([request(text, ["alpha", "beta"])])
    assert len(label) <= 40
    assert "home" in label


@pytest.mark.parametrize(
    "wrong",
    [{"keywords": -1}, {"max_chars": 3}, {"keywords": 0, "quote_words": 0, "next_tokens": 0}],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(LabelError):
        ExtractiveLabeller(**wrong)


@given(st.text(max_size=400), st.lists(st.text(max_size=30), max_size=5), st.integers(16, 120))
def test_any_text_gives_a_short_label_and_the_same_one_again(text, next_tokens, max_chars):
    labeller = ExtractiveLabeller(max_chars=max_chars)
    [label] = labeller.label([request(text, next_tokens)])
    assert label is None or 0 < len(label) <= max_chars
    assert labeller.label([request("other words"), request(text, next_tokens)])[1] == label
