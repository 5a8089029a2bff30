"""Each check finds its fault, says so in one line, and does not stop the others."""

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tiny_nla import LAYER, make_ar, with_bos

from gloss.errors import CheckpointError, SidecarError
from gloss.evaluate import RoundTrip
from gloss.models import direction_mse, direction_variance, save_ar
from gloss.release.round_trip_rules import _layer_is_right, _round_trip_carries, text_activations
from gloss.release.validate import validate
from gloss.release.weight_rules import describe_head
from gloss.target_model import load_target


def lines(folder, status="fail", **options) -> dict[str, str]:
    found = validate(folder, **options).findings
    return {f"{f.half} {f.check}": f"{f.says}. {f.remedy}" for f in found if f.status == status}


def warned(finding) -> str:
    """What a finding says that is a warning."""
    assert finding.status == "warning"
    return finding.says


def change_sidecar(folder, change):
    file = folder / "nla_meta.yaml"
    values = yaml.safe_load(file.read_text())
    change(values)
    file.write_text(yaml.safe_dump(values))


def change_json(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def change_weights(folder, change):
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def test_a_sound_pair_passes_and_is_only_warned_about_what_publishing_needs(nla_folder):
    assert validate(nla_folder).passed
    assert set(lines(nla_folder, "warning")) == {"av licence", "ar licence", "av base", "ar base"}


def _wrong_layer(folder):
    def change(values):
        values["extraction_layer_index"] = values["critic"]["extraction_layer_index"] = LAYER + 1

    change_sidecar(folder / "ar", change)


def _nan(folder):
    def change(weights):
        weights["model.layers.1.mlp.up_proj.weight"][0, 0] = torch.nan
        return weights

    change_weights(folder / "av", change)


def _without_block(folder):
    change_weights(
        folder / "ar", lambda weights: {n: w for n, w in weights.items() if ".layers.2." not in n}
    )


def _without_weight(folder):
    change_weights(
        folder / "ar",
        lambda weights: {n: w for n, w in weights.items() if ".layers.2.mlp.up" not in n},
    )


FAULTS = {
    "layer": (_wrong_layer, "ar layer", "K counts from 0, and an AR keeps K+1 blocks"),
    "nan": (_nan, "av finite", "model.layers.1.mlp.up_proj.weight in model.safetensors"),
    "block": (_without_block, "ar blocks", "without [2]"),
    "weight": (_without_weight, "ar blocks", "block 2 lacks a weight"),
    "padding": (
        lambda folder: change_json(folder / "ar/tokenizer_config.json", padding_side="left"),
        "ar padding side",
        "last real token",
    ),
    "lists": (
        lambda folder: change_json(folder / "ar/config.json", layer_types=["full_attention"] * 4),
        "ar per-block config",
        "expected 3 entries, found 4",
    ),
    "pickle": (
        lambda folder: (folder / "av/training_args.bin").write_bytes(b""),
        "av files",
        "can run code",
    ),
    "mse": (
        lambda folder: change_sidecar(
            folder / "ar", lambda v: v["extraction"].update(mse_scale=3.0)
        ),
        "ar mse scale",
        "√d_model",
    ),
    "other nla": (
        lambda folder: change_sidecar(
            folder / "av", lambda v: v.update(extraction_layer_index=LAYER - 1)
        ),
        "pair belong together",
        "different activations: layer",
    ),
    "other template": (
        lambda folder: change_sidecar(
            folder / "av", lambda v: v["prompt_templates"].update(ar="{explanation} is")
        ),
        "pair belong together",
        "different AR templates",
    ),
    "no config": (lambda folder: (folder / "av/config.json").unlink(), "av config", "config.json"),
    "garbage": (
        lambda folder: (folder / "ar/model.safetensors").write_bytes(b"x" * 64),
        "ar finite",
        "cannot be read",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_by_its_check(fault, nla_folder):
    damage, check, line = FAULTS[fault]
    checks = {(f.half, f.check) for f in validate(nla_folder).findings}
    damage(nla_folder)
    found = lines(nla_folder)
    assert line in found[check], found
    assert "\n" not in "".join(found.values())
    assert {
        (f.half, f.check) for f in validate(nla_folder).findings
    } == checks  # nothing was left out


def test_two_bos_or_none_are_found(lab_tokenizer, tmp_path):
    tokenizer = with_bos(lab_tokenizer)
    save_ar(make_ar(tokenizer), tmp_path / "ar")
    assert "ar BOS" not in lines(tmp_path / "ar")
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
    plain = type(lab_tokenizer)(
        tokenizer_object=lab_tokenizer.backend_tokenizer, bos_token=tokenizer.bos_token
    )
    plain.chat_template, plain.eos_token = tokenizer.chat_template, lab_tokenizer.eos_token
    plain.save_pretrained(tmp_path / "ar")
    assert "exactly one BOS" in lines(tmp_path / "ar")["ar BOS"]


def test_an_implausible_scale_and_mixed_types_are_warnings(nla_folder):
    change_sidecar(nla_folder / "av", lambda v: v["extraction"].update(injection_scale=1e9))
    change_weights(
        nla_folder / "av", lambda w: {n: t.bfloat16() if "mlp" in n else t for n, t in w.items()}
    )
    found = lines(nla_folder, "warning")
    assert "unusual injection scale" in found["av injection scale"]
    assert "in BF16" in found["av dtype"]
    assert validate(nla_folder).passed


def test_a_head_is_told_by_what_it_holds():
    generator = torch.Generator().manual_seed(0)
    identity = torch.eye(256)
    noise = torch.randn(256, 256, generator=generator)
    assert "has not been trained" in warned(describe_head(identity))
    with pytest.raises(CheckpointError, match="random initialisation"):
        describe_head(torch.nn.Linear(256, 256, bias=False).weight.detach())
    assert "no trace of the identity" in warned(describe_head(0.3 * noise))
    assert "mean diagonal 1.0" in describe_head(identity + 0.02 * noise)


def test_with_the_target_an_untrained_pair_carries_nothing(nla_folder):
    found = validate(nla_folder, target=str(nla_folder / "target"))
    assert (
        "no explanation could be extracted" in {f.check: f.says for f in found.failed}["round trip"]
    )
    wrong = lines(nla_folder, target=str(nla_folder / "av" / "nothing"))
    assert "no such model folder" in wrong["pair loads"]
    short = lines(nla_folder, target=str(nla_folder / "target"), texts=["x"])
    assert "too little text" in short["pair texts"]


@pytest.mark.parametrize("control", ["mean_direction", "empty_text"])
def test_a_round_trip_no_better_than_a_control_is_doubted(control):
    one = torch.ones(1)
    trip = RoundTrip([], one, 0.6 * one, one.bool(), 1.0)
    controls = {"shuffled_activations": -0.9, "mean_direction": -0.6, "empty_text": -0.8}
    assert "FVE 0.400" in _round_trip_carries(trip, controls)
    says = warned(_round_trip_carries(trip, controls | {control: 0.4}))
    assert says.startswith("no better than a control")
    assert "FVE 0.400" in says
    with pytest.raises(CheckpointError, match="nothing about their own activation"):
        _round_trip_carries(trip, controls | {"shuffled_activations": 0.4})


def test_the_layer_check_says_which_block_the_ar_rebuilds(nla_folder):
    target = load_target(nla_folder / "target")

    def trip_of(block):
        activations, vectors = text_activations(target, LAYER), text_activations(target, block)
        everywhere = torch.ones(len(vectors), dtype=torch.bool)
        return RoundTrip(
            [],
            vectors,
            direction_mse(vectors, activations),
            everywhere,
            direction_variance(activations),
        )

    assert f"block {LAYER} 1.000" in _layer_is_right(target, trip_of(LAYER), LAYER, None)
    with pytest.raises(SidecarError, match=f"probably {LAYER + 1}, not {LAYER}"):
        _layer_is_right(target, trip_of(LAYER + 1), LAYER, None)
    nothing = trip_of(LAYER)
    flipped = RoundTrip(
        [], -nothing.vectors, nothing.errors + 3, nothing.extracted, nothing.variance
    )
    assert "cannot be told" in warned(_layer_is_right(target, flipped, LAYER, None))


def test_one_half_alone_is_examined_and_a_place_without_one_is_an_error(nla_folder, tmp_path):
    assert {f.half for f in validate(nla_folder / "ar").findings} == {"ar"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no NLA here"):
        validate(tmp_path / "empty")


def test_what_needs_a_part_that_cannot_be_read_is_skipped_and_says_so(nla_folder):
    (nla_folder / "av" / "nla_meta.yaml").write_text("[")
    found = lines(nla_folder, "skipped")
    assert "needs a readable sidecar" in found["av marker token"]
    assert "needs two readable sidecars" in found["pair belong together"]
    assert "av sidecar" in lines(nla_folder)
