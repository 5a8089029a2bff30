"""What Neuronpedia's own server was found to answer where ours answered something else."""

import pytest
import torch
from served_nla import TEXT, frames


def explained(client, **fields):
    return frames(client, "/explain", {"text": TEXT, "temperature": 0, "stream": True, **fields})[
        1:
    ]


def parts(found):
    """The last partial text of each position, and the descriptions."""
    partial = {f["position"]: f["text"] for f in found if "description" not in f}
    return partial, {f["position"]: f["description"] for f in found if "description" in f}


def test_an_answer_from_the_cache_shows_its_raw_text_too(client, nla):
    raw = {e.position: e.response for e in nla.explain(TEXT, positions=[2, 5])}
    fresh, described = parts(explained(client, positions=[2, 5]))
    cached, again = parts(explained(client, positions=[2, 5]))
    assert again == described
    assert cached == raw
    assert all(text.startswith("<explanation>") for text in raw.values())
    assert all(raw[position].startswith(text) for position, text in fresh.items())


@pytest.mark.parametrize("stream", [False, True])
def test_every_asked_position_gets_a_result_also_twice(client, stream):
    asked = [3, -1, 3, 0]
    if stream:
        meta, *found = frames(
            client, "/explain", {"text": TEXT, "temperature": 0, "stream": True, "positions": asked}
        )
        assert meta["total"] == 4
        results = [frame for frame in found if "description" in frame]
    else:
        body = {"text": TEXT, "temperature": 0, "positions": asked}
        results = client.post("/explain", json=body).json()["results"]
    assert [one["position"] for one in results] == [0, 3, 16, 3]
    assert results[1] == results[3]


def test_an_unclosed_explanation_is_scored_without_its_tag(client, nla, vectors):
    body = {"activations": vectors[:1].tolist(), "temperature": 0, "max_new_tokens": 5}
    (one,) = client.post("/describe", json=body).json()["results"]
    (local,) = nla.explain(vectors[:1], temperature=0, max_new_tokens=5)
    assert local.text is None
    assert local.response.startswith("<explanation>")
    assert one["description"] == local.response.removeprefix("<explanation>").strip()
    body = {"description": one["description"], "activation": vectors[0].tolist()}
    assert one["mse"] == pytest.approx(client.post("/score", json=body).json()["mse"], abs=1e-5)


@pytest.fixture
def ends_after_five(nla):
    """The target ends its turn after five tokens."""
    end, steps = nla.target.tokenizer.eos_token_id, iter(range(1000))

    def raised(_module, _args, logits):
        return logits.index_add(
            -1, torch.tensor([end]), torch.full((*logits.shape[:-1], 1), 1e4 * (next(steps) >= 5))
        )

    handle = nla.target.model.get_output_embeddings().register_forward_hook(raised)
    yield end
    handle.remove()


def test_the_token_that_ends_a_turn_is_part_of_a_completion(client, ends_after_five):
    chat = {"messages": [{"role": "user", "content": "Who sat there?"}], "temperature": 0}
    found = client.post("/completion", json={**chat, "completion_tokens": 30}).json()
    written = [token["token_id"] for token in found["tokens"][found["prompt_length"] :]]
    assert len(written) == 6
    assert written[-1] == ends_after_five


def test_a_message_without_content_is_read_as_an_empty_one(client):
    def tokens(*messages):
        return client.post("/tokenize", json={"messages": list(messages)}).json()

    asked = {"role": "user", "content": "Who?"}
    without = tokens(asked, {"role": "assistant"})
    assert without == tokens(asked, {"role": "assistant", "content": ""})
    assert "<|im_start|>assistant\n<|im_end|>" in without["text"]
    assert "empty" in tokens({"role": "user"})["detail"]  # nothing is said at all


def test_tokens_of_the_generation_header_and_of_a_held_open_answer_are_the_assistants(client):
    chat = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Sam"}]
    body = {"messages": chat, "add_generation_prompt": False, "continue_final_message": True}
    held = client.post("/tokenize", json=body).json()
    assert held["text"].endswith("Sam")
    last = held["tokens"][-1]
    assert (last["role"], last["section"], last["message_index"]) == ("assistant", "content", 1)
    opened = client.post("/tokenize", json={"messages": chat[:1]}).json()["tokens"][-1]
    assert (opened["role"], opened["section"]) == ("assistant", "header")


def test_greedy_completions_of_the_same_prompt_agree(client):
    body = {"text": TEXT, "temperature": 0, "completion_tokens": 8}
    first, second = (client.post("/completion", json=body).json() for _ in range(2))
    assert first == second
    assert torch.tensor([t["token_id"] for t in first["tokens"]]).min() >= 0
