"""The stages of the reference's data: what it drew is read and used, and the numbers at those
places are ours.
"""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gloss.contract import read_dataset_sidecar
from gloss.data import (
    LabelConfig,
    check_document_disjoint,
    label,
    read_activations,
    vectors_as_array,
)
from gloss.data.split import SPLITS
from gloss.errors import DatasetError
from gloss.providers import ScriptedLabeller
from gloss.target_model import capture_activations, load_target

SHUFFLED = ("av_sft", "ar_sft", "rl")


@pytest.fixture(scope="module", params=["qwen2", "gemma3"])
def family(request, golden):
    return golden / request.param


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def stage0(family):
    return read_json(family / "datagen/stage0_extraction.json")


@pytest.fixture(scope="module")
def target(family):
    return load_target(family / "base")


def test_vectors_at_the_recorded_positions_equal_the_references(family, stage0, target):
    table = read_activations(family / "datagen/base.parquet")
    vectors, rows = vectors_as_array(table), table.drop_columns(["activation_vector"]).to_pylist()
    place_of = {(row["doc_id"], row["n_raw_tokens"]): i for i, row in enumerate(rows)}
    assert (
        len(place_of)
        == len(rows)
        == sum(len(doc["positions_in_sampling_order"]) for doc in stage0["docs"])
    )
    used = 0
    for document in (doc for doc in stage0["docs"] if doc["positions_in_sampling_order"]):
        positions = document["positions_in_sampling_order"]
        assert min(positions) >= stage0["min_position"]
        ids = torch.tensor([document["token_ids"]])
        with torch.inference_mode():
            captured = capture_activations(target.model, ids, None, stage0["layer_index"])[
                0, positions
            ]
        wanted = vectors[[place_of[document["doc_id"], position + 1] for position in positions]]
        torch.testing.assert_close(captured, torch.from_numpy(wanted), rtol=1e-4, atol=1e-4)
        used += len(positions)
    assert used == len(rows)


def test_rows_stand_in_sampling_order_and_no_special_token_was_drawn(family, stage0):
    rows = read_activations(family / "datagen/base.parquet").to_pylist()
    order = [
        (doc["doc_id"], p + 1) for doc in stage0["docs"] for p in doc["positions_in_sampling_order"]
    ]
    assert [(row["doc_id"], row["n_raw_tokens"]) for row in rows] == order
    for document in stage0["docs"]:
        usable = [
            i
            for i, token in enumerate(document["token_ids"])
            if i >= stage0["min_position"] and token not in stage0["special_ids"]
        ]
        assert len(usable) == document["n_candidates"]
        assert set(document["positions_in_sampling_order"]) <= set(usable)


def test_recorded_norms_are_those_of_the_file(family, stage0):
    norms = np.linalg.norm(
        vectors_as_array(read_activations(family / "datagen/base.parquet")), axis=1
    )
    recorded = stage0["hidden_norms"]
    assert (norms.mean(), norms.min(), norms.max()) == pytest.approx(
        (recorded["mean"], recorded["min"], recorded["max"]), rel=1e-5
    )


def test_bfloat16_hidden_states_are_close_to_the_references(family, stage0):
    tensors = load_file(family / "datagen/stage0_full_hidden_states.safetensors")
    target, compared = load_target(family / "base", dtype="bfloat16"), 0
    for name in (name for name in tensors if name.endswith(".bfloat16_model")):
        ids = torch.tensor([stage0["docs"][int(name[3:].split(".")[0])]["token_ids"]])
        with torch.inference_mode():
            captured = capture_activations(target.model, ids, None, stage0["layer_index"])[0]
        assert captured.dtype == torch.bfloat16
        cosine = torch.nn.functional.cosine_similarity(
            captured.float(), tensors[name].float(), dim=1
        )
        assert float(cosine.min()) >= 0.97
        compared += 1
    assert compared == 2


def test_the_recorded_split_is_of_whole_documents_and_gloss_sees_it(family, tmp_path):
    recorded = read_json(family / "datagen/stage1_split.json")
    paths = {name: family / f"datagen/splits/{name}_raw.parquet" for name in SHUFFLED}
    check_document_disjoint(paths)
    base = {
        row["doc_id"]: 0 for row in read_activations(family / "datagen/base.parquet").to_pylist()
    }
    for name, path in paths.items():
        table = read_activations(path)
        assert len(table) == recorded["rows"][name]
        assert sorted(set(table["doc_id"].to_pylist())) == sorted(recorded["docs"][name])
        assert set(table["doc_id"].to_pylist()) <= set(base)
        assert set(paths) < set(SPLITS)
    assert sum(map(len, recorded["docs"].values())) == len(base) == recorded["n_docs_with_rows"]
    with pytest.raises(DatasetError, match="stands in rl and in heldout"):
        check_document_disjoint({"rl": paths["rl"], "heldout": family / "datagen/base.parquet"})


@pytest.mark.parametrize("part", ["av_sft", "ar_sft"])
def test_recorded_labels_are_kept_where_the_reference_kept_them(family, part, tmp_path):
    """The reference drops rows without a label or with one feature only; the others are in the
    file, cleaned.
    """
    calls = read_json(family / "datagen/stage2_calls.json")
    splits = family / "datagen/splits"
    explained = read_activations(splits / f"{part}_explained.parquet").to_pylist()
    instruction = calls["instruction_template"]
    assert (
        read_dataset_sidecar(splits / f"{part}_explained.parquet").labels["instruction_prompt"]
        == instruction
    )
    kept = {call["prompt"]: call["cleaned"] for call in calls["calls"] if call["kept"]}
    prompt_of = {
        (r["doc_id"], r["n_raw_tokens"]): instruction.replace(
            "{text}", r["detokenized_text_truncated"]
        )
        for r in read_activations(splits / f"{part}_raw.parquet").to_pylist()
    }
    for row in explained:
        assert kept[prompt_of[row["doc_id"], row["n_raw_tokens"]]] == row["api_explanation"]
    script = {place: kept[prompt] for place, prompt in prompt_of.items() if prompt in kept}
    labeller = ScriptedLabeller({(doc, length - 1): text for (doc, length), text in script.items()})
    result = label(
        LabelConfig(), splits / f"{part}_raw.parquet", labeller, tmp_path / "labelled.parquet"
    )
    assert read_activations(result.path).to_pylist() == explained


@pytest.mark.parametrize("part", SHUFFLED)
def test_recorded_row_shuffles_are_read_row_by_row(family, part):
    order = read_json(family / "datagen/shuffle_permutations.json")[part]
    before, after = (
        read_activations(family / f"datagen/{part}{end}.parquet") for end in ("", "_shuf")
    )
    assert after.to_pylist() == before.take(order).to_pylist()
    assert sorted(order) == list(range(len(before)))
    parents = read_dataset_sidecar(family / f"datagen/{part}_shuf.parquet").parent_datasets
    assert parents == (read_dataset_sidecar(family / f"datagen/{part}.parquet").dataset_id,)


def test_the_control_with_shuffled_vectors_moves_vectors_only(family):
    order = read_json(family / "datagen/shuffle_permutations.json")["ar_sft_randact_vectors"]
    before, after = (
        read_activations(family / f"datagen/ar_sft{end}.parquet") for end in ("", "_randact")
    )
    assert (vectors_as_array(after) == vectors_as_array(before)[order]).all()
    assert after.drop_columns(["activation_vector"]).equals(
        before.drop_columns(["activation_vector"])
    )
