"""Checkpoints and numbers made by the reference's own code: Gloss loads them and gives the same."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from gloss.cli.main import app
from gloss.data import read_activations, vectors_as_array
from gloss.engines import LocalEngine
from gloss.errors import CheckpointError, GlossError
from gloss.models import (
    ActivationReconstructor,
    direction_mse,
    direction_variance,
    load_ar,
    load_av,
    save_ar,
    save_av,
)
from gloss.target_model import capture_activations, load_target


@pytest.fixture(scope="module", params=["qwen2", "gemma3"])
def family(request, golden):
    return golden / request.param


@pytest.fixture(scope="module")
def expected_av(family):
    return json.loads((family / "expected/av.json").read_text()), load_file(
        family / "expected/av.safetensors"
    )


@pytest.fixture(scope="module")
def expected_ar(family):
    return json.loads((family / "expected/ar.json").read_text()), load_file(
        family / "expected/ar.safetensors"
    )


def test_prompt_ids_and_injection_site_equal_the_references(family, expected_av):
    av = load_av(family / "av")
    assert av.prefix_ids + av.tail_ids == expected_av[0]["token_ids"]
    assert len(av.prefix_ids) + 1 == expected_av[0]["injection_position"]


@pytest.mark.invariant("embedding-rounding")
def test_injected_embeddings_equal_the_references(family, expected_av):
    av, tensors = load_av(family / "av"), expected_av[1]
    usable = tensors["vectors"].norm(dim=1) > 0
    got = av.embed_after_prefix(tensors["vectors"][usable])
    torch.testing.assert_close(
        got, tensors["embeds_float32"][usable][:, len(av.prefix_ids) :], rtol=1e-6, atol=1e-6
    )


def test_first_step_logits_equal_the_references(family, expected_av):
    av, tensors = load_av(family / "av"), expected_av[1]
    usable = tensors["vectors"].norm(dim=1) > 0
    vectors = tensors["vectors"][usable]
    ids = torch.zeros(len(vectors), 1, dtype=torch.long)
    logits = av.response_logits(vectors, ids, torch.ones_like(ids, dtype=torch.bool))
    torch.testing.assert_close(
        logits, tensors["first_step_logits_float32"][usable], rtol=1e-4, atol=1e-4
    )


def test_greedy_tokens_equal_the_references(family, expected_av):
    av, (info, tensors) = load_av(family / "av"), expected_av
    usable = (tensors["vectors"].norm(dim=1) > 0).nonzero().squeeze(1).tolist()
    rollouts = LocalEngine(av).generate(
        tensors["vectors"][usable], temperature=0, max_new_tokens=16, seed=0
    )
    compared = 0
    for rollout, index in zip(rollouts, usable, strict=True):
        greedy = info["greedy"]["from_embeds_float32"][index]
        tokens, margins = greedy["tokens"], greedy["top1_minus_top2"]
        certain = next((i for i, margin in enumerate(margins) if margin <= 1e-3), len(margins))
        assert list(rollout.token_ids[:certain]) == tokens[:certain]
        if certain == len(tokens):
            assert rollout.text == greedy["text"]
        compared += certain
    assert compared >= 64


def test_a_zero_activation_is_refused_where_the_reference_gives_nan(family):
    av = load_av(family / "av")
    with pytest.raises(GlossError, match="no direction"):
        LocalEngine(av).generate(
            torch.zeros(1, av.sidecar.d_model), temperature=0, max_new_tokens=2, seed=0
        )


def test_reconstructions_equal_the_references(family, expected_ar):
    ar, (info, tensors) = load_ar(family / "ar"), expected_ar
    got = ar.reconstruct(info["explanations"])
    torch.testing.assert_close(got, tensors["reconstruct_float32"], rtol=1e-4, atol=1e-4)


def test_ar_prompt_ids_equal_the_references(family, expected_ar):
    ar, (info, _) = load_ar(family / "ar"), expected_ar
    assert ar.encode(info["explanations"]) == info["prompt_token_ids_with_special"]


def test_scores_equal_the_references(family, expected_ar):
    ar, (info, tensors) = load_ar(family / "ar"), expected_ar
    got = ar.reconstruct(info["explanations"])
    table = torch.stack(
        [direction_mse(row.expand_as(tensors["golds"]), tensors["golds"]) for row in got]
    )
    torch.testing.assert_close(table, torch.tensor(info["score_float32_mse"]), rtol=1e-4, atol=1e-4)


def test_a_missing_value_head_is_refused_where_the_reference_makes_a_random_one(family, tmp_path):
    shutil.copytree(family / "ar", tmp_path / "ar")
    (tmp_path / "ar/value_head.safetensors").chmod(0o644)
    (tmp_path / "ar").chmod(0o755)
    (tmp_path / "ar/value_head.safetensors").unlink()
    with pytest.raises(CheckpointError, match="head is missing"):
        load_ar(tmp_path / "ar")


def test_an_av_folder_is_no_ar(family):
    with pytest.raises(CheckpointError, match="other half"):
        load_ar(family / "av")


def _golden_documents(family):
    info = json.loads((family / "datagen/stage0_extraction.json").read_text())
    tensors = load_file(family / "datagen/stage0_full_hidden_states.safetensors")
    numbers = [int(name[3:].split(".")[0]) for name in tensors if name.endswith(".float32")]
    return [torch.tensor(info["docs"][i]["token_ids"]) for i in numbers], [
        tensors[f"doc{i}.float32"] for i in numbers
    ]


def test_captured_activations_equal_the_references_alone_and_padded(family):
    documents, expected = _golden_documents(family)
    model = load_target(family / "base").model
    ids = torch.nn.utils.rnn.pad_sequence(documents, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence(
        [torch.ones_like(document) for document in documents], batch_first=True
    )
    with torch.inference_mode():
        padded = capture_activations(model, ids, mask, 3)
        for row, document, hidden in zip(padded, documents, expected, strict=True):
            torch.testing.assert_close(row[: len(document)], hidden, rtol=1e-4, atol=1e-4)
            alone = capture_activations(model, document.unsqueeze(0), None, 3)[0]
            torch.testing.assert_close(alone, hidden, rtol=1e-4, atol=1e-4)


def test_the_variance_behind_fve_equals_the_references(family):
    expected = json.loads((family / "expected/baselines.json").read_text())
    vectors = torch.from_numpy(
        vectors_as_array(read_activations(family / "datagen/base.parquet")).copy()
    )
    assert direction_variance(vectors) == pytest.approx(
        expected["base_parquet"]["rawvar"], abs=1e-4
    )
    assert direction_variance(vectors[:10]) == pytest.approx(
        expected["base_parquet_max_rows_10"]["rawvar"], abs=1e-4
    )


def test_the_training_loss_of_the_ar_equals_the_references(family):
    expected = json.loads((family / "expected/ar_sft_loss.json").read_text())
    table, ar = read_activations(family / "datagen/ar_sft.parquet"), load_ar(family / "ar")
    rows = ar.encode_prompts(table["prompt"].to_pylist())
    assert [len(row) for row in rows] == expected["token_lengths"]
    loss = direction_mse(ar.reconstruct_ids(rows), torch.from_numpy(vectors_as_array(table).copy()))
    assert float(loss.detach().mean()) == pytest.approx(expected["loss_mean"], abs=1e-4)


def test_a_fresh_ar_stores_the_references_weights(family, tmp_path):
    expected = json.loads((family / "expected/ar_init_info.json").read_text())
    target, sidecar = load_target(family / "base"), load_ar(family / "ar").sidecar
    save_ar(
        ActivationReconstructor.from_target(target.model, 3, target.tokenizer, sidecar),
        tmp_path / "ar",
    )
    assert sorted(load_file(tmp_path / "ar/model.safetensors")) == sorted(expected["keys"])
    assert (
        json.loads((tmp_path / "ar/config.json").read_text())["num_hidden_layers"]
        == expected["num_hidden_layers"]
    )


def test_saved_again_both_halves_give_the_references_numbers(
    family, expected_av, expected_ar, tmp_path
):
    save_av(load_av(family / "av"), tmp_path / "av")
    save_ar(load_ar(family / "ar"), tmp_path / "ar")
    _same_as_the_reference(
        load_av(tmp_path / "av"), load_ar(tmp_path / "ar"), expected_av[1], expected_ar
    )


@pytest.mark.parametrize("names", ["language_model.model.", "model.language_model."])
def test_gemma_checkpoints_in_the_multimodal_wrapper_give_the_same_numbers(golden, names, tmp_path):
    """Both ways in which releases of Transformers name the weights of the text model inside the
    wrapper.
    """
    family = golden / "gemma3"
    for half in ("av", "ar"):
        _wrap(family / half, tmp_path / half, names)
    av, ar = load_av(tmp_path / "av"), load_ar(tmp_path / "ar")
    expected_ar = (
        json.loads((family / "expected/ar.json").read_text()),
        load_file(family / "expected/ar.safetensors"),
    )
    expected_av = load_file(family / "expected/av.safetensors")
    _same_as_the_reference(av, ar, expected_av, expected_ar)
    save_av(av, tmp_path / "again/av")
    save_ar(ar, tmp_path / "again/ar")
    _same_as_the_reference(
        load_av(tmp_path / "again/av"), load_ar(tmp_path / "again/ar"), expected_av, expected_ar
    )


def _same_as_the_reference(av, ar, expected_av, expected_ar):
    usable = expected_av["vectors"].norm(dim=1) > 0
    ids = torch.zeros(int(usable.sum()), 1, dtype=torch.long)
    with torch.inference_mode():
        logits = av.response_logits(
            expected_av["vectors"][usable], ids, torch.ones_like(ids, dtype=torch.bool)
        )
    torch.testing.assert_close(
        logits, expected_av["first_step_logits_float32"][usable], rtol=1e-4, atol=1e-4
    )
    info, tensors = expected_ar
    got = ar.reconstruct(info["explanations"])
    torch.testing.assert_close(got, tensors["reconstruct_float32"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("names", ["language_model.model.", "model.language_model."])
def test_the_command_line_takes_a_wrapper_with_its_vision_tower(golden, names, tmp_path, capsys):
    for half in ("av", "ar"):
        _wrap(golden / "gemma3" / half, tmp_path / half, names)
    with pytest.raises(SystemExit) as end:
        app(["nla", "validate", str(tmp_path)])
    printed = capsys.readouterr().out
    assert end.value.code == 0, printed
    assert "fail" not in printed.lower()


def _wrap(source, folder, names):
    """The checkpoint as a multimodal wrapper's file names it, with weights of a vision tower beside
    it: more blocks than the text has.
    """
    shutil.copytree(source, folder)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    text = json.loads((source / "config.json").read_text())
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    vision |= {"image_size": 8, "patch_size": 4, "model_type": "siglip_vision_model"}
    config = {
        "model_type": "gemma3",
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": text,
    }
    config |= {"vision_config": vision, "mm_tokens_per_image": 4, "image_token_index": 7}
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(source / "model.safetensors")
    renamed = {names + name.removeprefix("model."): tensor for name, tensor in weights.items()}
    tower = "vision_tower.vision_model"
    renamed[f"{tower}.post_layernorm.weight"] = torch.ones(16)
    for block in range(12):
        renamed[f"{tower}.encoder.layers.{block}.layer_norm1.weight"] = torch.ones(16)
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
