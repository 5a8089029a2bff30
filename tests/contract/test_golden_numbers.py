"""More numbers of the reference's own code: texts of prompts, bfloat16, scores, heads, baselines,
losses.
"""

import json

import pytest
import torch
from safetensors.torch import load_file

from gloss.contract import fill
from gloss.data import read_activations, vectors_as_array
from gloss.errors import ActivationError
from gloss.evaluate import RoundTrip, control_fves
from gloss.models import (
    ActivationReconstructor,
    cosine,
    direction_mse,
    direction_variance,
    fraction_of_variance_explained,
    load_ar,
    load_av,
    save_ar,
)
from gloss.models.injection import injection_sites
from gloss.nla import NLA
from gloss.target_model import load_target


@pytest.fixture(scope="module", params=["qwen2", "gemma3"])
def family(request, golden):
    return golden / request.param


@pytest.fixture(scope="module")
def ar(family):
    return load_ar(family / "ar")


@pytest.fixture(scope="module")
def av(family):
    return load_av(family / "av")


def expected(family, name):
    return json.loads((family / f"expected/{name}.json").read_text(encoding="utf-8"))


def cosines(one, other):
    return torch.nn.functional.cosine_similarity(one.float(), other.float(), dim=-1)


def test_the_prompt_is_the_references_text(family, av):
    info = expected(family, "av")
    assert av.tokenizer.decode(av.prefix_ids + av.tail_ids) == info["rendered_chat"]
    assert (
        fill(av.sidecar.av_template, injection_char=info["injection_char"]) == info["user_content"]
    )
    scale = float(av.embedding(torch.tensor([5])).norm() / av.embedding.weight[5].norm())
    assert scale == pytest.approx(info["embed_scale"], rel=1e-6)


def test_without_injection_the_logits_are_the_references(family, av):
    """What an AV says to its marker character, when nothing is injected."""
    tensors = load_file(family / "expected/av.safetensors")
    with torch.inference_mode():
        logits = av.model(torch.tensor([av.prefix_ids + av.tail_ids])).logits[0, -1]
    torch.testing.assert_close(logits, tensors["logits_without_injection"], rtol=1e-4, atol=1e-4)
    assert (logits - tensors["first_step_logits_float32"][0]).abs().max() > 1e-2


def test_bfloat16_embeddings_are_the_references_up_to_rounding(family):
    """The reference multiplies Gemma's embeddings by the unrounded factor, the model itself by the
    rounded one.
    """
    info, tensors = expected(family, "av"), load_file(family / "expected/av.safetensors")
    av, usable = load_av(family / "av", dtype="bfloat16"), tensors["vectors"].norm(dim=1) > 0
    mine = av.embed_after_prefix(tensors["vectors"][usable]).float()
    wanted = tensors["embeds_bfloat16_table"][usable][:, len(av.prefix_ids) :]
    site = injection_sites(torch.tensor([av.tail_ids]), av.marker)[0]
    rounding = info["checks"][
        "client_bfloat16_table_vs_hf_bfloat16_embedding_module_max_abs_diff_outside_slot"
    ]
    assert (mine - wanted)[:, ~site].abs().max() <= rounding
    torch.testing.assert_close(mine[:, site], wanted[:, site], rtol=2**-8, atol=1e-6)
    assert float(cosines(mine, wanted).min()) >= 0.9999


def test_bfloat16_first_tokens_are_close_to_float32(family):
    tensors = load_file(family / "expected/av.safetensors")
    av, usable = load_av(family / "av", dtype="bfloat16"), tensors["vectors"].norm(dim=1) > 0
    ids = torch.zeros(int(usable.sum()), 1, dtype=torch.long)
    with torch.inference_mode():
        logits = av.response_logits(
            tensors["vectors"][usable], ids, torch.ones_like(ids, dtype=torch.bool)
        )
    assert float(cosines(logits, tensors["first_step_logits_float32"][usable]).min()) >= 0.97


def test_ar_prompts_are_the_references_texts(family, ar):
    info = expected(family, "ar")
    assert ar.sidecar.ar_template == info["template"]
    assert [fill(info["template"], explanation=text) for text in info["explanations"]] == info[
        "prompts"
    ]
    assert ar.sidecar.mse_scale == pytest.approx(info["mse_scale"])
    rows = ar.encode(info["explanations"])
    suffix = list(ar.sidecar.ar_suffix_ids)
    assert [row[-len(suffix) :] == suffix for row in rows] == info["tail_matches_suffix_ids"]


def test_single_batched_and_any_order_give_the_references_vectors(family, ar):
    info, tensors = expected(family, "ar"), load_file(family / "expected/ar.safetensors")
    for text, wanted in zip(info["explanations"], tensors["reconstruct_float32"], strict=True):
        torch.testing.assert_close(ar.reconstruct([text])[0], wanted, rtol=1e-4, atol=1e-4)
    backwards = ar.reconstruct(info["explanations"][::-1], batch_size=3)
    torch.testing.assert_close(
        backwards.flip(0), tensors["reconstruct_float32"], rtol=1e-4, atol=1e-4
    )


def test_what_the_head_reads_is_the_references(family, ar):
    """The last real token of the last block, without a final norm."""
    info, tensors = expected(family, "ar"), load_file(family / "expected/ar.safetensors")
    read = []
    handle = ar.head.register_forward_hook(lambda _module, inputs, _output: read.append(inputs[0]))
    with torch.inference_mode():
        ar(info["explanations"])
    handle.remove()
    torch.testing.assert_close(read[0], tensors["backbone_hidden_float32"], rtol=1e-4, atol=1e-4)


def test_scores_are_the_references_in_both_formats(family):
    """The whole table of 8 texts and 8 activations, through the public ``score``."""
    info, tensors = expected(family, "ar"), load_file(family / "expected/ar.safetensors")
    texts, golds = info["explanations"], tensors["golds"]
    for dtype, tolerance in (("float32", 1e-4), ("bfloat16", 5e-2)):
        nla = NLA(ar=family / "ar", dtype=dtype)
        for i, text in enumerate(texts):
            scores = nla.score([text] * len(golds), golds)
            assert [s.direction_mse for s in scores] == pytest.approx(
                info[f"score_{dtype}_mse"][i], abs=tolerance
            )
            assert [s.cosine for s in scores] == pytest.approx(
                info[f"score_{dtype}_cos"][i], abs=tolerance
            )


def test_bfloat16_reconstructions_are_close_to_the_references(family):
    info, tensors = expected(family, "ar"), load_file(family / "expected/ar.safetensors")
    vectors = load_ar(family / "ar", dtype="bfloat16").reconstruct(info["explanations"])
    assert float(cosines(vectors, tensors["reconstruct_bfloat16"]).min()) >= 0.97


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_golds_that_score_nan_in_the_reference_are_refused(family, value):
    info = expected(family, "ar")
    assert info["score_zero_gold_explanation0"]["cos_is_nan"]
    assert info["score_nan_gold_explanation0"]["mse_is_nan"]
    nla = NLA(ar=family / "ar")
    with pytest.raises(ActivationError, match="no direction"):
        nla.score([info["explanations"][0]], torch.full((1, nla.sidecar.d_model), value))


def test_a_fresh_ar_has_an_identity_head_and_the_base_models_blocks(family, ar, tmp_path):
    recorded = expected(family, "ar_init_info")
    assert recorded["value_head_is_identity"]
    assert recorded["backbone_equals_base_blocks"]
    target = load_target(family / "base")
    save_ar(
        ActivationReconstructor.from_target(target.model, 3, target.tokenizer, ar.sidecar),
        tmp_path / "ar",
    )
    d_model = ar.sidecar.d_model
    assert torch.equal(
        load_file(tmp_path / "ar/value_head.safetensors")["weight"], torch.eye(d_model)
    )
    base, mine = (
        load_file(family / "base/model.safetensors"),
        load_file(tmp_path / "ar/model.safetensors"),
    )
    assert all(torch.equal(weight, base[name]) for name, weight in mine.items())


def test_the_sums_that_the_reference_logs_in_ar_training(family, ar):
    recorded = expected(family, "ar_sft_loss")
    table = read_activations(family / "datagen/ar_sft.parquet")
    golds = torch.from_numpy(vectors_as_array(table).copy())
    rows = ar.encode_prompts(table["prompt"].to_pylist())
    with torch.inference_mode():
        predicted = ar.reconstruct_ids(rows)
    errors, sums = direction_mse(predicted, golds), recorded["log_sums"]
    assert len(table) == recorded["n_rows"]
    assert float(errors.sum()) == pytest.approx(recorded["loss_sum"], abs=1e-3)
    assert float(predicted.norm(dim=1).sum()) == pytest.approx(sums["pred_norm_raw"], abs=1e-2)
    assert float(golds.norm(dim=1).sum()) == pytest.approx(sums["gold_norm_raw"], abs=1e-2)
    variance = direction_variance(golds)
    assert variance == pytest.approx(recorded["baseline_rawvar"], abs=1e-4)
    assert fraction_of_variance_explained(errors, variance) == pytest.approx(
        recorded["fve_nrm_mean"], abs=1e-3
    )
    assert sums["fve_nrm"] == pytest.approx(len(table) * recorded["fve_nrm_mean"], abs=1e-3)


def test_the_mean_direction_is_the_references_baseline(family, ar):
    """Predicting the mean's direction: its error is 2(1 − ‖mean‖), the control that every
    evaluation reports.
    """
    recorded = expected(family, "baselines")
    base = torch.from_numpy(
        vectors_as_array(read_activations(family / "datagen/base.parquet")).copy()
    )
    sft = torch.from_numpy(
        vectors_as_array(read_activations(family / "datagen/ar_sft.parquet")).copy()
    )
    cases = [
        (base, recorded["base_parquet"]["meannorm"]),
        (base[:10], recorded["base_parquet_max_rows_10"]["meannorm"]),
        (sft, expected(family, "ar_sft_loss")["baseline_meannorm"]),
    ]
    for vectors, meannorm in cases:
        variance = direction_variance(vectors)
        trip = RoundTrip(
            [], vectors, direction_mse(vectors, vectors), torch.ones(len(vectors)).bool(), variance
        )
        fve = control_fves(ar, trip, vectors, seed=0)["mean_direction"]
        assert (1 - fve) * variance == pytest.approx(meannorm, abs=1e-4)


def test_baselines_of_200_vectors_follow_from_ours_and_their_zero_row_is_refused(family):
    """The reference lets a zero row into its baselines, as a vector of norm 0; Gloss refuses it.

    Of 200 rows with one zero, the mean square is a = 199/200 and the mean a·m, so the variance is a
    − a²(1 − V) for V of the rest."""
    recorded = expected(family, "baselines")
    vectors = load_file(family / "expected/baselines_200.safetensors")["vectors"]
    assert recorded["row_13_is_zero"]
    with pytest.raises(ActivationError, match="row 13 has no direction"):
        direction_variance(vectors)
    rest = torch.cat([vectors[:13], vectors[14:]])
    variance, a = direction_variance(rest), 199 / 200
    with_zero = a - a**2 * (1 - variance)
    for name, values in recorded["baselines"].items():
        if values["mse_scale"] is None:
            continue  # not normalised: not a direction MSE
        per_element = values["mse_scale"] ** 2 / recorded["d"]
        assert values["rawvar"] == pytest.approx(per_element * with_zero, rel=1e-4), name
    assert recorded["baselines"]["sqrt_d_model"]["mse_scale"] == pytest.approx(recorded["d"] ** 0.5)


def test_cosine_and_direction_mse_are_one_number_in_the_reference_too(family):
    info = expected(family, "ar")
    table = torch.tensor(info["score_float32_mse"])
    torch.testing.assert_close(
        cosine(table), torch.tensor(info["score_float32_cos"]), rtol=1e-4, atol=1e-5
    )
