"""What a damaged or mismatched checkpoint is refused for; the reference takes most of these
silently.
"""

import json

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_nla import AR_TEMPLATE, AV_TEMPLATE, D_MODEL, LAYER, make_ar, make_av

from gloss.contract import SIDECAR_NAME, VALUE_HEAD_NAME
from gloss.errors import CheckpointError, MarkerError, SidecarError
from gloss.models import load_ar, load_av, save_ar, save_av


@pytest.fixture
def folder(tmp_path, lab_tokenizer):
    """A folder with ``av`` and ``ar``."""
    save_av(make_av(lab_tokenizer), tmp_path / "av")
    suffix = tuple(lab_tokenizer.encode("</text> <activation>", add_special_tokens=False))
    ar = make_ar(lab_tokenizer, ar_suffix_ids=suffix)
    torch.nn.init.normal_(ar.head.weight, generator=torch.Generator().manual_seed(3))
    save_ar(ar, tmp_path / "ar")
    return tmp_path


def _change_sidecar(folder, change):
    file = folder / SIDECAR_NAME
    values = yaml.safe_load(file.read_text())
    change(values)
    file.write_text(yaml.safe_dump(values))


def test_a_sound_pair_loads(folder):
    assert load_av(folder / "av").sidecar.injection_scale == 20.0
    assert load_ar(folder / "ar").reconstruct(["x"]).shape == (1, D_MODEL)


@pytest.mark.invariant("missing-head")
def test_a_missing_head_is_refused_and_not_made_up(folder):
    (folder / "ar" / VALUE_HEAD_NAME).unlink()
    with pytest.raises(CheckpointError, match="head is missing"):
        load_ar(folder / "ar")


@pytest.mark.invariant("missing-head")
@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": torch.ones(D_MODEL, 1)}, "wrong AR head"),
        ({"weight": torch.ones(D_MODEL + 1, D_MODEL + 1)}, "wrong AR head"),
        ({"bias": torch.ones(D_MODEL, D_MODEL)}, "wrong AR head"),
        ({"weight": torch.full((D_MODEL, D_MODEL), torch.nan)}, "NaN or infinity"),
    ],
    ids=["narrow", "wide", "unnamed", "nan"],
)
def test_a_wrong_head_is_refused(tensors, message, folder):
    save_file(tensors, folder / "ar" / VALUE_HEAD_NAME)
    with pytest.raises(CheckpointError, match=message):
        load_ar(folder / "ar")


@pytest.mark.invariant("5")
@pytest.mark.parametrize("half", ["av", "ar"])
def test_a_sidecar_of_another_width_is_refused(half, folder):
    _change_sidecar(folder / half, lambda values: values.update(d_model=D_MODEL + 1))
    with pytest.raises(SidecarError, match="d_model does not fit"):
        (load_av if half == "av" else load_ar)(folder / half)


@pytest.mark.invariant("9", "wrong-width-or-depth")
def test_an_ar_whose_depth_is_not_k_plus_one_is_refused(folder):
    def change(values):
        values["extraction_layer_index"] = values["critic"]["extraction_layer_index"] = LAYER - 1

    _change_sidecar(folder / "ar", change)
    with pytest.raises(
        SidecarError, match=f"expected {LAYER} blocks for layer {LAYER - 1}, found {LAYER + 1}"
    ):
        load_ar(folder / "ar")


@pytest.mark.invariant("10")
def test_an_ar_template_of_another_model_is_refused_by_its_suffix(folder):
    _change_sidecar(
        folder / "ar", lambda values: values["prompt_templates"].update(ar=f"{AR_TEMPLATE} then")
    )
    with pytest.raises(SidecarError, match="critic_suffix_ids"):
        load_ar(folder / "ar")


@pytest.mark.invariant("10")
def test_an_av_template_of_another_model_is_refused_by_the_markers_neighbours(folder):
    other = AV_TEMPLATE.replace("<concept>{", "<concept> {")
    _change_sidecar(folder / "av", lambda values: values["prompt_templates"].update(av=other))
    with pytest.raises(MarkerError, match="not where it must be"):
        load_av(folder / "av")


@pytest.mark.invariant("5", "bad-scales")
@pytest.mark.parametrize("scale", [0, -1.0, True, float("nan"), None])
def test_an_av_with_a_scale_that_is_none_is_refused(scale, folder):
    _change_sidecar(
        folder / "av", lambda values: values["extraction"].update(injection_scale=scale)
    )
    with pytest.raises(SidecarError, match="injection_scale"):
        load_av(folder / "av")


def test_the_other_half_is_refused(folder):
    with pytest.raises(CheckpointError, match="other half"):
        load_ar(folder / "av")
    with pytest.raises(CheckpointError, match="other half"):
        load_av(folder / "ar")


@pytest.mark.invariant("9")
def test_an_ar_folder_holds_k_plus_one_blocks_no_final_norm_and_no_lm_head(folder):
    with safe_open(folder / "ar" / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert {name.split(".")[2] for name in names if ".layers." in name} == {"0", "1", "2"}
    assert "model.norm.weight" not in names
    assert not any(name.startswith("lm_head") for name in names)
    config = json.loads((folder / "ar" / "config.json").read_text())
    assert config["num_hidden_layers"] == len(config["layer_types"]) == LAYER + 1


@pytest.mark.invariant("missing-head")
def test_an_ar_with_a_missing_block_is_refused(folder):
    file = folder / "ar" / "model.safetensors"
    kept = {
        name: tensor for name, tensor in load_file(file).items() if ".layers.2.mlp.up" not in name
    }
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="weights are missing"):
        load_ar(folder / "ar")


@pytest.mark.invariant("12")
def test_halves_saved_and_loaded_give_the_same_numbers(folder, lab_tokenizer):
    av, ar = load_av(folder / "av"), load_ar(folder / "ar")
    save_av(av, folder / "again" / "av")
    save_ar(ar, folder / "again" / "ar")
    texts = ["The mood is calm.", "x"]
    again = load_ar(folder / "again" / "ar").reconstruct(texts)
    torch.testing.assert_close(again, ar.reconstruct(texts), rtol=1e-5, atol=1e-4)
    ids, mask = av.encode_responses(texts)
    activations = torch.randn(2, D_MODEL, generator=torch.Generator().manual_seed(0))
    expected = make_av(lab_tokenizer).response_logits(activations, ids, mask)
    logits = load_av(folder / "again" / "av").response_logits(activations, ids, mask)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.invariant("12")
def test_a_loaded_ar_gives_the_numbers_that_were_saved(lab_tokenizer, tmp_path):
    ar = make_ar(lab_tokenizer)
    torch.nn.init.normal_(ar.head.weight, generator=torch.Generator().manual_seed(3))
    save_ar(ar, tmp_path / "ar")
    texts = ["The mood is calm.", "x"]
    loaded = load_ar(tmp_path / "ar")
    assert torch.equal(loaded.head.weight, ar.head.weight)
    torch.testing.assert_close(
        loaded.reconstruct(texts), ar.reconstruct(texts), rtol=1e-5, atol=1e-4
    )
