"""Every file of the golden data is read by a named test, or left out for a reason that stands
here.
"""

import ast
import hashlib
import json
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# Files (a family's name stands for *) and tests that read them, as file::test in this folder.
READ_BY = {
    "common/explanation_tags.json": (
        "prompts::test_extraction_agrees_with_the_reference_except_for_empty_texts"
    ),
    "common/injection.json": "common::test_the_marker_is_found_where_the_reference_overwrites",
    "common/injection.safetensors": (
        "common::test_injection_gives_the_references_embeddings_or_refuses"
    ),
    "common/normalize_activation.json": (
        "common::test_normalisation_equals_the_references_where_that_is_right"
    ),
    "common/normalize_activation.safetensors": (
        "common::test_normalisation_equals_the_references_where_that_is_right"
    ),
    "common/position_sampling.json": "common::test_recorded_positions_are_among_ours",
    "common/resolve_target_scale.json": (
        "sidecars::test_scales_have_the_values_of_the_reference_or_are_refused"
    ),
    "common/sidecar_paths.json": "sidecars::test_sidecar_paths_are_those_of_the_reference",
    "common/split_and_shuffle.json": (
        "common::test_recorded_splits_are_recognised_as_document_disjoint"
    ),
    "common/stage2_cleaning.json": "common::test_labels_that_the_reference_cleaned_pass_unchanged",
    "corpus/train.jsonl": "parquet::test_extraction_reads_the_references_tokens_and_hidden_states",
    "*/base/*": "datagen::test_vectors_at_the_recorded_positions_equal_the_references",
    "*/av/*": "models::test_greedy_tokens_equal_the_references",
    "*/ar/*": "models::test_reconstructions_equal_the_references",
    "*/sidecars/*.yaml": "sidecars::test_every_dialect_is_read_and_verified",
    "*/sidecars/expected_parse.json": "sidecars::test_values_equal_those_of_the_reference_readers",
    "*/expected/av.json": "models::test_prompt_ids_and_injection_site_equal_the_references",
    "*/expected/av.safetensors": "models::test_injected_embeddings_equal_the_references",
    "*/expected/ar.json": "numbers::test_scores_are_the_references_in_both_formats",
    "*/expected/ar.safetensors": "numbers::test_what_the_head_reads_is_the_references",
    "*/expected/ar_init_info.json": (
        "numbers::test_a_fresh_ar_has_an_identity_head_and_the_base_models_blocks"
    ),
    "*/expected/ar_sft_loss.json": "numbers::test_the_sums_that_the_reference_logs_in_ar_training",
    "*/expected/baselines.json": "numbers::test_the_mean_direction_is_the_references_baseline",
    "*/expected/baselines_200.safetensors": (
        "numbers::test_baselines_of_200_vectors_follow_from_ours_and_their_zero_row_is_refused"
    ),
    "*/datagen/*.parquet": "parquet::test_reference_datasets_are_read_exactly",
    "*/datagen/*.nla_meta.yaml": "parquet::test_reference_dataset_sidecars_fit_their_files",
    "*/datagen/stage0_extraction.json": (
        "datagen::test_vectors_at_the_recorded_positions_equal_the_references"
    ),
    "*/datagen/stage0_full_hidden_states.safetensors": (
        "datagen::test_bfloat16_hidden_states_are_close_to_the_references"
    ),
    "*/datagen/stage1_split.json": (
        "datagen::test_the_recorded_split_is_of_whole_documents_and_gloss_sees_it"
    ),
    "*/datagen/stage2_calls.json": (
        "datagen::test_recorded_labels_are_kept_where_the_reference_kept_them"
    ),
    "*/datagen/shuffle_permutations.json": (
        "datagen::test_recorded_row_shuffles_are_read_row_by_row"
    ),
    "*/errors/cases.json": "errors::test_every_recorded_activation_is_explained_or_refused",
    "*/errors/probe_vector.safetensors": (
        "errors::test_every_recorded_gold_is_scored_as_the_reference_does_or_refused"
    ),
    "*/errors/sidecars/*.yaml": (
        "errors::test_every_recorded_sidecar_is_refused_or_loads_to_the_references_numbers"
    ),
}
LEFT_OUT = {
    "README.md": "describes the data",
    "REFERENCE_SPEED.md": "times of the reference; make bench compares with the same shapes",
    "*/expected/http_requests.json": (
        "what a client sends to a server: belongs to the tests of the HTTP engines"
    ),
}
# What stands in files that are read and that no test looks at.
VALUES_LEFT_OUT = {
    "expected/av.json greedy.from_embeds_bfloat16_table": (
        "greedy text of bfloat16 embeddings depends on the CPU's kernels"
    ),
    "expected/av.json checks": "differences inside the reference; the bfloat16 one bounds ours",
    "expected/ar_sft_loss.json raw_mode_loss_sum": (
        "a loss on vectors that are not normalised: Gloss has none"
    ),
    "expected/baselines.json baselines.none": "the same, of baselines",
    "common/stage2_cleaning.json raw": (
        "how the reference cleans an LLM's answer; Gloss reads cleaned labels"
    ),
    "datagen/stage0_extraction.json two_shards_merged_vs_serial": "the reference's own consistency",
}


@pytest.fixture(scope="module")
def manifest(golden):
    return json.loads((golden / "manifest.json").read_text(encoding="utf-8"))["files"]


def _tests_of(name):
    tree = ast.parse((HERE / f"test_golden_{name}.py").read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("place", sorted(set(READ_BY.values())))
def test_the_named_tests_exist(place):
    name, test = place.split("::")
    assert test in _tests_of(name)


def test_every_golden_file_is_read_by_a_test_or_left_out_for_a_reason(manifest):
    nowhere = [
        file
        for file in manifest
        if not any(fnmatchcase(file, pattern) for pattern in (*READ_BY, *LEFT_OUT))
    ]
    assert nowhere == []
    both = [
        file
        for file in manifest
        if any(fnmatchcase(file, p) for p in READ_BY)
        and any(fnmatchcase(file, p) for p in LEFT_OUT)
    ]
    assert both == []


def test_no_pattern_is_left_over(manifest):
    unused = {p for p in READ_BY if not any(fnmatchcase(file, p) for file in manifest)}
    assert unused == set()


def test_the_files_are_those_of_the_manifest(golden, manifest):
    """Numbers of other files than these would say nothing."""
    for file, recorded in manifest.items():
        content = (golden / file).read_bytes()
        assert len(content) == recorded["bytes"], file
        assert hashlib.sha256(content).hexdigest() == recorded["sha256"], file


def test_what_is_left_out_inside_a_file_is_there(golden):
    """A value that is gone needs no excuse any more."""
    for place in VALUES_LEFT_OUT:
        file, _, keys = place.partition(" ")
        folder = golden if file.startswith("common/") else golden / "qwen2"
        value = json.loads((folder / file).read_text(encoding="utf-8"))
        for key in keys.split("."):
            value = value[0] if isinstance(value, list) else value
            assert key in value, place
            value = value[key]
