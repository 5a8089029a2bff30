from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import random_model
from tiny_nla import AR_TEMPLATE, AV_TEMPLATE, D_MODEL, LAYER, NUM_BLOCKS, nla_sidecar, write_rows

from gloss.contract import InjectionMarker
from gloss.errors import DatasetError, SidecarError
from gloss.target_model import blocks_of
from gloss.train import SFTConfig
from gloss.train.inputs import new_ar, new_av, read_training_rows, run_settings

NORMS = np.linspace(1, 1000, 9)


@pytest.fixture
def target(tmp_path, lab_tokenizer):
    model = random_model(vocab_size=len(lab_tokenizer), num_blocks=NUM_BLOCKS)
    with torch.no_grad():
        model.model.norm.weight.copy_(torch.linspace(0.5, 2, D_MODEL))
    model.save_pretrained(tmp_path / "target")
    lab_tokenizer.save_pretrained(tmp_path / "target")
    return str(tmp_path / "target")


@pytest.fixture
def vectors():
    rows = np.random.default_rng(0).normal(size=(9, D_MODEL))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True) * NORMS[:, None]).astype(np.float32)


@pytest.fixture
def rows(tmp_path, lab_tokenizer, vectors):
    return read_training_rows(
        write_rows(tmp_path / "rl.parquet", lab_tokenizer, vectors), text_column=None
    )


@pytest.mark.invariant("1")
def test_training_reads_activations_as_raw_as_they_were_captured(rows, vectors):
    assert np.array_equal(rows.vectors, vectors)
    np.testing.assert_allclose(np.linalg.norm(rows.vectors, axis=1), NORMS, rtol=1e-5)


def test_the_injection_scale_is_the_75th_percentile_of_the_norms_unless_it_is_set(rows, target):
    assert new_av(target, rows, None).sidecar.injection_scale == pytest.approx(
        np.percentile(NORMS, 75), rel=1e-5
    )
    assert new_av(target, rows, 30.0).sidecar.injection_scale == 30.0


@pytest.mark.invariant("10")
def test_templates_marker_and_layer_come_from_the_dataset(rows, target):
    for half in (new_av(target, rows, None), new_ar(target, rows)):
        sidecar = half.sidecar
        assert (sidecar.av_template, sidecar.ar_template) == (AV_TEMPLATE, AR_TEMPLATE)
        assert (sidecar.marker, sidecar.layer, sidecar.d_model) == (
            rows.sidecar.marker,
            LAYER,
            D_MODEL,
        )
        assert sidecar.mse_scale == pytest.approx(D_MODEL**0.5)
        assert sidecar.trained_on == ("rows",)


@pytest.mark.invariant("9")
def test_a_new_ar_has_k_plus_one_blocks_and_reads_block_k(rows, target):
    from gloss.target_model import capture_activations, load_target

    ar = new_ar(target, rows)
    assert len(blocks_of(ar.backbone)) == LAYER + 1
    ids = torch.tensor(ar.encode(["The mood is calm."]))
    with torch.inference_mode():
        expected = capture_activations(load_target(target).model, ids, None, LAYER)[:, -1]
        torch.testing.assert_close(ar(["The mood is calm."]), expected, atol=1e-5, rtol=1e-5)


def test_a_marker_that_was_added_to_the_tokenizer_gets_a_row_in_the_embedding(
    rows, target, lab_tokenizer
):
    good = rows.sidecar.marker
    added = InjectionMarker("㈎", len(lab_tokenizer), good.left_neighbor_id, good.right_neighbor_id)
    av = new_av(target, replace(rows, sidecar=replace(rows.sidecar, marker=added)), None)
    assert av.embedding.num_embeddings == len(lab_tokenizer) + 1
    assert added.token_id in av.tail_ids


@pytest.mark.invariant("10")
@pytest.mark.parametrize(
    "changed",
    [{"av_template": "Other"}, {"ar_template": "Other"}, {"layer": 1}, {"injection_scale": 3.0}],
)
def test_templates_layer_and_scale_are_among_what_a_resumed_run_must_share(
    changed, rows, lab_tokenizer
):
    config = SFTConfig.model_validate({"steps": 1, "optimizer": {"lr": 1e-3}})
    sidecar = nla_sidecar(lab_tokenizer, "av")
    before, after = (run_settings(config, rows, s) for s in (sidecar, replace(sidecar, **changed)))
    assert before != after


def test_a_dataset_without_its_text_is_refused(rows):
    with pytest.raises(DatasetError, match="no column 'response'"):
        read_training_rows(rows.path, text_column="response")


@pytest.mark.invariant("5")
@pytest.mark.parametrize("changed", [{"d_model": D_MODEL + 1}, {"ar_suffix_ids": (1, 2, 3)}])
def test_an_ar_is_not_begun_on_a_dataset_of_another_target(changed, rows, target):
    wrong = replace(rows, sidecar=replace(rows.sidecar, **changed))
    with pytest.raises(SidecarError, match=r"d_model|critic_suffix_ids"):
        new_ar(target, wrong)


@pytest.mark.invariant("5")
def test_an_av_is_not_begun_on_a_dataset_of_another_target(rows, target):
    with pytest.raises(SidecarError, match="d_model does not fit"):
        new_av(target, replace(rows, sidecar=replace(rows.sidecar, d_model=D_MODEL + 1)), None)
    with pytest.raises(SidecarError, match="layer is beyond"):
        new_av(target, replace(rows, sidecar=replace(rows.sidecar, layer=NUM_BLOCKS)), None)
