"""Datasets that the reference wrote are read as they are, and ours hold the same vectors, columns
and token ids.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from gloss.contract import extract_explanation, fill, read_dataset_sidecar, sidecar_path
from gloss.data import (
    BuildConfig,
    ExtractConfig,
    LabelConfig,
    activation_schema,
    ar_suffix_ids,
    build,
    extract,
    label,
    read_activations,
    read_corpus,
    vectors_as_array,
)
from gloss.providers import ScriptedLabeller

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
GOLDEN = SHARED / "golden"
FILES = sorted(GOLDEN.glob("*/datagen/**/*.parquet")) if GOLDEN.is_dir() else []
pytestmark = pytest.mark.skipif(not FILES, reason="golden data (../shared/golden) is not here")
D_MODEL = {"qwen2": 64, "gemma3": 48}


def family(path: Path) -> str:
    return path.relative_to(GOLDEN).parts[0]


def test_all_golden_files_are_seen():
    assert len(FILES) == 26


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(GOLDEN)))
def test_reference_datasets_are_read_exactly(path):
    table = read_activations(path)
    vectors = vectors_as_array(table, where=path)
    raw = pq.read_table(path)
    assert vectors.shape == (len(raw), D_MODEL[family(path)])
    assert vectors.dtype == np.float32
    assert vectors.tolist() == raw["activation_vector"].to_pylist()
    assert table.column_names == raw.column_names
    assert (
        table.drop_columns(["activation_vector"]).to_pylist()
        == raw.drop_columns(["activation_vector"]).to_pylist()
    )


@pytest.mark.parametrize(
    "path", [p for p in FILES if sidecar_path(p).exists()], ids=lambda p: str(p.relative_to(GOLDEN))
)
def test_reference_dataset_sidecars_fit_their_files(path):
    sidecar = read_dataset_sidecar(path)
    table = read_activations(path)
    assert sidecar.row_count == len(table)
    assert sidecar.d_model == D_MODEL[family(path)]
    assert set(table["activation_layer"].to_pylist()) == {sidecar.layer}
    if "response" in table.column_names:
        assert all(extract_explanation(text).text for text in table["response"].to_pylist())


@pytest.mark.parametrize("name", ["qwen2", "gemma3"])
def test_our_activation_files_begin_with_the_references_columns(name):
    reference = pq.read_schema(GOLDEN / name / "datagen" / "base.parquet").remove_metadata()
    ours = activation_schema(D_MODEL[name])
    assert ours.names[: len(reference.names)] == reference.names
    assert all(
        ours.field(column).type == reference.field(column).type for column in reference.names
    )


@pytest.mark.parametrize(
    ("family", "special"),
    [("qwen2", r"<\|im_(start|end)\|>"), ("gemma3", r"<(start|end)_of_turn>")],
)
def test_extraction_reads_the_references_tokens_and_hidden_states(family, special, tmp_path):
    from gloss.target_model import load_target

    folder = GOLDEN / family / "datagen"
    expected = json.loads((folder / "stage0_extraction.json").read_text())
    hidden = load_file(folder / "stage0_full_hidden_states.safetensors")
    config = ExtractConfig(
        layer=3,
        min_position=50,
        positions_per_doc=400,
        max_tokens=256,
        max_norm_ratio=None,
        batch_size=4,
    )
    read = read_corpus(str(GOLDEN / "corpus" / "train.jsonl"))
    corpus = [replace(document, rendered=True) for document in read]  # parsed by the reference
    extract(config, load_target(GOLDEN / family / "base"), corpus, tmp_path)
    table = read_activations(tmp_path)
    rows = list(zip(table.to_pylist(), vectors_as_array(table), strict=True))
    for index, document in enumerate(expected["docs"]):
        mine = [(row, vector) for row, vector in rows if row["doc_id"] == f"train:{index + 1}"]
        assert len(mine) == document["n_candidates"]
        assert [row["token_id"] for row, _ in mine] == [
            document["token_ids"][row["position"]] for row, _ in mine
        ]
        if f"doc{index}.float32" in hidden:
            states = hidden[f"doc{index}.float32"]
            for row, vector in mine:
                np.testing.assert_allclose(vector, states[row["position"]], atol=1e-4)
    reference = {
        (r["doc_id"].rpartition(":")[2], r["n_raw_tokens"]): r
        for r in read_activations(folder / "base.parquet").to_pylist()
    }
    ours = {
        (str(int(row["doc_id"].rpartition(":")[2]) - 1), row["n_raw_tokens"]): row
        for row, _ in rows
    }
    for key, row in reference.items():
        np.testing.assert_allclose(
            ours[key]["activation_vector"], row["activation_vector"], atol=1e-4
        )
        text = row["detokenized_text_truncated"]
        mine = re.sub(special, "", ours[key]["detokenized_text_truncated"])
        assert mine.startswith(text.rstrip("\ufffd"))
        assert text.endswith("\ufffd") or mine == text


@pytest.mark.parametrize("name", ["qwen2", "gemma3"])
def test_datasets_built_from_reference_activations_equal_the_references(name, tmp_path):
    from gloss.target_model import load_tokenizer

    folder = GOLDEN / name / "datagen"
    golden = {kind: folder / f"{kind}.parquet" for kind in ("av_sft", "ar_sft", "rl")}
    sidecar = read_dataset_sidecar(golden["ar_sft"])
    config = BuildConfig(
        av_template=sidecar.av_template, ar_template=sidecar.ar_template, marker=sidecar.marker.char
    )
    inputs = {
        "av_sft": folder / "splits" / "av_sft_explained.parquet",
        "ar_sft": folder / "splits" / "ar_sft_explained.parquet",
        "rl": folder / "splits" / "rl_raw.parquet",
    }
    result = build(config, inputs, load_tokenizer(GOLDEN / name / "base"), tmp_path)
    assert result.marker == sidecar.marker
    for kind, path in golden.items():
        ours, theirs = read_activations(result.paths[kind]), read_activations(path)
        assert ours.column_names == theirs.column_names
        assert ours.to_pylist() == theirs.to_pylist()
    prompts = read_activations(result.paths["ar_sft"])["prompt"].to_pylist()
    labels = read_activations(inputs["ar_sft"])["api_explanation"].to_pylist()
    assert prompts == [fill(sidecar.ar_template, explanation=text) for text in labels]


@pytest.mark.parametrize("name", ["qwen2", "gemma3"])
def test_ar_suffix_equals_the_references(name):
    from gloss.target_model import load_tokenizer

    sidecar = read_dataset_sidecar(GOLDEN / name / "datagen" / "ar_sft.parquet")
    suffix = ar_suffix_ids(load_tokenizer(GOLDEN / name / "base"), sidecar.ar_template)
    assert suffix == sidecar.ar_suffix_ids


def test_labels_of_the_reference_can_be_replayed(tmp_path):
    folder = GOLDEN / "qwen2" / "datagen" / "splits"
    explained = read_activations(folder / "av_sft_explained.parquet")
    script = {
        (row["doc_id"], row["n_raw_tokens"] - 1): row["api_explanation"]
        for row in explained.to_pylist()
    }
    result = label(
        LabelConfig(),
        folder / "av_sft_raw.parquet",
        ScriptedLabeller(script),
        tmp_path / "out.parquet",
    )
    assert (result.labelled, result.dropped) == (11, 4)
    assert read_activations(result.path).to_pylist() == explained.to_pylist()
