"""Checkpoints and numbers made by the reference's own code: Gloss loads them and gives the same."""

import json

import pytest
import torch
from safetensors.torch import load_file

from gloss.errors import CheckpointError, GlossError
from gloss.models import direction_mse, load_ar, load_av
from gloss.rollout import LocalEngine


@pytest.fixture(scope="module")
def qwen(golden):
    return golden / "qwen2"


@pytest.fixture(scope="module")
def expected_av(qwen):
    return json.loads((qwen / "expected/av.json").read_text()), load_file(qwen / "expected/av.safetensors")


@pytest.fixture(scope="module")
def expected_ar(qwen):
    return json.loads((qwen / "expected/ar.json").read_text()), load_file(qwen / "expected/ar.safetensors")


def test_prompt_ids_and_injection_site_equal_the_references(qwen, expected_av):
    av = load_av(qwen / "av")
    assert av.prefix_ids + av.tail_ids == expected_av[0]["token_ids"]
    assert len(av.prefix_ids) + 1 == expected_av[0]["injection_position"]


def test_injected_embeddings_equal_the_references(qwen, expected_av):
    av, tensors = load_av(qwen / "av"), expected_av[1]
    usable = tensors["vectors"].norm(dim=1) > 0
    got = av.embed_after_prefix(tensors["vectors"][usable])
    torch.testing.assert_close(got, tensors["embeds_float32"][usable][:, len(av.prefix_ids) :], rtol=1e-6, atol=1e-6)


def test_first_step_logits_equal_the_references(qwen, expected_av):
    av, tensors = load_av(qwen / "av"), expected_av[1]
    usable = tensors["vectors"].norm(dim=1) > 0
    vectors = tensors["vectors"][usable]
    ids = torch.zeros(len(vectors), 1, dtype=torch.long)
    logits = av.response_logits(vectors, ids, torch.ones_like(ids, dtype=torch.bool))
    torch.testing.assert_close(logits, tensors["first_step_logits_float32"][usable], rtol=1e-4, atol=1e-4)


def test_greedy_tokens_equal_the_references(qwen, expected_av):
    av, (info, tensors) = load_av(qwen / "av"), expected_av
    usable = (tensors["vectors"].norm(dim=1) > 0).nonzero().squeeze(1).tolist()
    rollouts = LocalEngine(av).generate(tensors["vectors"][usable], temperature=0, max_new_tokens=16, seed=0)
    compared = 0
    for rollout, index in zip(rollouts, usable, strict=True):
        greedy = info["greedy"]["from_embeds_float32"][index]
        tokens, margins = greedy["tokens"], greedy["top1_minus_top2"]
        certain = next((i for i, margin in enumerate(margins) if margin <= 1e-3), len(margins))
        assert list(rollout.token_ids[:certain]) == tokens[:certain]
        compared += certain
    assert compared >= 64


def test_a_zero_activation_is_refused_where_the_reference_gives_nan(qwen):
    av = load_av(qwen / "av")
    with pytest.raises(GlossError, match="no direction"):
        LocalEngine(av).generate(torch.zeros(1, 64), temperature=0, max_new_tokens=2, seed=0)


def test_reconstructions_equal_the_references(qwen, expected_ar):
    ar, (info, tensors) = load_ar(qwen / "ar"), expected_ar
    got = ar.reconstruct(info["explanations"])
    torch.testing.assert_close(got, tensors["reconstruct_float32"], rtol=1e-4, atol=1e-4)


def test_ar_prompt_ids_equal_the_references(qwen, expected_ar):
    ar, (info, _) = load_ar(qwen / "ar"), expected_ar
    assert ar.encode(info["explanations"]) == info["prompt_token_ids_with_special"]


def test_scores_equal_the_references(qwen, expected_ar):
    ar, (info, tensors) = load_ar(qwen / "ar"), expected_ar
    got = ar.reconstruct(info["explanations"])
    table = torch.stack([direction_mse(row.expand_as(tensors["golds"]), tensors["golds"]) for row in got])
    torch.testing.assert_close(table, torch.tensor(info["score_float32_mse"]), rtol=1e-4, atol=1e-4)


def test_a_missing_value_head_is_refused_where_the_reference_makes_a_random_one(qwen, tmp_path):
    import shutil

    shutil.copytree(qwen / "ar", tmp_path / "ar")
    (tmp_path / "ar/value_head.safetensors").chmod(0o644)
    (tmp_path / "ar").chmod(0o755)
    (tmp_path / "ar/value_head.safetensors").unlink()
    with pytest.raises(CheckpointError, match="head is missing"):
        load_ar(tmp_path / "ar")


def test_an_av_folder_is_no_ar(qwen):
    with pytest.raises(CheckpointError, match="other half"):
        load_ar(qwen / "av")
