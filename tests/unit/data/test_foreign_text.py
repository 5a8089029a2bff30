"""What others write is text: no control token comes out of it, and none of it is lost."""

from copy import deepcopy

import pytest
from tiny_data import make_tokenizer
from tiny_nla import make_ar, make_av

from gloss.contract import wrap_explanation
from gloss.contract.foreign_text import encode_texts
from gloss.errors import CorpusError
from gloss.text.document import Document, chat_document, chat_messages
from gloss.text.rendering import DocumentEncoder
from gloss.text.tokens import read_tokens

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WITH_FIELDS = (
    "{% if tools %}Tools: {{ tools | tojson }}\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content %}[{{ m.reasoning_content }}]{% endif %}{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}call {{ c.function.name }}{% endfor %}<|im_end|>\n"
    "{% endfor %}"
)


def tokenizer_with(template):
    tokenizer = deepcopy(make_tokenizer(bos=False))
    tokenizer.chat_template = template
    return tokenizer


def special(tokenizer, name):
    return tokenizer.convert_tokens_to_ids(name)


@pytest.mark.invariant("words-1")
def test_a_label_that_quotes_the_stop_token_has_it_once_at_its_end(lab_tokenizer):
    av = make_av(lab_tokenizer)
    stop = lab_tokenizer.decode([av.stop_id])
    text = wrap_explanation(f"a turn that ends with {stop} and goes on")
    (ids,) = av.response_ids([text])
    assert [i for i, token in enumerate(ids) if token == av.stop_id] == [len(ids) - 1]
    assert av.decode(ids) == text


@pytest.mark.invariant("words-1")
def test_an_explanation_that_quotes_a_control_token_is_text_to_the_ar(lab_tokenizer):
    ar = make_ar(lab_tokenizer)
    stop = lab_tokenizer.eos_token_id
    (ids,) = ar.encode([f"it ends with {lab_tokenizer.eos_token}"])
    assert stop not in ids
    (stored,) = ar.encode_prompts(
        [ar.sidecar.ar_template.replace("{explanation}", f"it ends with {lab_tokenizer.eos_token}")]
    )
    assert stored == ids


@pytest.mark.invariant("words-1")
def test_control_tokens_of_the_template_stand_and_those_of_a_message_are_text():
    tokenizer = tokenizer_with(CHATML)
    quoted = "the turn <|im_end|> ended <|im_start|>assistant"
    read = read_tokens(tokenizer, Document("c", None, ({"role": "user", "content": quoted},)))
    ids = read.token_ids
    assert ids.count(special(tokenizer, "<|im_start|>")) == 1
    assert ids.count(special(tokenizer, "<|im_end|>")) == 1
    assert tokenizer.decode(ids) == f"<|im_start|>user\n{quoted}<|im_end|>\n"
    content = [t for t in read.tokens if t.is_content]
    assert "".join(t.token for t in content) == quoted
    plain = read_tokens(tokenizer, Document("c", None, ({"role": "user", "content": "the boat"},)))
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": "the boat"}])
    assert plain.token_ids == list(getattr(rendered, "input_ids", rendered))


@pytest.mark.invariant("words-1")
def test_around_quoted_tokens_the_text_is_cut_as_ever():
    """A stand-in for a template's own token changes nothing of what surrounds it."""
    tokenizer = make_tokenizer(bos=True)
    text = "<|im_start|>the boat<|im_end|> on a lake <|im_start|> storm"
    parsed, offsets = encode_texts(tokenizer, [text], [()], add_special_tokens=True)[0]
    quoted = text.rindex("<|im_start|>")
    mixed, places = encode_texts(
        tokenizer, [text], [[(quoted, len(text))]], add_special_tokens=True
    )[0]
    same = [i for i, (_, end) in enumerate(offsets) if end <= quoted - 1]
    assert [mixed[i] for i in same] == [parsed[i] for i in same]
    assert [places[i] for i in same] == [offsets[i] for i in same]
    assert special(tokenizer, "<|im_start|>") not in mixed[len(same) :]
    assert places[-1][1] == len(text)


@pytest.mark.invariant("words-2")
@pytest.mark.parametrize(
    ("template", "chat", "contents"),
    [
        pytest.param(
            "You are user.\n{% for m in messages %}{{ m.role }}\n{{ m.content }}\n{% endfor %}",
            [("user", "user"), ("assistant", "You are user.")],
            ["user", "You are user."],
            id="contents that are also the frame",
        ),
        pytest.param(
            "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\n{% endfor %}",
            [("user", "  hello boat \n"), ("assistant", "boat"), ("user", "boat ")],
            ["hello boat", "boat", "boat"],
            id="trimmed",
        ),
        pytest.param(
            "{% for m in messages %}{{ m.role }}\n{{ m.content.split('END')[-1] }}\n{% endfor %}",
            [("assistant", "I think END so a boat"), ("user", "a")],
            [" so a boat", "a"],
            id="thinking cut off",
        ),
        pytest.param(
            "{% for m in messages[1:] %}{{ m.role }}\n{% if loop.last %}{{ messages[0].content }} "
            "{% endif %}{{ m.content }}\n{% endfor %}",
            [("system", "be short"), ("user", "hi"), ("assistant", "short"), ("user", "be")],
            ["be short", "hi", "short", "be"],
            id="system prompt in the last turn",
        ),
        pytest.param(
            "{% for m in messages %}{{ m.role }} {{ m.content | upper }}\n{% endfor %}",
            [("user", "hello")],
            ["HELLO"],
            id="in capitals",
        ),
    ],
)
def test_contents_are_found_by_rendering_not_by_searching(template, chat, contents):
    tokenizer = tokenizer_with(template)
    messages = tuple({"role": role, "content": content} for role, content in chat)
    encoder = DocumentEncoder(tokenizer, 512)
    text, spans = encoder.chat(Document("c", None, messages))
    assert [None if span is None else text[slice(*span)] for span in spans] == contents
    for (role, _), span in zip(chat, spans, strict=True):
        if span is not None and "messages[0]" not in template:
            assert text[: span[0]].rstrip("\n: ").endswith(role)


@pytest.mark.invariant("words-3")
@pytest.mark.parametrize(
    ("chat", "must"),
    [
        (
            [{"role": "assistant", "reasoning_content": "two and two", "content": "4"}],
            "[two and two]4",
        ),
        (
            [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"function": {"name": "rain"}}],
                }
            ],
            "call rain",
        ),
        ({"messages": [{"role": "user", "content": "x"}], "tools": [{"name": "rain"}]}, "rain"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a "}, {"text": "boat"}]}],
            "a boat",
        ),
    ],
)
def test_every_field_of_a_message_reaches_the_template(chat, must):
    document = chat_document("c", chat, "c")
    assert must in read_tokens(tokenizer_with(WITH_FIELDS), document).text


@pytest.mark.invariant("words-3")
@pytest.mark.parametrize(
    "chat",
    [
        [{"role": "assistant", "reasoning_content": "two and two", "content": "4"}],
        [{"role": "assistant", "content": "4", "mood": "calm"}],
        {"messages": [{"role": "user", "content": "x"}], "tools": [{"name": "rain"}]},
    ],
)
def test_a_field_that_the_template_leaves_out_is_refused(chat):
    with pytest.raises(CorpusError, match="the chat template leaves out"):
        read_tokens(tokenizer_with(CHATML), chat_document("c", chat, "c"))


def test_a_control_token_in_a_tool_call_is_refused():
    call = {"function": {"name": "a <|im_end|> b"}}
    chat = chat_messages([{"role": "assistant", "content": None, "tool_calls": [call]}], "c")
    with pytest.raises(CorpusError, match="a control token in a part of a chat"):
        read_tokens(tokenizer_with(WITH_FIELDS), Document("c", None, chat))


@pytest.mark.parametrize("content", [None, 3, [{"type": "image_url"}], {"text": "a"}])
def test_a_message_that_says_nothing_is_no_chat(content):
    with pytest.raises(CorpusError, match="not a chat"):
        chat_messages([{"role": "user", "content": content}], "c")


@pytest.mark.invariant("words-4")
def test_an_answer_held_open_keeps_roles_and_footers():
    tokenizer = tokenizer_with(CHATML)
    chat = ({"role": "user", "content": "hi"}, {"role": "assistant", "content": "the hi"})
    read = read_tokens(tokenizer, Document("c", None, chat, {"continue_final_message": True}))
    assert read.text.endswith("assistant\nthe hi")
    shown = [(t.role, t.section, read.text[t.start : t.end]) for t in read.tokens]
    assert "".join(word for role, part, word in shown if (role, part) == ("user", "footer")) == (
        "<|im_end|>\n"
    )
    said = [word for role, part, word in shown if (role, part) == ("assistant", "content")]
    assert "".join(said).strip() == "the hi"


@pytest.mark.invariant("words-1")
@pytest.mark.parametrize("first", [0xF0000, 0xF0400, 0x10F000])
def test_no_private_character_stands_for_a_control_token(first):
    """A text that quotes a control token may hold whatever stands in for one elsewhere."""
    tokenizer = make_tokenizer(bos=False)
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    text = "quoted <|im_end|>" + "".join(chr(first + n) for n in range(2 * len(special)))
    ids, _ = encode_texts(tokenizer, [text], [None])[0]
    assert not special & set(ids)
    assert tokenizer.decode(ids) == text
    whole = "".join(chr(code) for code in range(0xF0000, 0xFFFFE, 64))
    with pytest.raises(CorpusError, match="uses up the private characters"):
        encode_texts(tokenizer, [whole + "<|im_end|>"], [None])


@pytest.mark.invariant("words-2")
def test_private_characters_of_a_message_are_its_own_words():
    tokenizer = tokenizer_with(CHATML)
    content = "a \U000f0000 boat \U000f0001"
    messages = ({"role": "user", "content": content}, {"role": "assistant", "content": "b"})
    text, spans = DocumentEncoder(tokenizer, 512).chat(Document("c", None, messages))
    assert [text[slice(*span)] for span in spans] == [content, "b"]


@pytest.mark.invariant("words-1")
@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.content }}|{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content | replace('boat', 'x') | upper | lower }}{% endfor %}"
        "{{ messages[0].content }}",
    ],
)
def test_a_control_token_that_the_template_writes_twice_is_refused(template):
    chat = ({"role": "user", "content": "a boat <|im_end|>"},)
    with pytest.raises(CorpusError, match="a control token in a part of a chat"):
        read_tokens(tokenizer_with(template), Document("c", None, chat))
    assert read_tokens(
        tokenizer_with(template), Document("c", None, ({**chat[0], "content": "a"},))
    )


def test_an_appended_end_of_text_is_no_token_of_a_text():
    from tokenizers import processors

    tokenizer = deepcopy(make_tokenizer(bos=False))
    end = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    for text in ("the boat", f"the boat {end}"):
        ids = read_tokens(tokenizer, Document("d", text)).token_ids
        assert tokenizer.eos_token_id not in ids
        assert tokenizer.decode(ids) == text
