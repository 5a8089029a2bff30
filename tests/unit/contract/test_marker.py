import dataclasses

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from gloss.contract import (
    DEFAULT_AV_TEMPLATE,
    InjectionMarker,
    add_marker_token,
    choose_marker,
    find_marker,
    marker_for,
    prompt_ids,
)
from gloss.contract.marker import CANDIDATE_RANGES
from gloss.errors import MarkerError, TemplateError

TEMPLATE = "Look: <c>{injection_char}</c>. Say what it is."
MARKER = InjectionMarker("㈎", 7, 3, 4)


def test_the_marker_is_found_by_its_id_and_both_neighbours():
    assert find_marker([9, 3, 7, 4, 9], MARKER) == 2
    assert find_marker([7, 9, 3, 7, 4, 7], MARKER) == 3


@pytest.mark.invariant("4")
@pytest.mark.parametrize(
    "ids", [[], [7], [3, 7], [7, 4], [3, 7, 5], [5, 7, 4], [3, 8, 4], [3, 7, 4, 3, 7, 4]], ids=str
)
def test_no_site_or_two_sites_are_refused(ids):
    with pytest.raises(MarkerError, match="not where it must be"):
        find_marker(ids, MARKER)


def test_a_wrong_neighbour_is_shown():
    with pytest.raises(MarkerError, match=r"\[\[3, 7, 5\]\]"):
        find_marker([3, 7, 5], MARKER)


def test_an_enclosed_character_comes_first(make_tokenizer, chat_template):
    chosen = choose_marker(make_tokenizer("→㈎™", chat_template=chat_template), TEMPLATE)
    assert (chosen.marker.char, chosen.added) == ("㈎", False)


def test_the_chosen_marker_is_found_in_its_prompt_between_its_neighbours(
    make_tokenizer, chat_template
):
    for options in (
        {},
        {"bos": True},
        {"chat_template": chat_template},
        {"chat_template": chat_template, "bos": True},
    ):
        tokenizer = make_tokenizer("㈎", **options)
        marker = choose_marker(tokenizer, TEMPLATE).marker
        ids = prompt_ids(tokenizer, TEMPLATE, marker.char)
        site = find_marker(ids, marker)
        assert tokenizer.convert_ids_to_tokens(ids[site - 1 : site + 2]) == [">", "㈎", "<"]


def test_an_unused_character_serves_a_small_vocabulary(make_tokenizer):
    chosen = choose_marker(make_tokenizer("é™"), TEMPLATE)
    assert (chosen.marker.char, chosen.added) == ("™", False)


def test_characters_are_tried_in_one_order_for_everybody(make_tokenizer):
    """Which marker a tokenizer gets is part of a checkpoint: the order must never change."""
    for first, last in CANDIDATE_RANGES:
        for char in (chr(first), chr(last)):
            later = "™" if char != "™" else "®"
            assert choose_marker(make_tokenizer(char + later), TEMPLATE).marker.char == char
    for _, last in CANDIDATE_RANGES[1:]:
        tokenizer = make_tokenizer(chr(last + 1) + "™")
        assert choose_marker(tokenizer, TEMPLATE).marker.char == "™"


def test_the_ranges_of_characters_never_change():
    assert CANDIDATE_RANGES == (
        (0x3297, 0x32B0),
        (0x3200, 0x32FF),
        (0x2460, 0x24FF),
        (0x2600, 0x26FF),
        (0x2190, 0x21FF),
    )


def test_two_characters_are_no_marker_even_as_one_token(make_tokenizer):
    tokenizer = make_tokenizer(bos=True)
    tokenizer.add_tokens(["㈎㈏"])
    assert len(tokenizer.encode("㈎㈏", add_special_tokens=False)) == 1
    with pytest.raises(MarkerError, match="one visible character"):
        marker_for(tokenizer, TEMPLATE, "㈎㈏")


def test_what_the_tokenizer_makes_of_a_wrong_marker_is_shown_without_bos(make_tokenizer):
    tokenizer = make_tokenizer(bos=True)
    ids = tokenizer.convert_tokens_to_ids(["a", "b"])
    with pytest.raises(MarkerError, match=rf"found ids \[{ids[0]}, {ids[1]}\]"):
        marker_for(tokenizer, TEMPLATE, "ab")


def test_a_candidate_that_has_a_token_beside_a_space_comes_before_other_characters(
    make_tokenizer, prepends_space
):
    """The tokenizer writes a space before every text, so that no character alone is one token."""
    tokenizer = make_tokenizer("㈎™", normalizer=prepends_space)
    assert len(tokenizer.encode("㈎", add_special_tokens=False)) == 2
    assert choose_marker(tokenizer, TEMPLATE).marker.char == "㈎"


def test_a_marker_may_be_spelled_in_bytes_behind_a_bos():
    """As byte-level BPE has it: no token reads ™, and texts begin with BOS."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        special_tokens=["<s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["™™", "㈎㈎"] * 50, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")
    (one,) = wrapped.encode("™", add_special_tokens=False)
    assert marker_for(wrapped, TEMPLATE, "™").token_id == one
    chosen = choose_marker(wrapped, TEMPLATE)
    assert (chosen.marker.char, chosen.added) == ("㈎", False)


def test_an_invisible_character_is_no_marker(make_tokenizer):
    assert choose_marker(make_tokenizer("\u200a\u200b\u2028"), TEMPLATE).added


def test_a_character_that_the_template_uses_is_no_marker(make_tokenizer):
    assert (
        choose_marker(make_tokenizer("㈎㈏"), "A ㈎ here: <{injection_char}>.").marker.char == "㈏"
    )


def test_a_character_that_normalisation_rewrites_is_no_marker(make_tokenizer, nfkc):
    assert choose_marker(make_tokenizer("㈎⇒", normalizer=nfkc), TEMPLATE).marker.char == "⇒"


@pytest.mark.parametrize("habit", ["plain", "nfkc", "prepends_space"])
def test_an_added_marker_survives_every_normaliser(habit, make_tokenizer, request):
    normalizer = None if habit == "plain" else request.getfixturevalue(habit)
    tokenizer = make_tokenizer(normalizer=normalizer)
    before = len(tokenizer)
    chosen = choose_marker(tokenizer, TEMPLATE)
    assert chosen.added
    assert chosen.marker.token_id == before
    assert len(tokenizer) == before + 1
    ids = prompt_ids(tokenizer, TEMPLATE, chosen.marker.char)
    assert ids[find_marker(ids, chosen.marker)] == before


def test_an_added_marker_is_reproduced_on_a_fresh_tokenizer(
    make_tokenizer, prepends_space, tmp_path
):
    first, second = (
        make_tokenizer(normalizer=prepends_space),
        make_tokenizer(normalizer=prepends_space),
    )
    chosen = choose_marker(first, TEMPLATE)
    assert add_marker_token(second, chosen.marker.char)
    assert not add_marker_token(second, chosen.marker.char)
    assert marker_for(second, TEMPLATE, chosen.marker.char) == chosen.marker
    first.save_pretrained(tmp_path)
    reloaded = type(first).from_pretrained(tmp_path)
    assert marker_for(reloaded, TEMPLATE, chosen.marker.char) == chosen.marker


def test_a_marker_at_the_very_end_has_no_right_neighbour(make_tokenizer):
    with pytest.raises(MarkerError, match="no injection marker fits"):
        choose_marker(make_tokenizer("㈎"), "The vector: {injection_char}")


def test_a_bad_template_is_refused_before_the_search(make_tokenizer):
    with pytest.raises(TemplateError):
        choose_marker(make_tokenizer("㈎"), "no marker")


def test_a_named_character_of_several_tokens_is_refused(make_tokenizer):
    with pytest.raises(MarkerError, match="cannot be the injection marker"):
        marker_for(make_tokenizer(), TEMPLATE, "㈎")


def test_choosing_twice_gives_the_same_marker(make_tokenizer):
    first, second = (choose_marker(make_tokenizer("㈎㈏™"), DEFAULT_AV_TEMPLATE) for _ in range(2))
    assert dataclasses.asdict(first) == dataclasses.asdict(second)


@pytest.mark.invariant("template-braces")
def test_a_marker_that_merges_with_its_neighbour_is_no_marker():
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "</s>", *map(chr, range(32, 127)), "㈎", "㈏", ">㈎"]
    tokenizer = Tokenizer(
        models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(">㈎|."), "isolated")
    merging = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>"
    )
    assert len(merging.encode("㈎")) == 1
    with pytest.raises(MarkerError, match="cannot be the injection marker"):
        marker_for(merging, TEMPLATE, "㈎")
    assert choose_marker(merging, TEMPLATE).marker.char == "㈏"
