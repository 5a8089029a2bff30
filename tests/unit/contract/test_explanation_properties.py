"""Explanations of any text: what is wrapped comes back, and extraction is total, exact and fast."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gloss.contract import (
    CLOSE_TAG,
    DEFAULT_AR_TEMPLATE,
    OPEN_TAG,
    Explanation,
    ExtractionFailed,
    extract_explanation,
    fill,
    wrap_explanation,
)

any_text = st.text(st.characters())  # lone surrogates and NULs included
tags = st.lists(
    st.sampled_from(
        [
            OPEN_TAG,
            CLOSE_TAG,
            "<explanation",
            "/explanation>",
            "{explanation}",
            "{{",
            "}",
            "\0",
            "\ud800",
            " ",
            "é",
            "x",
        ]
    ),
    max_size=20,
).map("".join)


@given(tags | any_text)
@example(OPEN_TAG * 3)
@example(CLOSE_TAG + OPEN_TAG)
def test_extraction_never_raises_and_takes_what_stands_between_the_first_closed_tags(response):
    found = extract_explanation(response)
    _before, opened, after = response.partition(OPEN_TAG)
    inner, closed, _ = after.partition(CLOSE_TAG)
    if not opened:
        assert found == ExtractionFailed("no_open_tag", response)
    elif not closed:
        assert found == ExtractionFailed("no_close_tag", response)
    elif not inner.strip():
        assert found == ExtractionFailed("empty", response)
    else:
        assert found == Explanation(inner.strip())
        assert CLOSE_TAG not in found.text


@given(tags | any_text)
def test_what_is_wrapped_comes_back_up_to_its_own_closing_tag(text):
    found = extract_explanation(wrap_explanation(text))
    kept = text.split(CLOSE_TAG)[0].strip()
    assert found == (
        Explanation(kept) if kept else ExtractionFailed("empty", wrap_explanation(text))
    )


@given(tags | any_text, any_text, any_text)
def test_text_around_the_tags_changes_nothing(text, before, after):
    around = before.replace("<", "") + wrap_explanation(text) + after
    assert getattr(extract_explanation(around), "text", None) == getattr(
        extract_explanation(wrap_explanation(text)), "text", None
    )


@given(tags | any_text)
def test_an_explanation_goes_into_the_ar_template_letter_for_letter(text):
    before, after = DEFAULT_AR_TEMPLATE.split("{explanation}")
    assert fill(DEFAULT_AR_TEMPLATE, explanation=text) == before + text + after


@pytest.mark.parametrize(
    "piece", ["a", OPEN_TAG, "<", "{explanation}", " ", "日", "\ud800", "</explanation"]
)
def test_a_hundred_thousand_characters_take_no_time(piece):
    text = (piece * 100_000)[:100_000]
    started = time.monotonic()
    extract_explanation(text)
    found = extract_explanation(wrap_explanation("." + text + "."))
    fill(DEFAULT_AR_TEMPLATE, explanation=text)
    assert found == Explanation("." + text + ".")
    assert time.monotonic() - started < 1
