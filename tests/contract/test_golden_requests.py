"""The reference's embeddings and its requests to an SGLang server."""

import json

import pytest
import torch
from safetensors.torch import load_file
from stand_ins import serving

from gloss.contract import Explanation, extract_explanation
from gloss.engines import LocalEngine, SGLangEngine, VLLMEngine
from gloss.models import PromptEmbedder, load_av


@pytest.fixture(scope="module", params=["qwen2", "gemma3"])
def family(request, golden):
    return golden / request.param


@pytest.fixture(scope="module")
def vectors(family):
    found = load_file(family / "expected/av.safetensors")
    return {
        name: value[found["vectors"].norm(dim=1) > 0]
        for name, value in found.items()
        if len(value) == 7
    }


@pytest.fixture(scope="module")
def requests(family):
    return json.loads((family / "expected/http_requests.json").read_text())


def test_embeddings_equal_the_references(family, vectors):
    embedder = PromptEmbedder.load(family / "av")
    expected = json.loads((family / "expected/av.json").read_text())
    assert (embedder.ids, embedder.site) == (expected["token_ids"], expected["injection_position"])
    found = embedder.embeddings(vectors["vectors"])
    torch.testing.assert_close(found, vectors["embeds_float32"], rtol=1e-6, atol=1e-6)


def test_bfloat16_embeddings_are_the_references_but_for_its_injected_row_in_float32(
    family, vectors
):
    embedder = PromptEmbedder.load(family / "av", dtype="bfloat16")
    found, expected = embedder.embeddings(vectors["vectors"]), vectors["embeds_bfloat16_table"]
    others = torch.arange(found.shape[1]) != embedder.site
    assert others.sum() == found.shape[1] - 1
    torch.testing.assert_close(
        found[:, embedder.site].float(), expected[:, embedder.site], rtol=2**-8, atol=0
    )
    torch.testing.assert_close(found[:, others].float(), expected[:, others], rtol=2**-7, atol=1e-6)


def _posted(family, vectors, **settings):
    with serving.SGLang(load_av(family / "av")) as server:
        engine = SGLangEngine(server.url, PromptEmbedder.load(family / "av"))
        engine.generate(vectors["vectors"][:1], seed=0, **settings)
        return server.requests[0]


@pytest.mark.invariant("11")
def test_requests_have_the_references_keys_and_sampling_parameters(family, vectors, requests):
    for request in requests:
        wanted = {
            k: v
            for k, v in request["sampling_params"].items()
            if k in ("temperature", "skip_special_tokens")
        }
        path, body = _posted(family, vectors, temperature=wanted["temperature"], max_new_tokens=3)
        sent = json.loads(body)
        assert path == request["path"]
        assert sorted(sent) == request["body_keys"]
        assert [len(sent["input_embeds"]), len(sent["input_embeds"][0])] == request[
            "input_embeds_shape"
        ]
        assert wanted.items() <= sent["sampling_params"].items()
        assert sent["sampling_params"]["max_new_tokens"] == 3
        assert set(sent["sampling_params"]) >= set(request["sampling_params"]) - {"stop"}
        read = torch.tensor(sent["input_embeds"])
        assert torch.equal(
            read, PromptEmbedder.load(family / "av").embeddings(vectors["vectors"][:1])[0]
        )


def test_explanations_are_taken_from_answers_as_the_reference_does(requests):
    for request in requests:
        answer = request["server_response"]
        text = (answer[0] if isinstance(answer, list) else answer)["text"]
        found = extract_explanation(text)
        if isinstance(found, Explanation) and request["call_kwargs"].get(
            "extract_explanation", True
        ):
            assert found.text == request["returned"]


@pytest.mark.parametrize(
    ("stand_in", "client"), [(serving.SGLang, SGLangEngine), (serving.VLLM, VLLMEngine)]
)
def test_greedy_text_of_servers_equals_the_local_engines_and_the_references(
    family, vectors, stand_in, client
):
    av, expected = (
        load_av(family / "av"),
        json.loads((family / "expected/av.json").read_text())["greedy"],
    )
    rows = vectors["vectors"][:3]
    with stand_in(av) as server:
        found = client(server.url, PromptEmbedder.load(family / "av")).generate(
            rows, temperature=0.0, max_new_tokens=8, seed=0
        )
    assert found == LocalEngine(av).generate(rows, temperature=0.0, max_new_tokens=8, seed=0)
    reference = [row["tokens"] for row in expected["from_embeds_float32"][:3]]
    assert [list(rollout.token_ids) for rollout in found] == [ids[:8] for ids in reference]
