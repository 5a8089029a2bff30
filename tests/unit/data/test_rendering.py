import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_data import make_tokenizer

from gloss.errors import CorpusError
from gloss.text.document import Document
from gloss.text.rendering import DocumentEncoder

CHAT = (
    {"role": "user", "content": "where is the boat"},
    {"role": "assistant", "content": "user is in the harbour"},
)


def encode(document, **options):
    encoder = DocumentEncoder(
        options.pop("tokenizer", make_tokenizer()), options.pop("max_tokens", 512), **options
    )
    return encoder, encoder.encode([document])[0]


def test_text_through_the_last_token_is_the_whole_rendered_text():
    encoder, found = encode(Document("d", None, CHAT))
    rendered = make_tokenizer().apply_chat_template(list(CHAT), tokenize=False)
    assert found.text == rendered == encoder.text_through(found, len(found.ids) - 1)


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=80))
def test_texts_through_tokens_are_prefixes_that_grow(text):
    encoder, found = encode(Document("d", text))
    prefixes = [encoder.text_through(found, p) for p in range(len(found.ids))]
    assert all(found.text.startswith(prefix) for prefix in prefixes)
    assert [len(p) for p in prefixes] == sorted(len(p) for p in prefixes)
    assert prefixes[-1] == found.text


@pytest.mark.invariant("3")
def test_only_the_words_of_the_messages_are_left():
    encoder, found = encode(Document("d", None, CHAT))
    kept = [
        encoder.token_text(int(found.ids[i]))
        for i in range(len(found.ids))
        if i not in found.excluded
    ]
    assert "".join(kept) == CHAT[0]["content"] + CHAT[1]["content"]


def test_template_tokens_can_be_kept_but_special_ones_never():
    encoder, found = encode(Document("d", None, CHAT), exclude_template_tokens=False)
    kept = "".join(
        encoder.token_text(int(found.ids[i]))
        for i in range(len(found.ids))
        if i not in found.excluded
    )
    assert kept.startswith("user\nwhere")
    assert "<|" not in kept


def test_a_template_that_strips_contents_or_drops_one_is_followed():
    from copy import deepcopy

    tokenizer = deepcopy(make_tokenizer())
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role != 'system' %}[{{ m.role }}]{{ m.content | trim }}{%"
        " endif %}{% endfor %}"
    )
    chat = ({"role": "user", "content": "  user  "}, {"role": "assistant", "content": "boat"})
    encoder, found = encode(Document("d", None, chat), tokenizer=tokenizer)
    assert (
        "".join(
            encoder.token_text(int(found.ids[i]))
            for i in range(len(found.ids))
            if i not in found.excluded
        )
        == "userboat"
    )
    hidden = ({"role": "system", "content": "gull"}, *chat)
    encoder, found = encode(Document("d", None, hidden), tokenizer=tokenizer)
    assert found.text == "[user]user[assistant]boat"


@pytest.mark.invariant("6")
def test_bos_comes_once_whether_the_template_holds_it_or_not():
    from copy import deepcopy

    tokenizer = deepcopy(make_tokenizer(bos=True))
    bos = tokenizer.bos_token_id
    for document in (Document("d", "the boat"), Document("d", None, CHAT)):
        _, found = encode(document, tokenizer=tokenizer)
        assert found.ids.tolist().count(bos) == 1
        assert found.ids[0] == bos
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    _, found = encode(Document("d", None, CHAT), tokenizer=tokenizer)
    assert found.ids.tolist().count(bos) == 1
    assert 0 in found.excluded


@pytest.mark.invariant("empty-documents")
def test_special_tokens_written_in_a_text_are_excluded_not_fatal():
    _, found = encode(Document("d", "a boat<|endoftext|> a lake", rendered=True))
    assert make_tokenizer().pad_token_id in found.ids
    assert all(found.ids[i] == make_tokenizer().pad_token_id for i in found.excluded)


def test_long_documents_are_cut_and_empty_ones_have_no_tokens():
    assert len(encode(Document("d", "boat " * 100), max_tokens=7)[1].ids) == 7
    for empty in (
        Document("d", ""),
        Document("d", None),
        Document("d", None, ({"role": "user", "content": " "},)),
    ):
        assert len(encode(empty)[1].ids) == 0


def test_a_chat_needs_a_template_and_one_that_takes_it():
    from copy import deepcopy

    tokenizer = deepcopy(make_tokenizer())
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(CorpusError, match="d: the chat template refuses this chat"):
        encode(Document("d", None, CHAT), tokenizer=tokenizer)
    tokenizer.chat_template = None
    with pytest.raises(CorpusError, match="without a chat template"):
        encode(Document("d", None, CHAT), tokenizer=tokenizer)


@pytest.mark.invariant("6")
def test_a_plain_text_that_brings_its_own_bos_has_one():
    tokenizer = make_tokenizer(bos=True)
    _, plain = encode(Document("d", "the boat"), tokenizer=tokenizer)
    _, own = encode(
        Document("d", tokenizer.bos_token + "the boat", rendered=True), tokenizer=tokenizer
    )
    assert own.ids.tolist() == plain.ids.tolist()
    assert own.ids.tolist().count(tokenizer.bos_token_id) == 1
    assert 0 in own.excluded
