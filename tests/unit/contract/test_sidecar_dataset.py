import string

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gloss.contract import (
    DatasetSidecar,
    InjectionMarker,
    check_same_activations,
    read_dataset_sidecar,
    write_dataset_sidecar,
)
from gloss.errors import SidecarError, TemplateError

texts = st.text(alphabet=st.characters(codec="utf-8"), max_size=20)
names = st.text(alphabet=string.ascii_letters, min_size=1, max_size=8)
ids = st.integers(0, 300_000)
sidecars = st.builds(
    DatasetSidecar,
    dataset_id=texts.filter(bool),
    stage=texts,
    row_count=st.integers(0, 10**9),
    base_model=texts,
    d_model=st.integers(1, 20_000),
    layer=st.integers(0, 200),
    corpus=texts,
    corpus_slice=st.dictionaries(names, st.none() | st.integers(), max_size=2),
    positions_per_doc=st.none() | st.integers(0, 100),
    marker=st.none() | st.builds(InjectionMarker, st.characters(codec="utf-8"), ids, ids, ids),
    av_template=st.none() | st.just("<{injection_char}> ünder"),
    ar_template=st.none() | st.just("<{explanation}> end"),
    ar_suffix_ids=st.none() | st.lists(ids, min_size=1, max_size=4).map(tuple),
    norm_statistics=st.dictionaries(
        st.sampled_from(["mean", "p50", "p75", "p99", "max"]), st.floats(1e-6, 1e9)
    ),
    labels=st.dictionaries(names, texts | st.floats(allow_nan=False), max_size=3),
    parent_datasets=st.lists(texts, max_size=3).map(tuple),
    created_at=st.just("2026-01-02T03:04:05+00:00"),
    created_by=texts,
    extra=st.dictionaries(names.map("x_".__add__), texts, max_size=3),
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
@given(sidecar=sidecars)
def test_a_dataset_sidecar_survives_writing_and_reading(sidecar, tmp_path):
    parquet = tmp_path / "rows.parquet"
    assert write_dataset_sidecar(sidecar, parquet).name == "rows.parquet.nla_meta.yaml"
    assert read_dataset_sidecar(parquet) == sidecar


@pytest.fixture
def change(tmp_path):
    def write(*path_and_value):
        *blocks, key, value = path_and_value
        parquet = tmp_path / "rows.parquet"
        sidecar = DatasetSidecar(
            dataset_id="d", stage="base", row_count=3, base_model="m", d_model=8, layer=1
        )
        file = write_dataset_sidecar(sidecar, parquet)
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
        place = values
        for block in blocks:
            place = place[block]
        place[key] = value
        file.write_text(yaml.safe_dump(values), encoding="utf-8")
        return parquet

    return write


@pytest.mark.invariant("schema-version")
@pytest.mark.parametrize(
    "path_and_value",
    [
        ("kind", "nla_model"),
        ("schema_version", 7),
        ("row_count", "3"),
        ("extraction", "d_model", None),
        ("extraction", "layer_index", True),
        ("extraction", "norm_statistics", {"mean": "large"}),
        ("extraction", "norm_statistics", {"p75": float("nan")}),
        ("gloss", {"norm_statistics": {"p75": -1.0}}),
        ("gloss", {"labels": ["a"]}),
        ("gloss", "text"),
        ("gloss", {"extract": [1]}),
        ("gloss", {"extract": {"min_position": "50"}}),
        ("tokens", {"injection_char": "㈎", "injection_token_id": 3}),
    ],
    ids=str,
)
def test_a_bad_value_is_refused(change, path_and_value):
    with pytest.raises(SidecarError, match=r"rows\.parquet\.nla_meta\.yaml"):
        read_dataset_sidecar(change(*path_and_value))


REFERENCE_KEYS = {
    "dataset_id",
    "stage",
    "row_count",
    "extraction",
    "kind",
    "schema_version",
    "keep_debug_metadata",
    "prompt_templates",
    "api_summaries",
    "parent_datasets",
    "created_at",
    "created_by",
    "git_commit",
}
EXTRACTION_KEYS = {
    "base_model",
    "d_model",
    "layer_index",
    "norm",
    "corpus",
    "corpus_slice",
    "positions_per_doc",
}


@pytest.mark.invariant("older-2")
def test_only_the_references_keys_stand_outside_of_gloss(tmp_path):
    sidecar = DatasetSidecar(
        dataset_id="d",
        row_count=3,
        d_model=8,
        layer=1,
        norm_statistics={"p75": 2.5},
        labels={"model": "extractive", "keywords": 4, "seed": 7},
        extra={"gloss": {"extract": {"min_position": 12}, "counts": {"rows": 3}}},
    )
    parquet = tmp_path / "rows.parquet"
    values = yaml.safe_load(write_dataset_sidecar(sidecar, parquet).read_text(encoding="utf-8"))
    own = values.pop("gloss")
    assert set(values) == REFERENCE_KEYS
    assert set(values["extraction"]) == EXTRACTION_KEYS
    assert values["api_summaries"] == {
        "model": "extractive",
        "max_tokens": 0,
        "temperature": 0.0,
        "instruction_prompt": "",
    }
    assert own == {
        "norm_statistics": {"p75": 2.5},
        "labels": {"model": "extractive", "keywords": 4, "seed": 7},
        "extract": {"min_position": 12},
        "counts": {"rows": 3},
    }
    assert read_dataset_sidecar(parquet) == sidecar


def test_the_references_own_labels_are_written_once(tmp_path):
    asked = {"model": "m", "max_tokens": 300, "temperature": 0.5, "instruction_prompt": "Say {x}"}
    sidecar = DatasetSidecar(dataset_id="d", row_count=3, d_model=8, layer=1, labels=asked)
    file = write_dataset_sidecar(sidecar, tmp_path / "rows.parquet")
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert values["api_summaries"] == asked
    assert "gloss" not in values
    assert read_dataset_sidecar(tmp_path / "rows.parquet") == sidecar


def test_a_sidecar_of_an_earlier_gloss_is_still_read(change):
    parquet = change("extraction", "norm_statistics", {"mean": 1.5, "p75": 2.0})
    file = parquet.with_name("rows.parquet.nla_meta.yaml")
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    values["api_summaries"] = {"model": "lab", "seed": 0, "error_rate": 0.08}
    values["gloss"] = {"extract": {"min_position": 10}}
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    sidecar = read_dataset_sidecar(parquet)
    assert sidecar.norm_statistics == {"mean": 1.5, "p75": 2.0}
    assert sidecar.labels == {"model": "lab", "seed": 0, "error_rate": 0.08}
    assert sidecar.extra == {"gloss": {"extract": {"min_position": 10}}}


@pytest.mark.invariant("1")
def test_normalised_activations_are_refused(change):
    with pytest.raises(SidecarError, match="stored raw"):
        read_dataset_sidecar(change("extraction", "norm", "sqrt_d_model"))


def test_a_bad_template_is_refused_with_its_file(change):
    with pytest.raises(TemplateError, match=r"rows\.parquet\.nla_meta\.yaml"):
        read_dataset_sidecar(change("prompt_templates", {"actor": "no marker"}))


def test_a_missing_sidecar_names_itself(tmp_path):
    with pytest.raises(SidecarError, match=r"rows\.parquet\.nla_meta\.yaml: no sidecar"):
        read_dataset_sidecar(tmp_path / "rows.parquet")


@pytest.mark.invariant("5")
def test_halves_and_datasets_must_be_of_the_same_activations():
    def dataset(d_model, layer):
        return DatasetSidecar(
            dataset_id="d", stage="rl", row_count=1, base_model="m", d_model=d_model, layer=layer
        )

    check_same_activations(dataset(8, 1), dataset(8, 1))
    with pytest.raises(SidecarError, match="different activations: layer: expected 1, found 2"):
        check_same_activations(dataset(8, 1), dataset(8, 1), dataset(8, 2))
    with pytest.raises(SidecarError, match="different activations: d_model: expected 8, found 9"):
        check_same_activations(dataset(8, 1), dataset(9, 1))
