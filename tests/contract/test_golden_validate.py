"""Every broken sidecar, head and tokenizer that the reference was tried with: ``validate`` names
it, or it is said why not.
"""

import json
import shutil

import pytest
import torch
import yaml
from reference_schema import missing_for_the_reference
from safetensors.torch import load_file, save_file

from gloss.contract import read_model_sidecar
from gloss.release.convert import ConvertOptions, convert
from gloss.release.validate import validate

# Sidecars that pass: what is unusual about each is allowed by the format, or only warned about.
PASSES = {
    "av.ok_reference": "unchanged",
    "av.suffix_ids_missing": "an AV needs no AR suffix",
    "av.template_av_empty_actor_present": "the other dialect's name holds the template",
    "av.template_both_dialects": "both names hold the same template",
    "av.template_word_drift_outside_slot": (
        "other words, but the marker stands between the recorded neighbours"
    ),
    "av.template_escaped_braces": "a doubled brace is a brace",
    "av.schema_version_missing": "read as the current one",
    "av.role_missing": "the documented minimal sidecar of an AV has none",
    "av.scale_sentinel": "sqrt_d_model is a number's name",
    "av.scale_raw": "activations go in raw",
    "av.scale_numeric_string": "a number in quotes is a number",
    "av.extra_unknown_fields": "kept for who knows them",
    "ar.ok_reference": "unchanged",
    "ar.role_critic": "the other dialect's name",
    "ar.mse_scale_missing": "√d_model is what it can only be",
    "ar.mse_scale_sentinel": "sqrt_d_model is a number's name",
    "ar.template_ar_empty_critic_present": "the other dialect's name holds the template",
    "ar.suffix_ids_null": "warned about: another's template would not be noticed",
    "ar.tokens_missing": "warned about, as above",
    "ar.layer_index_missing": "warned about: the layer can come from the AV",
    "ar.scale_null": "an AR injects nothing",
}
# The check that names the fault, where it is not the sidecar's own reading.
FAILS = {
    "av.token_id_plus_one": "marker token",
    "av.left_neighbour_wrong": "marker in prompt",
    "av.right_neighbour_wrong": "marker in prompt",
    "av.template_drift_at_slot": "marker in prompt",
    "av.d_model_wrong": "d_model",
    "av.role_ar": "head",
    "av.marker_multi_token": "marker token",
    "ar.mse_scale_other_number": "mse scale",
    "ar.mse_scale_string": "mse scale",
    "ar.d_model_wrong": "d_model",
    "ar.suffix_ids_wrong": "AR suffix",
    "ar.template_drift": "AR suffix",
}


@pytest.fixture(params=["qwen2", "gemma3"])
def family(request) -> str:
    return request.param


@pytest.fixture
def half_with(golden, family, tmp_path):
    """A copy of a half of the reference's, with another sidecar."""

    def copy(half: str, sidecar=None):
        folder = tmp_path / half
        shutil.copytree(golden / family / half, folder, dirs_exist_ok=True)
        if sidecar is not None:
            shutil.copyfile(sidecar, folder / "nla_meta.yaml")
        return folder

    return copy


def failed(folder) -> dict[str, str]:
    return {
        finding.check: f"{finding.says}. {finding.remedy}" for finding in validate(folder).failed
    }


def test_what_the_reference_made_passes(golden, family):
    validation = validate(golden / family)
    assert validation.passed
    assert {f.check for f in validation.findings if f.status == "warning"} <= {
        "licence",
        "layer",
        "base",
    }
    assert not [f for f in validation.findings if f.status == "skipped"]


def test_every_recorded_sidecar_passes_for_a_reason_or_fails_with_a_line(golden, family, half_with):
    cases = json.loads((golden / family / "errors/cases.json").read_text(encoding="utf-8"))[
        "sidecar_cases"
    ]
    seen = set()
    for case in (case for case in cases if case["sidecar"]):
        name = case["sidecar"].removesuffix(".yaml")
        lines = failed(half_with(name[:2], golden / family / "errors/sidecars" / case["sidecar"]))
        if name in PASSES:
            assert lines == {}, name
        else:
            assert lines, name
            assert "\n" not in "".join(lines.values())
            if name in FAILS:
                assert FAILS[name] in lines, (name, lines)
            else:
                assert "sidecar" in lines, (name, lines)
        seen.add(name)
    assert set(PASSES) | set(FAILS) <= seen


def _head(change):
    def damage(folder):
        file = folder / "value_head.safetensors"
        save_file(change(load_file(file)["weight"]), file)

    return damage


def _no_head(folder):
    (folder / "value_head.safetensors").unlink()


def _no_bos(folder):
    file = folder / "tokenizer.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    values["post_processor"] = None
    file.write_text(json.dumps(values), encoding="utf-8")


DAMAGES = {
    "value_head_missing": (_no_head, "head", "other tools use a random head"),
    "value_head_wrong_shape": (
        _head(lambda w: {"weight": w[:, :-1].contiguous()}),
        "head",
        "wrong AR head",
    ),
    "value_head_wrong_key": (_head(lambda w: {"kernel": w}), "head", "found kernel"),
    "value_head_with_bias": (
        _head(lambda w: {"weight": w, "bias": w[0].clone()}),
        "head",
        "without bias",
    ),
    "value_head_bfloat16": (
        _head(lambda w: {"weight": w.bfloat16()}),
        None,
        "a head in 16 bits is as good",
    ),
    "value_head_nan": (_head(lambda w: {"weight": w * torch.nan}), "finite", "NaN or infinity"),
    "tokenizer_does_not_add_bos": (_no_bos, "BOS", "exactly one BOS"),
}


def test_every_damaged_head_and_tokenizer_is_named(golden, family, half_with):
    path = golden / family / "errors/cases.json"
    cases = json.loads(path.read_text(encoding="utf-8"))["weight_and_tokenizer_cases"]
    for case in cases:
        folder = half_with("ar")
        damage, check, line = DAMAGES[case["case"]]
        damage(folder)
        lines = failed(folder)
        if check is None:
            assert lines == {}, case
        else:
            assert line in lines[check], (case, lines)
        shutil.rmtree(folder)


@pytest.mark.parametrize("dialect", ["released", "internal"])
def test_converted_to_either_dialect_it_has_what_the_reference_reads(
    golden, family, dialect, tmp_path
):
    folders = convert(golden / family, tmp_path / "out", ConvertOptions(dialect=dialect))
    for folder, half in zip(folders, ("av", "ar"), strict=True):
        source = read_model_sidecar(golden / family / half)
        needed = missing_for_the_reference(folder, half, dialect=dialect)
        # The reference's own AV of this family records no layer, in the internal dialect.
        assert needed == (
            ["extraction_layer_index"] if source.layer is None and dialect == "released" else []
        )
        assert read_model_sidecar(folder).marker == source.marker
        expected = golden / family / "sidecars" / f"{half}.{dialect}.yaml"
        values, wanted = (
            yaml.safe_load(p.read_text(encoding="utf-8"))
            for p in (folder / "nla_meta.yaml", expected)
        )
        for key in ("role", "d_model", "tokens", "prompt_templates", "critic"):
            assert values.get(key) == wanted.get(key), key
        weights = {**load_file(folder / "model.safetensors")}
        for name, tensor in load_file(golden / family / half / "model.safetensors").items():
            assert torch.equal(weights.pop(name), tensor)
        assert weights == {}
