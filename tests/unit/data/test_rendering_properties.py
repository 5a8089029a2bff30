"""Documents of any text and size: tokens as the tokenizer gives them, without reading more of a
long one than is kept.
"""

import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_data import WORDS, make_tokenizer

from gloss.text.document import Document
from gloss.text.rendering import DocumentEncoder

PAD = "<|endoftext|>"
pieces = st.sampled_from(
    [
        *WORDS,
        " ",
        "  ",
        "\n",
        PAD,
        "<|im_start|>",
        "<|im_end|>",
        "<|bos|>",
        "㊗",
        "é",
        "日本",
        "🙂",
        "x" * 50,
    ]
)
texts = st.text(max_size=60) | st.lists(pieces, max_size=30).map("".join)
quick = settings(max_examples=60, deadline=None)


def encoded(text, *, bos=False, max_tokens=4096):
    return DocumentEncoder(make_tokenizer(bos=bos), max_tokens).encode(
        [Document("d", text, rendered=True)]
    )[0]


@pytest.mark.parametrize("bos", [False, True])
@quick
@given(text=texts, max_tokens=st.integers(1, 40))
def test_tokens_are_the_tokenizers_own_and_special_ones_are_excluded(bos, text, max_tokens):
    found = encoded(text, bos=bos, max_tokens=max_tokens)
    tokenizer = make_tokenizer(bos=bos)
    clean = (
        text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        if not text.isascii()
        else text
    )
    if len(clean) == len(text):
        brings_its_own = bos and clean.startswith(tokenizer.bos_token)
        ids = tokenizer(clean, add_special_tokens=not brings_its_own)["input_ids"]
        assert found.ids.tolist() == (ids[:max_tokens] if text else [])
    special = {
        i
        for i, token in enumerate(found.ids.tolist())
        if tokenizer.decode([token]).startswith("<|")
    }
    assert found.excluded == special


@pytest.mark.invariant("words-1")
@pytest.mark.parametrize("bos", [False, True])
@quick
@given(text=texts)
def test_no_special_token_comes_out_of_a_text(bos, text):
    tokenizer = make_tokenizer(bos=bos)
    found = DocumentEncoder(tokenizer, 4096).encode([Document("d", text)])[0]
    ids = found.ids.tolist()
    assert [i for i in ids[bos:] if tokenizer.decode([i]).startswith("<|")] == []
    clean = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if len(clean) == len(text):
        as_text = tokenizer(clean, split_special_tokens=True)["input_ids"]
        assert ids == (as_text if text else [])
        assert tokenizer.decode(ids[bos:] if ids else []) == clean


@quick
@given(data=st.data())
def test_a_long_document_has_the_tokens_of_its_beginning(data):
    words = data.draw(st.lists(pieces, min_size=1, max_size=12))
    glue = data.draw(st.sampled_from(["", " ", "\n", ". "]))
    max_tokens = data.draw(st.integers(1, 60))
    text = (glue.join(words) + glue) * data.draw(st.integers(100, 1000))
    found = encoded(text, max_tokens=max_tokens)
    assert found.ids.tolist() == make_tokenizer(bos=False)(text)["input_ids"][:max_tokens]


@pytest.mark.parametrize(
    "unit", ["a", " ", "boat ", "\n", "日", "🙂", "1", PAD, "x" * 9000 + " ", "é\u0301"]
)
@pytest.mark.parametrize("bos", [False, True])
def test_long_documents_of_one_kind_have_the_tokens_of_their_beginning(unit, bos):
    text = (unit * 40_000)[:40_000]
    found = encoded(text, bos=bos, max_tokens=64)
    assert found.ids.tolist() == make_tokenizer(bos=bos)(text)["input_ids"][:64]
    assert len(found.ids) == 64


def test_long_messages_have_the_tokens_of_their_beginning():
    chat = (
        {"role": "user", "content": "boat lake " * 5000},
        {"role": "assistant", "content": "storm"},
    )
    encoder = DocumentEncoder(make_tokenizer(bos=False), 64)
    found = encoder.encode([Document("d", None, chat)])[0]
    rendered = make_tokenizer(bos=False).apply_chat_template(list(chat), tokenize=False)
    assert (
        found.ids.tolist()
        == make_tokenizer(bos=False)(rendered, add_special_tokens=False)["input_ids"][:64]
    )
    assert encoder.text_through(found, 63) == rendered[: int(found.ends[63])]
    assert 0 in found.excluded


@pytest.mark.parametrize("name", ["qwen2", "gemma3"])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_real_tokenizers_give_long_documents_the_tokens_of_their_beginning(name, data, golden):
    from gloss.target_model import load_tokenizer

    tokenizer = load_tokenizer(golden / name / "base")
    words = data.draw(
        st.lists(pieces | st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=1)
    )
    text = (" ".join(words) or "a") * 2000
    max_tokens = data.draw(st.integers(1, 100))
    document = Document("d", text, rendered=True)
    found = DocumentEncoder(tokenizer, max_tokens).encode([document])[0]
    assert found.ids.tolist() == tokenizer(text)["input_ids"][:max_tokens]


def test_a_gigantic_document_costs_no_more_than_its_beginning():
    text = "the boat on the lake 日本 " * 2_200_000
    assert len(text) > 50_000_000
    tracemalloc.start()
    started = time.monotonic()
    found = encoded(text, max_tokens=512)
    seconds, (_, peak) = time.monotonic() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.ids) == 512
    assert found.ids.tolist() == make_tokenizer(bos=False)(text[:20_000])["input_ids"][:512]
    assert seconds < 5
    assert peak < 20_000_000
