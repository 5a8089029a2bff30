"""Prompts of any text: one BOS in front, the recorded suffix behind, the marker only where its
neighbours are.
"""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gloss.contract import (
    DEFAULT_AR_TEMPLATE,
    DEFAULT_AV_TEMPLATE,
    InjectionMarker,
    ar_prompt_ids,
    choose_marker,
    find_marker,
    prompt_ids,
)
from gloss.data import ar_suffix_ids
from gloss.errors import MarkerError

BOS, EOS = 1, 2
quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
pieces = st.sampled_from(
    [
        "<s>",
        "</s>",
        "<unk>",
        "㊗",
        "{explanation}",
        "</text>",
        "<activation>",
        "\n",
        " ",
        "日本",
        "a.",
        "\0",
    ]
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.lists(
    pieces, max_size=12
).map("".join)


@pytest.mark.parametrize(
    ("bos", "appends_eos"), [(False, False), (True, False), (True, True), (False, True)]
)
@quick
@given(text=texts)
@example(text="<s>")
@example(text="</s>")
def test_an_ar_prompt_has_one_bos_in_front_and_ends_with_its_suffix(
    bos, appends_eos, text, make_tokenizer
):
    tokenizer = make_tokenizer(bos=bos, appends_eos=appends_eos)
    suffix = ar_suffix_ids(tokenizer, DEFAULT_AR_TEMPLATE)
    ids = ar_prompt_ids(tokenizer, DEFAULT_AR_TEMPLATE, text)
    assert len(suffix) >= len(DEFAULT_AR_TEMPLATE.split("{explanation}")[1])
    assert tuple(ids[-len(suffix) :]) == suffix
    assert ids.count(BOS) == int(bos)
    assert (ids[0] == BOS) == bos
    assert ids.count(EOS) == 0


@quick
@given(text=texts)
def test_a_template_that_begins_with_the_explanation_still_has_one_bos_in_front(
    text, make_tokenizer
):
    ids = ar_prompt_ids(make_tokenizer(bos=True), "{explanation} end", text)
    assert ids[0] == BOS
    assert ids[1] != BOS


@pytest.mark.parametrize("family", ["qwen2", "gemma3"])
@quick
@given(text=texts)
def test_real_tokenizers_keep_bos_and_suffix(family, text, golden):
    from gloss.target_model import load_tokenizer

    tokenizer = load_tokenizer(golden / family / "base")
    suffix = ar_suffix_ids(tokenizer, DEFAULT_AR_TEMPLATE)
    ids = ar_prompt_ids(tokenizer, DEFAULT_AR_TEMPLATE, text)
    assert tuple(ids[-len(suffix) :]) == suffix
    if family == "gemma3":
        assert ids[0] == tokenizer.bos_token_id
        assert ids[1] != tokenizer.bos_token_id


@quick
@given(
    around=st.text(st.characters(codec="ascii", exclude_characters="{}"), max_size=30),
    copies=st.integers(0, 3),
)
def test_the_chosen_marker_is_found_once_whatever_surrounds_it(
    around, copies, make_tokenizer, chat_template
):
    tokenizer = make_tokenizer("㊗㊙", chat_template=chat_template)
    template = f"{around}<c>{{injection_char}}</c>{'㊙' * copies}"
    chosen = choose_marker(tokenizer, template).marker
    ids = prompt_ids(tokenizer, template, chosen.char)
    site = find_marker(ids, chosen)
    assert ids[site] == chosen.token_id
    assert ids.count(chosen.token_id) == 1
    assert chosen.char not in around + "㊙" * copies


small = st.integers(0, 4)


@given(st.lists(small, max_size=30), st.builds(InjectionMarker, st.just("x"), small, small, small))
def test_find_marker_agrees_with_the_definition(ids, marker):
    wanted = [marker.left_neighbor_id, marker.token_id, marker.right_neighbor_id]
    sites = [i + 1 for i in range(len(ids) - 2) if ids[i : i + 3] == wanted]
    if len(sites) == 1:
        assert find_marker(ids, marker) == sites[0]
    else:
        with pytest.raises(MarkerError, match=f"found {len(sites)} times"):
            find_marker(ids, marker)


@quick
@given(text=texts)
def test_a_marker_in_other_text_of_the_prompt_is_not_taken_for_it(text, make_tokenizer):
    """Text behind the prompt may hold the marker's character: without its neighbours it is none."""
    tokenizer = make_tokenizer("㊗")
    chosen = choose_marker(tokenizer, DEFAULT_AV_TEMPLATE).marker
    ids = prompt_ids(tokenizer, DEFAULT_AV_TEMPLATE, chosen.char)
    more = tokenizer.encode(text.replace(">", ""), add_special_tokens=False)
    assert find_marker([*ids, *more], chosen) == find_marker(ids, chosen)
