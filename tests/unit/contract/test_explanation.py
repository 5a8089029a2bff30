import pytest
from hypothesis import given
from hypothesis import strategies as st

from gloss.contract import (
    CLOSE_TAG,
    OPEN_TAG,
    Explanation,
    ExtractionFailed,
    extract_explanation,
    wrap_explanation,
)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("", "no_open_tag"),
        ("a</explanation>", "no_open_tag"),
        ("<Explanation>a</Explanation>", "no_open_tag"),
        ("<explanation>cut off at the cap", "no_close_tag"),
        ("</explanation><explanation>b", "no_close_tag"),
        ("<explanation> \n\t</explanation>", "empty"),
    ],
)
def test_a_failure_names_its_reason_and_keeps_the_response(response, reason):
    assert extract_explanation(response) == ExtractionFailed(reason, response)


def test_a_failure_is_never_a_text():
    assert not isinstance(extract_explanation("no tags at all"), (str, Explanation))


@given(st.text().filter(lambda text: CLOSE_TAG not in text and text.strip()))
def test_any_text_survives_wrapping_and_extraction(text):
    extracted = extract_explanation(wrap_explanation(text))
    assert extracted == Explanation(text.strip())


@given(st.text(alphabet="{}<>/explanation \n日é"))
def test_braces_and_half_tags_never_break_extraction(text):
    extracted = extract_explanation(OPEN_TAG + text + CLOSE_TAG)
    first = text.split(CLOSE_TAG)[0].strip()
    assert extracted == Explanation(first) if first else isinstance(extracted, ExtractionFailed)
