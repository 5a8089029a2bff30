"""Neuronpedia's paths as a client of theirs uses them."""

from itertools import pairwise

import pytest
import torch
from served_nla import TEXT, frames

from gloss.models import direction_mse

RESULT_KEYS = {
    "token",
    "token_id",
    "position",
    "l2_norm",
    "description",
    "mse",
    "cosine_similarity",
    "generated",
    "fragment_index",
    "fragment_count",
    "role",
    "section",
    "channel",
    "message_index",
}
CHAT = [
    {"role": "user", "content": "Who sat there?"},
    {"role": "assistant", "content": "Sam did.", "channel": "final"},
]


def explain(client, **fields):
    return client.post("/explain", json={"text": TEXT, "temperature": 0, **fields})


def test_results_come_last_to_first_unless_reverse_is_false(client):
    backwards = explain(client).json()["results"]
    forwards = explain(client, reverse=False).json()["results"]
    positions = [r["position"] for r in forwards]
    assert positions == list(range(len(positions)))
    assert backwards == forwards[::-1]
    assert all(set(r) == RESULT_KEYS for r in forwards)


def test_an_empty_list_of_positions_means_all(client):
    assert explain(client, positions=[]).json() == explain(client).json()


def test_negative_positions_count_from_the_end(client):
    (last,) = explain(client, positions=[-1]).json()["results"]
    assert last["position"] == len(explain(client).json()["results"]) - 1


def test_greedy_explanations_are_those_of_the_local_nla(client, nla):
    found = explain(client, reverse=False, max_new_tokens=40).json()["results"]
    local = nla.explain(TEXT, positions="all")
    assert [r["description"] for r in found] == [e.text or e.response for e in local]
    assert [r["mse"] for r in found] == pytest.approx([e.direction_mse for e in local], abs=1e-4)
    assert [r["l2_norm"] for r in found] == pytest.approx([e.norm for e in local], rel=1e-4)


def test_mse_is_the_direction_mse_and_cosine_belongs_to_it(client, nla, vectors):
    answer = client.post(
        "/score", json={"description": "it rains", "activation": vectors[0].tolist()}
    ).json()
    expected = float(direction_mse(nla.reconstruct(["it rains"])[0], vectors[0]))
    assert answer["mse"] == pytest.approx(expected, abs=1e-5)
    assert answer["cosine_similarity"] == pytest.approx(1 - expected / 2, abs=1e-5)


def test_extract_gives_raw_activations(client, nla):
    answer = client.post("/extract", json={"text": TEXT}).json()
    assert answer["layer_index"] == nla.layer
    found = torch.tensor([t["activation"] for t in answer["tokens"]])
    torch.testing.assert_close(found, nla.activations(TEXT), atol=1e-5, rtol=1e-5)
    assert [t["token_id"] for t in answer["tokens"]] == nla.tokens(TEXT).token_ids


def test_compare_describes_the_difference(client, nla, vectors):
    body = {
        "activation_a": vectors[0].tolist(),
        "activation_b": vectors[1].tolist(),
        "temperature": 0,
    }
    answer = client.post("/compare", json=body).json()
    assert set(answer) == {"description", "diff_norm", "mse", "cosine_similarity"}
    assert answer["diff_norm"] == pytest.approx(float((vectors[0] - vectors[1]).norm()), rel=1e-5)
    assert answer["description"] == nla.explain(vectors[0] - vectors[1])[0].text


def test_a_chat_is_rendered_by_the_template_and_cut_into_sections(client):
    answer = client.post("/tokenize", json={"messages": CHAT, "text": "ignored"}).json()
    assert answer["text"].endswith("<|im_start|>assistant\n")
    assert answer["prompt_length"] == len(answer["tokens"])
    contents = [
        "".join(
            t["token"]
            for t in answer["tokens"]
            if t["message_index"] == i and t["section"] == "content"
        )
        for i in (0, 1)
    ]
    assert contents == [message["content"] for message in CHAT]
    assert {t["channel"] for t in answer["tokens"] if t["message_index"] == 1} == {"final"}
    opened = answer["tokens"][-3:]
    assert [(t["role"], t["section"], t["message_index"]) for t in opened] == [
        ("assistant", "header", None)
    ] * 3
    without = client.post(
        "/tokenize", json={"messages": CHAT, "add_generation_prompt": False}
    ).json()
    assert without["tokens"] == answer["tokens"][:-3]


def test_bytes_of_one_glyph_are_marked_as_its_fragments(client):
    tokens = client.post("/tokenize", json={"text": "a 🙂 b"}).json()["tokens"]
    run = [t for t in tokens if t["fragment_count"] > 1]
    assert len({t["token"] for t in run}) == 1
    assert "🙂" in run[0]["token"]
    assert [t["fragment_index"] for t in run] == list(range(run[0]["fragment_count"]))


def test_a_completion_goes_on_as_the_target_does(client, nla):
    body = {"text": TEXT, "completion_tokens": 6, "temperature": 0}
    answer = client.post("/completion", json=body).json()
    ids = nla.tokens(TEXT).token_ids
    model = nla.target.model
    whole = model.generate(torch.tensor([ids]), max_new_tokens=6, do_sample=False)[0].tolist()
    assert [t["token_id"] for t in answer["tokens"]] == whole
    assert answer["prompt_length"] == len(ids)
    assert answer["text"] == nla.target.tokenizer.decode(whole)


def test_explain_streams_what_it_answers_whole(client):
    meta, *rest = frames(client, "/explain", {"text": TEXT, "temperature": 0, "stream": True})
    assert meta == {"layer_index": 2, "total": 17, "prompt_length": 17}
    partial = [frame for frame in rest if "description" not in frame]
    finished = [frame for frame in rest if "description" in frame]
    assert finished == explain(client).json()["results"]
    assert all(
        set(frame) == {"position", "text", "done"} and frame["done"] is False for frame in partial
    )


def test_partial_texts_grow_into_the_description(client, vectors, slow_steps):
    sampled = {
        "activations": (vectors[:1] + 0.01).tolist(),
        "temperature": 0,
        "max_new_tokens": 39,
        "stream": True,
    }
    found = frames(client, "/describe", sampled)
    partial = [frame["text"] for frame in found if "description" not in frame]
    (finished,) = [frame for frame in found if "description" in frame]
    assert set(finished) == {"description", "mse", "cosine_similarity"}
    assert len(partial) > 5
    assert all(later.startswith(earlier) for earlier, later in pairwise(partial))
    assert (
        partial[-1].removeprefix("<explanation>").lstrip().startswith(finished["description"][:9])
    )


def test_a_completion_streams_prompt_tokens_and_text(client):
    body = {"text": TEXT, "completion_tokens": 6, "temperature": 0}
    whole = client.post("/completion", json=body).json()
    prompt, *tokens, done = frames(client, "/completion", {**body, "stream": True})
    assert prompt == {
        "type": "prompt",
        "prompt_length": whole["prompt_length"],
        "tokens": whole["tokens"][:17],
    }
    assert [frame["token"] for frame in tokens] == whole["tokens"][17:]
    assert {frame["type"] for frame in tokens} == {"token"}
    assert done == {"type": "done", "text": whole["text"]}


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/explain", {}, 400, "text or messages"),
        ("/tokenize", {}, 400, "text or messages"),
        ("/explain", {"text": ""}, 400, "empty"),
        ("/explain", {"text": "a", "positions": [9]}, 400, "no such token"),
        ("/explain", {"text": "a", "positions": list(range(513))}, 422, "positions"),
        ("/explain", {"text": "a " * 300}, 400, "too long"),
        ("/explain", {"text": "a", "temperature": 6}, 422, "temperature"),
        ("/explain", {"text": "a", "max_new_tokens": 0}, 422, "max_new_tokens"),
        ("/describe", {"activations": []}, 422, "activations"),
        ("/describe", {"activations": [[1.0, 2.0]]}, 400, "width"),
        ("/describe", {"activations": [[0.0] * 32]}, 400, "no direction"),
        ("/score", {"description": "x" * 8193, "activation": [1.0] * 32}, 422, "description"),
        ("/compare", {"activation_a": [1.0] * 32, "activation_b": [1.0] * 32}, 400, "no direction"),
        ("/tokenize", {"messages": []}, 400, "empty"),
        ("/completion", {"text": "a", "completion_tokens": 0}, 422, "completion_tokens"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_wrong_is_said_before_anything_is_streamed(
    client, path, body, status, said, stream
):
    answer = client.post(path, json={**body, "stream": stream})
    assert answer.status_code == status
    assert said in answer.text
    assert "\n" not in answer.text


def test_numbers_that_are_none_are_refused(client):
    body = '{"activations": [[' + "NaN," * 31 + "1]]}"
    answer = client.post("/describe", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert "finite" in answer.text


def test_health_tells_the_bounds_and_the_models_as_they_were_named(client, nla):
    health = client.get("/").json()
    assert health["status"] == "ok"
    assert health["d_model"] == 32
    assert health["extraction_layer"] == nla.layer
    assert health["limits"]["max_positions_per_request"] == 512
    assert health["completion_available"] is True
    assert health["verbalizer_model"] == nla.name
    assert health["source_model"] == nla.target.name
    assert health["limits"]["max_new_tokens"] == 4096


WITH_FIELDS = (
    "{% for t in tools or [] %}<{{ t.name }}>{% endfor %}"
    "{% for m in messages %}{{ m.role }}: {% if m.reasoning_content %}({{ m.reasoning_content }})"
    "{% endif %}{{ m.content or '' }}{% for c in m.tool_calls or [] %}[{{ c.function.name }}]"
    "{% endfor %};{% endfor %}"
)


@pytest.mark.invariant("words-3")
@pytest.mark.parametrize("path", ["/tokenize", "/v1/tokens"])
def test_every_field_of_a_chat_reaches_the_template_or_is_refused(client, nla, path, monkeypatch):
    thought = {"role": "assistant", "reasoning_content": "two and two", "content": "four"}
    called = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "rain"}}]}
    asked = {"messages": [thought, called], "tools": [{"name": "weather"}]}
    refused = client.post(path, json=asked)
    assert refused.status_code == 400
    assert "the chat template leaves out" in refused.json()["detail"]
    monkeypatch.setattr(nla.target.tokenizer, "chat_template", WITH_FIELDS)
    text = client.post(path, json={**asked, "add_generation_prompt": False}).json()["text"]
    assert text == "<weather>assistant: (two and two)four;assistant: [rain];"
    for silent in (None, [], {"a": 1}):
        empty = {"messages": [{"role": "assistant", "content": silent}]}
        assert client.post(path, json=empty).status_code == 422
