import json

import pytest
import torch
from tiny_nla import with_bos

from gloss.errors import CorpusError, GlossError, PositionError
from gloss.nla import Selection
from gloss.reading import explain_text, load_transcript, read_results
from gloss.text.document import Document
from gloss.text.tokens import choose_tokens, read_tokens, thin_out

MESSAGES = (
    {"role": "user", "content": "The gulls \U0001f98a rest at the harbor."},
    {"role": "assistant", "content": "It rains."},
    {"role": "user", "content": ""},
    {"role": "assistant", "content": "The sail."},
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else"
    " m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
)
DEFAULT_SYSTEM = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)


def spans(read):
    """What the sections say, as text: [(message, section, text)]."""
    found = []
    for token in read.tokens:
        key = (token.message_index, token.section)
        if not found or found[-1][0] != key:
            found.append((key, ""))
        if token.fragment_index == 0:
            found[-1] = (key, found[-1][1] + token.token)
    return [(*key, text) for key, text in found]


def read_chat(tokenizer, messages=MESSAGES):
    return read_tokens(tokenizer, Document("chat", None, tuple(messages)))


def test_every_token_belongs_to_a_message_and_a_section(lab_tokenizer):
    assert spans(read_chat(lab_tokenizer)) == [
        (0, "header", "<|im_start|>user\n"),
        (0, "content", MESSAGES[0]["content"]),
        (0, "footer", "<|im_end|>\n"),
        (1, "header", "<|im_start|>assistant\n"),
        (1, "content", "It rains."),
        (1, "footer", "<|im_end|>\n"),
        (2, "header", "<|im_start|>user\n"),
        (2, "footer", "<|im_end|>\n"),
        (3, "header", "<|im_start|>assistant\n"),
        (3, "content", "The sail."),
        (3, "footer", "<|im_end|>\n"),
    ]
    assert {
        token.role for token in read_chat(lab_tokenizer).tokens if token.message_index == 1
    } == {"assistant"}


def test_a_system_prompt_that_the_template_adds_is_scaffold(lab_tokenizer, monkeypatch):
    monkeypatch.setattr(lab_tokenizer, "chat_template", DEFAULT_SYSTEM)
    found = spans(read_chat(lab_tokenizer, MESSAGES[:1]))
    assert found[0] == (None, "scaffold", "<|im_start|>system\nBe kind.<|im_end|>\n")
    assert found[1] == (0, "header", "<|im_start|>user\n")


def test_a_bos_of_the_template_is_scaffold_and_a_trimmed_content_is_found(lab_tokenizer):
    tokenizer = with_bos(lab_tokenizer)
    tokenizer.chat_template = GEMMA
    found = spans(read_chat(tokenizer, [{"role": "user", "content": "  It rains. "}, MESSAGES[1]]))
    assert found[0] == (None, "scaffold", "<|endoftext|>")
    assert found[1] == (0, "header", "<start_of_turn>user\n")
    assert found[2][:2] == (0, "content")
    assert found[2][2].strip() == "It rains."
    assert found[3:5] == [(0, "footer", "<end_of_turn>\n"), (1, "header", "<start_of_turn>model\n")]


def test_tokens_of_one_glyph_show_the_glyph_and_their_part(lab_tokenizer):
    fox = [token for token in read_chat(lab_tokenizer).tokens if token.token == "\U0001f98a"]
    assert [(t.fragment_index, t.fragment_count) for t in fox] == [(0, 4), (1, 4), (2, 4), (3, 4)]


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        ("last", [".", ".", "."]),
        ("regex:harbor|sail", [" harbor", " sail"]),
        ("regex:^It", ["It"]),
        ("regex:\\brain", [" rain"]),
    ],
)
def test_tokens_are_chosen_within_the_contents(lab_tokenizer, selection, wanted):
    read = read_chat(lab_tokenizer)
    assert [read.tokens[p].token for p in choose_tokens(read, selection)] == wanted


def test_every_nth_is_counted_in_each_message_and_all_is_all(lab_tokenizer):
    read = read_chat(lab_tokenizer)
    contents = [
        [t.position for t in read.tokens if (t.message_index, t.section) == (i, "content")]
        for i in range(4)
    ]
    assert choose_tokens(read, "every:3") == [p for positions in contents for p in positions[2::3]]
    assert choose_tokens(read, "all") == list(range(len(read.tokens)))


@pytest.mark.parametrize(
    "selection", ["some", "every:0", "every:x", "regex:", "regex:(", "regex:zebra", ""]
)
def test_a_selection_that_says_nothing_is_refused(lab_tokenizer, selection):
    with pytest.raises(PositionError) as caught:
        choose_tokens(read_chat(lab_tokenizer), selection)
    assert "\n" not in str(caught.value)


def test_a_budget_keeps_both_ends_and_spreads_the_rest():
    assert thin_out(range(101), 5) == [0, 25, 50, 75, 100]
    assert thin_out([3, 7], 5) == [3, 7]
    assert thin_out([3, 7], 1) == [7]


def test_rows_of_a_chat_are_the_nlas_own_explanations_of_its_tokens(nla, tmp_path):
    found = explain_text(
        nla,
        list(MESSAGES),
        tmp_path / "out.parquet",
        selection=Selection(tokens="all", max_activations=9),
    )
    rows = found.to_dicts()
    assert len(rows) == 9
    ids = torch.tensor([[t.token_id for t in read_chat(nla.target.tokenizer).tokens]])
    with torch.inference_mode():
        hidden = nla.target.model(ids, output_hidden_states=True).hidden_states[nla.layer + 1][0]
    vectors = hidden[[row["position"] for row in rows]]
    assert [row["norm"] for row in rows] == pytest.approx(vectors.norm(dim=1).tolist(), rel=1e-4)
    assert [row["text"] for row in rows] == [item.text for item in nla.explain(vectors)]
    assert (rows[0]["role"], rows[0]["message_index"], rows[0]["section"]) == ("user", 0, "header")
    assert "template token" in rows[0]["flags"]
    assert "special token" in rows[0]["flags"]
    assert rows[-1]["context"].endswith("The sail.<|im_end|>\n")
    saved = read_results(tmp_path / "out.parquet")
    assert saved.to_dicts() == rows
    assert saved.header["documents"]["chat"]["messages"] == [dict(message) for message in MESSAGES]


def test_tokens_of_a_text_are_read_as_the_plain_command_reads_them(nla):
    text = "The gulls rest at the harbor while it rains and Ada is calm."
    rows = explain_text(nla, text, selection=Selection(positions="all")).to_dicts()
    plain = nla.explain(text, positions="all")
    assert [row["token"] for row in rows] == [item.token for item in plain]
    assert [row["norm"] for row in rows] == pytest.approx([item.norm for item in plain], rel=1e-4)
    assert [row["flags"] for row in rows] == [list(item.flags) for item in plain]


def test_a_pool_is_the_mean_of_each_messages_chosen_tokens(nla):
    rows = explain_text(nla, MESSAGES, selection=Selection(pool="mean")).to_dicts()
    assert [row["message_index"] for row in rows] == [0, 1, 3]
    read = read_chat(nla.target.tokenizer)
    ids = torch.tensor([[t.token_id for t in read.tokens]])
    with torch.inference_mode():
        hidden = nla.target.model(ids, output_hidden_states=True).hidden_states[nla.layer + 1][0]
    inside = [t.position for t in read.tokens if (t.message_index, t.section) == (1, "content")]
    assert rows[1]["norm"] == pytest.approx(float(hidden[inside].mean(dim=0).norm()), rel=1e-4)
    assert rows[1]["position"] == inside[-1]
    assert all("mean-pooled" in row["flags"] for row in rows)


def test_a_difference_to_another_text_or_another_token(nla):
    first, second = "It rains at the harbor", "The mood is calm"
    wanted = nla.activations(first)[-1] - nla.activations(second)[-1]
    row = explain_text(nla, first, selection=Selection(minus=second)).to_dicts()[0]
    assert row["norm"] == pytest.approx(float(wanted.norm()), rel=1e-4)
    assert "difference" in row["flags"]
    wanted = nla.activations(first)[-1] - nla.activations(first)[1]
    row = explain_text(nla, first, selection=Selection(minus_position=1)).to_dicts()[0]
    assert row["norm"] == pytest.approx(float(wanted.norm()), rel=1e-4)


def test_a_transcript_is_a_list_or_an_object_of_messages(tmp_path):
    for value in (list(MESSAGES), {"messages": list(MESSAGES), "id": 3}):
        (tmp_path / "a.json").write_text(json.dumps(value), encoding="utf-8")
        assert load_transcript(tmp_path / "a.json") == Document("a", None, MESSAGES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "a.json: not JSON"),
        (b"\xff", "not a text: expected UTF-8"),
        (b"3", "not a chat"),
        (b"{}", "not a chat"),
        (b'[{"role": "user"}]', "not a chat"),
        (
            b'[{"role": "user", "content": [{"type": "text"}]}]',
            "messages with role and content, both strings",
        ),
        (b"[" * 100_000, "not JSON"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_is_no_transcript_has_one_clear_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(CorpusError, match=message) as caught:
        load_transcript(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_empty_and_overlong_texts_are_refused(nla):
    with pytest.raises(CorpusError, match="the text is empty"):
        explain_text(nla, [])
    with pytest.raises(GlossError, match="too long for the target: expected at most 256 tokens"):
        explain_text(nla, "rain " * 300)
