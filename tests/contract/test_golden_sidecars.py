"""Sidecars as the reference and the hub write them: the good ones are read, the wrong ones
refused.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from gloss.contract import (
    InjectionMarker,
    ModelSidecar,
    read_dataset_sidecar,
    read_model_sidecar,
    sidecar_path,
    verify_model_sidecar,
    write_dataset_sidecar,
    write_model_sidecar,
)
from gloss.errors import MarkerError, SidecarError, TemplateError


class Family(NamedTuple):
    d_model: int
    scale: float
    marker: InjectionMarker
    suffix: tuple[int, ...]


FAMILIES = {
    "qwen2": Family(64, 25.0, InjectionMarker("㈎", 864, 29, 366), (427, 29, 445, 590, 29)),
    "gemma3": Family(48, 22.5, InjectionMarker("㈜", 404, 769, 773), (616, 774)),
}
NUM_BLOCKS = {"av": 6, "ar": 4}
DIALECTS = [
    "av.internal",
    "av.released",
    "av.docs_minimal",
    "ar.internal",
    "ar.released",
    "ar.docs_minimal",
    "ar.schema_v1",
    "ar_init.internal",
]

ACCEPTED = [
    "av.ok_reference",
    "av.suffix_ids_missing",
    "av.template_av_empty_actor_present",
    "av.template_both_dialects",
    "av.template_word_drift_outside_slot",
    "av.template_escaped_braces",
    "av.schema_version_missing",
    "av.role_missing",
    "av.scale_sentinel",
    "av.scale_raw",
    "av.scale_numeric_string",
    "av.extra_unknown_fields",
    "ar.ok_reference",
    "ar.role_critic",
    "ar.mse_scale_missing",
    "ar.mse_scale_sentinel",
    "ar.mse_scale_string",
    "ar.mse_scale_other_number",
    "ar.template_ar_empty_critic_present",
    "ar.suffix_ids_null",
    "ar.tokens_missing",
    "ar.layer_index_missing",
    "ar.scale_null",
]
REFUSED = {
    MarkerError: [
        "av.token_id_plus_one",
        "av.left_neighbour_wrong",
        "av.right_neighbour_wrong",
        "av.marker_multi_token",
        "av.template_drift_at_slot",
    ],
    TemplateError: [
        "av.template_no_placeholder",
        "av.template_two_placeholders",
        "av.template_literal_marker_instead_of_placeholder",
        "av.template_unknown_field",
        "av.template_single_brace",
        "ar.template_no_placeholder",
        "ar.template_unknown_field",
        "ar.template_stray_brace",
    ],
    SidecarError: [
        "av.token_id_as_string",
        "av.marker_empty",
        "av.tokens_missing",
        "av.tokens_char_missing",
        "av.tokens_id_missing",
        "av.tokens_left_missing",
        "av.templates_missing",
        "av.template_av_missing",
        "av.d_model_wrong",
        "av.d_model_missing",
        "av.d_model_string",
        "av.kind_unknown",
        "av.kind_missing",
        "av.kind_dataset_shape",
        "av.schema_version_99",
        "av.role_ar",
        "av.extraction_missing",
        "av.scale_missing",
        "av.scale_null",
        "av.scale_zero",
        "av.scale_negative",
        "av.scale_nan",
        "av.scale_bool",
        "av.scale_garbage",
        "av.empty_file",
        "av.not_a_mapping",
        "av.broken_yaml",
        "ar.role_av",
        "ar.role_actor",
        "ar.role_missing",
        "ar.mse_scale_null",
        "ar.mse_scale_zero",
        "ar.template_missing",
        "ar.template_ar_missing",
        "ar.template_drift",
        "ar.suffix_ids_wrong",
        "ar.d_model_wrong",
        "ar.d_model_missing",
        "ar.layer_index_wrong",
        "ar.kind_unknown",
        "ar.empty_file",
    ],
}
# What every reference reader takes and Gloss refuses.
REFERENCE_ACCEPTS_GLOSS_REFUSES = [
    "av.scale_zero",
    "av.scale_negative",
    "av.scale_nan",
    "av.scale_bool",
    "av.schema_version_99",
    "av.kind_dataset_shape",
    "av.role_ar",
    "av.template_literal_marker_instead_of_placeholder",
    "ar.mse_scale_zero",
    "ar.template_no_placeholder",
    "ar.template_drift",
    "ar.suffix_ids_wrong",
    "ar.d_model_wrong",
    "ar.layer_index_wrong",
]


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture
def check(golden, family):
    """Reads a sidecar file and verifies it against the family's tokenizer, as loading a checkpoint
    does.
    """
    from transformers import AutoTokenizer

    tokenizers = {}

    def read_and_verify(file: Path) -> ModelSidecar:
        half = file.name[:2]
        if half not in tokenizers:
            tokenizers[half] = AutoTokenizer.from_pretrained(golden / family / half)
        sidecar = read_model_sidecar(file)
        d_model = FAMILIES[family].d_model
        verify_model_sidecar(
            sidecar, tokenizer=tokenizers[half], d_model=d_model, num_blocks=NUM_BLOCKS[half]
        )
        return sidecar

    return read_and_verify


@pytest.mark.invariant("two-readers")
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_is_read_and_verified(golden, family, check, dialect):
    sidecar, wanted = check(golden / family / "sidecars" / f"{dialect}.yaml"), FAMILIES[family]
    assert sidecar.role == dialect[:2]
    assert sidecar.d_model == wanted.d_model
    assert sidecar.mse_scale == pytest.approx(math.sqrt(wanted.d_model))
    assert sidecar.layer == (None if dialect in ("av.internal", "av.docs_minimal") else 3)
    if sidecar.role == "av":
        assert (sidecar.marker, sidecar.injection_scale) == (wanted.marker, wanted.scale)
    else:
        assert sidecar.ar_suffix_ids == wanted.suffix


def test_values_equal_those_of_the_reference_readers(golden, family):
    expected = json.loads(
        (golden / family / "sidecars" / "expected_parse.json").read_text(encoding="utf-8")
    )
    assert {f"{dialect}.yaml" for dialect in DIALECTS} == set(expected)
    for name, readers in expected.items():
        sidecar = read_model_sidecar(golden / family / "sidecars" / name)
        marker = sidecar.marker
        ours = {
            "d_model": sidecar.d_model,
            "injection_char": marker and marker.char,
            "injection_token_id": marker and marker.token_id,
            "injection_left_neighbor_id": marker and marker.left_neighbor_id,
            "injection_right_neighbor_id": marker and marker.right_neighbor_id,
            "actor_prompt_template": sidecar.av_template,
            "critic_prompt_template": sidecar.ar_template,
            "template": sidecar.ar_template,
            "critic_suffix_ids": sidecar.ar_suffix_ids and list(sidecar.ar_suffix_ids),
            "injection_scale": sidecar.injection_scale,
            "mse_scale": sidecar.mse_scale,
        }
        for reader in readers.values():
            for key, value in reader.get("value", {}).items():
                if key == "critic_num_layers":
                    assert value in (None, sidecar.layer), (name, key)
                else:
                    assert ours[key] == value, (name, key)


@pytest.mark.parametrize("case", ACCEPTED)
def test_good_sidecars_are_accepted(golden, family, check, case):
    sidecar = check(golden / family / "errors" / "sidecars" / f"{case}.yaml")
    root = math.sqrt(sidecar.d_model)
    scales = {"av.scale_sentinel": root, "av.scale_raw": None, "av.scale_numeric_string": 25.0}
    if case in scales:
        assert sidecar.injection_scale == scales[case]
    losses = {"ar.mse_scale_string": 7.5, "ar.mse_scale_other_number": 3.0}
    assert sidecar.mse_scale == pytest.approx(losses.get(case, root))


@pytest.mark.parametrize(
    ("error", "case"), [(error, case) for error, cases in REFUSED.items() for case in cases]
)
def test_wrong_sidecars_are_refused(golden, family, check, error, case):
    with pytest.raises(error) as caught:
        check(golden / family / "errors" / "sidecars" / f"{case}.yaml")
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)


def test_every_recorded_case_is_decided(golden, family):
    """A case that both reference readers settle the same way is only decided otherwise where it is
    listed above.
    """
    cases = json.loads((golden / family / "errors" / "cases.json").read_text(encoding="utf-8"))[
        "sidecar_cases"
    ]
    outcomes = {
        case["sidecar"].removesuffix(".yaml"): {
            v["outcome"] for v in case.values() if isinstance(v, dict)
        }
        for case in cases
        if case["sidecar"]
    }
    refused = [case for group in REFUSED.values() for case in group]
    assert sorted([*ACCEPTED, *refused]) == sorted(outcomes)
    agreed_good = {case for case, outcome in outcomes.items() if outcome == {"accepted"}}
    agreed_bad = {case for case, outcome in outcomes.items() if outcome == {"rejected"}}
    assert agreed_good - set(ACCEPTED) == set(REFERENCE_ACCEPTS_GLOSS_REFUSES)
    assert not agreed_bad & set(ACCEPTED)


@pytest.mark.parametrize("half", ["av", "ar"])
def test_the_released_dialect_is_written_with_the_same_keys_in_the_same_order(
    golden, family, half, tmp_path
):
    released = golden / family / "sidecars" / f"{half}.released.yaml"
    wanted = yaml.safe_load(released.read_text(encoding="utf-8"))
    written = yaml.safe_load(
        write_model_sidecar(read_model_sidecar(released), tmp_path).read_text(encoding="utf-8")
    )
    assert written == wanted
    assert list(written) == list(wanted)
    for block in ("extraction", "tokens", "prompt_templates"):
        assert list(written[block]) == list(wanted[block])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_is_the_same_sidecar_after_writing(golden, family, dialect, tmp_path):
    sidecar = read_model_sidecar(golden / family / "sidecars" / f"{dialect}.yaml")
    write_model_sidecar(sidecar, tmp_path)
    again = read_model_sidecar(tmp_path)
    for name in (
        "role",
        "d_model",
        "layer",
        "injection_scale",
        "mse_scale",
        "marker",
        "ar_suffix_ids",
        "av_template",
    ):
        assert getattr(again, name) == getattr(sidecar, name)


def test_unknown_keys_are_kept(golden, family, tmp_path):
    sidecar = read_model_sidecar(
        golden / family / "errors" / "sidecars" / "av.extra_unknown_fields.yaml"
    )
    assert sidecar.extra == {"future": {"a": 1}}
    write_model_sidecar(sidecar, tmp_path)
    assert read_model_sidecar(tmp_path).extra == sidecar.extra


def test_every_dataset_sidecar_of_the_reference_is_read_and_written_back(golden, family, tmp_path):
    parquets = sorted((golden / family / "datagen").rglob("*.parquet"))
    assert len(parquets) == 13
    for parquet in parquets:
        sidecar, wanted = read_dataset_sidecar(parquet), FAMILIES[family]
        assert (sidecar.d_model, sidecar.layer, sidecar.norm) == (wanted.d_model, 3, "none")
        built = parquet.parent.name != "splits" and parquet.name != "base.parquet"
        assert sidecar.marker == (wanted.marker if built else None)
        assert sidecar.ar_suffix_ids == (
            wanted.suffix if parquet.name.startswith("ar_sft") and built else None
        )
        assert ("model" in sidecar.labels) == (
            "sft" in parquet.name and not parquet.name.endswith("_raw.parquet")
        )
        write_dataset_sidecar(sidecar, tmp_path / parquet.name)
        assert read_dataset_sidecar(tmp_path / parquet.name) == sidecar


@pytest.mark.parametrize("d_model", [64, 3584])
def test_scales_have_the_values_of_the_reference_or_are_refused(golden, d_model, tmp_path):
    cases = json.loads(
        (golden / "common" / "resolve_target_scale.json").read_text(encoding="utf-8")
    )
    template = yaml.safe_load(
        (golden / "qwen2" / "sidecars" / "av.released.yaml").read_text(encoding="utf-8")
    )
    refused = []
    for case in (case for case in cases if case["d_model"] == d_model):
        values = template | {
            "d_model": d_model,
            "extraction": {"injection_scale": case["raw"], "mse_scale": 1.0},
        }
        (tmp_path / "nla_meta.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        try:
            assert read_model_sidecar(tmp_path).injection_scale == case["value"]
        except SidecarError:
            refused.append(case["raw"])
    assert refused == [None, 0, -3.5, "abc", "", True, [1.0], {"a": 1}, "Raw", "inf"]


def test_sidecar_paths_are_those_of_the_reference(golden, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zz_dir.v1").mkdir()
    cases = json.loads((golden / "common" / "sidecar_paths.json").read_text(encoding="utf-8"))
    assert {case["path"]: str(sidecar_path(Path(case["path"]))) for case in cases} == {
        case["path"]: case["sidecar"] for case in cases
    }
