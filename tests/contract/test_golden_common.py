"""What the reference computes without a model: normalisation, injection, positions, splits,
shuffles, label texts.
"""

import json
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from gloss.contract import (
    DatasetSidecar,
    Explanation,
    ExtractionFailed,
    InjectionMarker,
    extract_explanation,
    read_dataset_sidecar,
    wrap_explanation,
    write_dataset_sidecar,
)
from gloss.data import (
    ActivationWriter,
    activation_schema,
    check_document_disjoint,
    read_activations,
    sample_positions,
    vectors_as_array,
)
from gloss.errors import ActivationError, DatasetError, InjectionError
from gloss.models.geometry import scale_to_norm
from gloss.models.injection import inject, injection_rows, injection_sites
from gloss.store.activations import VECTOR_COLUMN, vector_column

# Rows of normalize_activation that the reference gets wrong, in every number format; Gloss gives
# the right norm.
# Those of float16 depend on the scale as well: its range ends at 65 504.
FAULTS = {"float32": {5, 6, 8}, "bfloat16": {5, 6}, "float16": set()}


@pytest.fixture(scope="module")
def common(golden):
    def read(name):
        return json.loads((golden / "common" / f"{name}.json").read_text(encoding="utf-8"))

    return read


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("scale", ["sqrt_d", "150", "1", "80000"])
def test_normalisation_equals_the_references_where_that_is_right(golden, common, dtype, scale):
    tensors = load_file(golden / "common/normalize_activation.safetensors")
    case = common("normalize_activation")["cases"][f"{dtype}.{scale}"]
    rows, expected = tensors[f"input_as_{dtype}"], tensors[f"out.{dtype}.{scale}"].float()
    tolerance = {"float32": 1e-6, "bfloat16": 2**-7, "float16": 2**-9}[dtype]
    compared = 0
    for i, row in enumerate(rows):
        if not bool((row != 0).any() & torch.isfinite(row).all()):
            with pytest.raises(ActivationError, match="no direction"):
                scale_to_norm(row.unsqueeze(0), case["scale"])
            continue
        mine = scale_to_norm(row.unsqueeze(0), case["scale"])[0]
        assert float(mine.double().norm()) == pytest.approx(case["scale"], rel=1e-6)
        cosine = torch.nn.functional.cosine_similarity(
            mine.double(), row.double() / row.double().abs().max(), dim=0
        )
        assert float(cosine) == pytest.approx(1, abs=1e-6)
        right = case["out_norms"][i] == pytest.approx(case["scale"], rel=2e-2)
        if right:
            assert i not in FAULTS[dtype]
            torch.testing.assert_close(
                mine, expected[i], rtol=tolerance, atol=tolerance * case["scale"] / 8
            )
            compared += 1
    assert compared >= (2 if dtype == "float16" else 6)


def test_raw_injection_changes_no_activation(golden):
    tensors = load_file(golden / "common/normalize_activation.safetensors")
    rows = tensors["input_float32"]
    usable = rows.abs().amax(dim=1) > 0
    assert torch.equal(tensors["out.float32.none"][usable], injection_rows(rows[usable], None))


def _injection_cases(common):
    values = common("injection")
    return (
        InjectionMarker("x", values["marker_id"], values["left_id"], values["right_id"]),
        values["cases"],
    )


def test_the_marker_is_found_where_the_reference_overwrites(golden, common):
    """By id and both neighbours, with several sites, and in a slice of a sequence, whose sites are
    found in the whole.
    """
    tensors, (marker, cases) = (
        load_file(golden / "common/injection.safetensors"),
        _injection_cases(common),
    )
    for case in cases:
        ids, (first, last) = (
            torch.tensor(case["input_ids"]),
            case["seq_slice"] or (0, len(case["input_ids"][0])),
        )
        sites, accepted = injection_sites(ids, marker), case["result"]["package"]["ok"]
        assert (int(sites.sum()) == case["n_vectors"]) == accepted, case["name"]
        if accepted and case["n_vectors"]:
            whole = torch.zeros(*ids.shape, 6)
            whole[:, first:last] = tensors[f"{case['name']}.embeddings"]
            whole[sites] = tensors[f"{case['name']}.vectors"]
            for reader in ("package", "standalone"):
                if f"{case['name']}.{reader}.out" in tensors:
                    assert torch.equal(
                        whole[:, first:last], tensors[f"{case['name']}.{reader}.out"]
                    ), case["name"]


def test_injection_gives_the_references_embeddings_or_refuses(golden, common):
    """One marker in each row, as Gloss runs prompts: rows that hold several, and counts that
    differ, are refused.
    """
    tensors, (marker, cases) = (
        load_file(golden / "common/injection.safetensors"),
        _injection_cases(common),
    )
    accepted = []
    for case in (case for case in cases if case["n_vectors"] and not case["seq_slice"]):
        ids = torch.tensor(case["input_ids"])
        embeddings, vectors = (
            tensors[f"{case['name']}.{part}"] for part in ("embeddings", "vectors")
        )
        try:
            mine = inject(embeddings, ids, vectors, marker=marker, injection_scale=None)
        except InjectionError:
            continue
        assert torch.equal(mine, tensors[f"{case['name']}.package.out"])
        accepted.append(case["name"])
    assert accepted == ["single", "false_positive_neighbours", "batch_two_rows"]


def test_recorded_positions_are_among_ours(common):
    """The draw is not imitated; what can be drawn is the same: not before position 50, no special
    token.
    """
    for case in common("position_sampling")["cases"]:
        ids = [5 + (j * 7919) % 997 for j in range(case["n_tokens"])]
        special = {j for j, token in enumerate(ids) if token in case["special_ids"]}
        candidates = sample_positions(
            len(ids), seed=0, doc_id=case["doc_id"], count=10**6, min_position=50, excluded=special
        )
        assert set(case["positions"]) <= set(candidates)
        assert len(case["positions"]) == min(case["n_positions"], len(candidates))


def test_dataset_ids_of_the_reference_are_kept_as_they_are(common, tmp_path):
    """They are keyed on the corpus path, which Gloss does not do (decision 8); a file that carries
    one keeps it.
    """
    for i, example in enumerate(common("position_sampling")["dataset_id_examples"]):
        sidecar = DatasetSidecar(
            dataset_id=example["dataset_id"],
            stage="base",
            row_count=1,
            base_model=example["base_model"],
            d_model=4,
            layer=example["layer"],
            corpus=example["corpus"],
            corpus_slice=example["slice"],
        )
        write_dataset_sidecar(sidecar, tmp_path / f"{i}.parquet")
        assert read_dataset_sidecar(tmp_path / f"{i}.parquet") == sidecar


def _write(path, doc_ids, *, order=None):
    numbers = np.arange(len(doc_ids)) if order is None else np.asarray(order)
    schema = activation_schema(2)
    columns = {field.name: [0] * len(doc_ids) for field in schema if field.type == pa.int64()}
    columns |= {
        "position": numbers,
        "doc_id": [doc_ids[i] for i in numbers],
        "token": ["x"] * len(doc_ids),
    }
    columns |= {"detokenized_text_truncated": [f"row {i}" for i in numbers]}
    vectors = np.stack([numbers + 1, numbers + 2], axis=1).astype(np.float32)
    with ActivationWriter(path, schema) as writer:
        writer.write(
            pa.table({**columns, VECTOR_COLUMN: vector_column(vectors)}).select(schema.names)
        )
    return path


def test_recorded_splits_are_recognised_as_document_disjoint(common, tmp_path):
    for case in common("split_and_shuffle")["stage1"]:
        parts = {
            name: [f"c:train:{i}" for i in numbers]
            for name, numbers in case["split"].items()
            if numbers
        }
        assert sorted(chain(*case["split"].values())) == list(range(case["n_docs"]))
        files = {
            name: _write(tmp_path / f"{name}.parquet", [*ids, *ids]) for name, ids in parts.items()
        }
        check_document_disjoint(files)
        first, second = list(parts)[:2]
        files[second] = _write(tmp_path / "leak.parquet", [*parts[second], parts[first][0]])
        with pytest.raises(DatasetError, match=f"stands in {first} and in {second}"):
            check_document_disjoint(files)


def test_recorded_shuffles_are_read_and_lose_no_row(common, tmp_path):
    for case in common("split_and_shuffle")["shuffle"]:
        order = case["row_permutation_output_i_is_input_perm_i"]
        assert (
            sorted(order) == sorted(case["vector_only_permutation"]) == list(range(case["n_rows"]))
        )
        ids = [f"c:train:{i}" for i in range(case["n_rows"])]
        table = read_activations(_write(tmp_path / "shuffled.parquet", ids, order=order))
        assert table["doc_id"].to_pylist() == [ids[i] for i in order]
        assert (vectors_as_array(table)[:, 0] == np.asarray(order) + 1).all()
        shuffled_ids = {
            suffix: f"{case['dataset_id']}__{suffix}{case['seed']}"
            for suffix in ("shuf", "shuf_activations")
        }
        assert case["output_dataset_ids"] == list(shuffled_ids.values())


def test_labels_that_the_reference_cleaned_pass_unchanged(common):
    """Gloss reads cleaned labels; it takes them into responses and out again without another
    change.

    An empty one is refused where the reference keeps it: it carries nothing, and must not be
    trained on."""
    kept = 0
    for case in common("stage2_cleaning"):
        if case["cleaned"] is None:
            continue
        found = extract_explanation(wrap_explanation(case["cleaned"]))
        if case["cleaned"]:
            assert found == Explanation(case["cleaned"])
            kept += 1
        else:
            assert isinstance(found, ExtractionFailed)
            assert found.reason == "empty"
    assert kept == 15
