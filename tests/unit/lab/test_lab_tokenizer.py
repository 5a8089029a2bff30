"""The lab's tokenizer: whole words, exact for any text, and ready for the injection marker."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gloss.contract.marker import choose_marker
from gloss.contract.templates import DEFAULT_AV_TEMPLATE, prompt_ids
from gloss.lab.labels import write_label
from gloss.lab.tokenizer import CHAT_TEMPLATE, MARKER, MAX_VOCABULARY, build_tokenizer
from gloss.lab.world import generate_documents, render, training_texts


def _ids(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


def test_the_vocabulary_is_small_and_leaves_no_word_out(lab_tokenizer):
    assert len(lab_tokenizer) < MAX_VOCABULARY
    assert set(lab_tokenizer.get_vocab().values()) == set(range(len(lab_tokenizer)))


def test_two_builds_are_the_same(lab_tokenizer):
    assert build_tokenizer().get_vocab() == lab_tokenizer.get_vocab()


def test_every_word_of_the_world_is_one_token(lab_tokenizer):
    texts = list(training_texts(400, seed=99))
    for document in generate_documents(400, seed=98):
        text = render(document)
        texts += [text, write_label(document, text.rindex(" "), seed=1, position=9, error_rate=0.5)]
    for text in texts:
        pieces = lab_tokenizer.convert_ids_to_tokens(_ids(lab_tokenizer, text))
        assert all(
            len(piece) > 1 or piece in ("A", "I", "\n", " ") or not piece.isalpha()
            for piece in pieces
        ), pieces
        assert not any(piece.startswith("<0x") for piece in pieces)


def test_documents_have_the_length_they_are_meant_to_have(lab_tokenizer):
    lengths = [
        len(_ids(lab_tokenizer, render(document))) for document in generate_documents(1000, seed=2)
    ]
    assert 58 <= sum(lengths) / len(lengths) <= 75
    assert min(lengths) >= 38
    assert max(lengths) <= 125


def test_training_texts_fit_the_context(lab_tokenizer):
    assert max(len(_ids(lab_tokenizer, text)) for text in training_texts(1000, seed=2)) <= 250


@given(st.text())
def test_any_text_comes_back(text):
    assert TOKENIZER.decode(_ids(TOKENIZER, text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "▁a ▁ b",
        "<0x41> <0x0A>",
        "  two  spaces ",
        "a\r\n\tb\u00a0c\u2028d",
        "\0",
        "<|im_end|>x<|pad|>",
        "👩‍🚀 ſ ŉ ﬁ",
    ],
)
def test_awkward_texts_come_back(lab_tokenizer, text):
    assert lab_tokenizer.decode(_ids(lab_tokenizer, text)) == text


def test_tags_and_the_marker_are_single_tokens_beside_anything(lab_tokenizer):
    for piece in ("<explanation>", "</explanation>", MARKER):
        token = lab_tokenizer.convert_tokens_to_ids(piece)
        assert token not in lab_tokenizer.all_special_ids
        for text in (
            piece,
            f"the{piece}the",
            f" {piece} ",
            f"\n{piece}\n",
            f"{piece}{piece}",
            f".{piece}日",
        ):
            assert _ids(lab_tokenizer, text).count(token) == text.count(piece)


def test_special_tokens(lab_tokenizer):
    assert lab_tokenizer.eos_token == "<|im_end|>"
    assert lab_tokenizer.pad_token == "<|pad|>"
    assert lab_tokenizer.bos_token is None
    assert lab_tokenizer.unk_token is None
    specials = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"}
    assert set(lab_tokenizer.all_special_tokens) == specials
    assert lab_tokenizer.encode("Ada") == _ids(lab_tokenizer, "Ada")


def test_the_chat_template_renders_chats_as_the_world_does(lab_tokenizer):
    for document in generate_documents(50, seed=4):
        if document.messages is not None:
            messages = list(document.messages)
            assert lab_tokenizer.apply_chat_template(messages, tokenize=False) == render(document)
            prompt = lab_tokenizer.apply_chat_template(
                messages[:1], tokenize=False, add_generation_prompt=True
            )
            assert render(document).startswith(prompt)


def test_the_marker_is_found_for_the_default_template(lab_tokenizer):
    chosen = choose_marker(lab_tokenizer, DEFAULT_AV_TEMPLATE)
    assert (chosen.marker.char, chosen.added) == (MARKER, False)
    assert len(prompt_ids(lab_tokenizer, DEFAULT_AV_TEMPLATE, MARKER)) < 80


def test_a_saved_tokenizer_loads_the_same(lab_tokenizer, tmp_path):
    from transformers import AutoTokenizer

    lab_tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.chat_template == CHAT_TEMPLATE
    assert set(loaded.all_special_tokens) == set(lab_tokenizer.all_special_tokens)
    for text in ["Ada slept on the mat,\nAlong", ' "... x".', "日 ▁ <0x41>", "a ' b , c . d"]:
        assert loaded.encode(text) == lab_tokenizer.encode(text)
        assert loaded.decode(loaded.encode(text)) == text


TOKENIZER = build_tokenizer()
