import dataclasses
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from tiny_data import make_documents, make_target

from gloss.contract import read_dataset_sidecar, sidecar_path, write_dataset_sidecar
from gloss.data import ExtractConfig, SplitConfig, extract, read_activations, split
from gloss.data.split import SPLITS, assign
from gloss.durable import folder_lock
from gloss.errors import DatasetError, LockError, ResumeError, SidecarError

CONFIG = SplitConfig(av_sft=0.25, ar_sft=0.25, rl=0.25, heldout=0.25, seed=1)


@pytest.fixture(scope="module")
def activations(tmp_path_factory):
    out = tmp_path_factory.mktemp("activations")
    extract(
        ExtractConfig(min_position=5, positions_per_doc=3, shard_documents=25),
        make_target(),
        make_documents(80),
        out,
    )
    return out


@pytest.mark.invariant("2")
def test_every_row_lands_in_one_part_and_documents_are_never_divided(activations, tmp_path):
    result = split(CONFIG, activations, tmp_path)
    parts = {name: read_activations(result.paths[name]) for name in SPLITS}
    whole = read_activations(activations)
    assert sum(len(part) for part in parts.values()) == len(whole)
    ids = {name: set(part["doc_id"].to_pylist()) for name, part in parts.items()}
    assert sum(map(len, ids.values())) == len(set(whole["doc_id"].to_pylist()))
    for name, part in parts.items():
        assert all(assign(doc_id, CONFIG) == name for doc_id in ids[name])
        places = [
            (row["doc_id"], row["position"])
            for row in whole.to_pylist()
            if row["doc_id"] in ids[name]
        ]
        assert [(row["doc_id"], row["position"]) for row in part.to_pylist()] == places
        sidecar = read_dataset_sidecar(result.paths[name])
        assert sidecar.row_count == len(part) == result.rows[name]
        assert sidecar.parent_datasets == (read_dataset_sidecar(activations).dataset_id,)
        assert (
            sidecar.norm_statistics["max"]
            <= read_dataset_sidecar(activations).norm_statistics["max"] + 1e-5
        )
    assert result.documents == {name: len(found) for name, found in ids.items()}


@pytest.mark.parametrize(("halved", "compressed"), [(True, True), (False, False)])
def test_vectors_are_compressed_where_that_makes_them_smaller(
    activations, tmp_path, halved, compressed
):
    """Numbers of bfloat16 are half zeros; those of float32 are noise to a compressor."""
    table = read_activations(activations)
    vectors = np.random.default_rng(0).normal(size=(len(table), 64)).astype(np.float32)
    if halved:
        vectors = (vectors.view(np.uint32) & 0xFFFF0000).view(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 64)
    at = table.schema.get_field_index("activation_vector")
    file = tmp_path / "all.parquet"
    table = table.set_column(at, "activation_vector", column)
    long = pa.array(["The same words. " * 200] * len(table))
    at = table.schema.get_field_index("detokenized_text_truncated")
    table = table.set_column(at, "detokenized_text_truncated", long)
    pq.write_table(table, file, compression="zstd", use_dictionary=False)
    sidecar = dataclasses.replace(read_dataset_sidecar(activations), d_model=64)
    write_dataset_sidecar(sidecar, file)
    part = split(CONFIG, file, tmp_path / "parts").paths["rl"]
    group = pq.ParquetFile(part).metadata.row_group(0)
    columns = map(group.column, range(group.num_columns))
    (vectors,) = (one for one in columns if one.path_in_schema.startswith("activation_vector"))
    assert vectors.compression == ("ZSTD" if compressed else "UNCOMPRESSED")


def test_a_part_without_a_share_gets_nothing_by_rounding(monkeypatch):
    monkeypatch.setattr(sys.modules[assign.__module__], "keyed_fraction", lambda *_, **__: 1.0)
    shares = SplitConfig(av_sft=0.1, ar_sft=0.2, rl=0.7, heldout=0)
    assert assign("any", shares) == "rl"


def test_a_part_without_a_share_may_stay_empty(activations, tmp_path):
    shares = SplitConfig(av_sft=0.5, ar_sft=0.5, rl=0, heldout=0)
    assert split(shares, activations, tmp_path).rows["heldout"] == 0


def test_same_seed_same_bytes_and_a_second_run_keeps_the_files(activations, tmp_path):
    first = split(CONFIG, activations, tmp_path / "a")
    stamps = {name: path.stat().st_mtime_ns for name, path in first.paths.items()}
    assert split(CONFIG, activations, tmp_path / "a") == first
    assert stamps == {name: path.stat().st_mtime_ns for name, path in first.paths.items()}
    second = split(CONFIG, activations, tmp_path / "b")
    assert all(first.paths[name].read_bytes() == second.paths[name].read_bytes() for name in SPLITS)


def test_other_settings_are_refused(activations, tmp_path):
    split(CONFIG, activations, tmp_path)
    with pytest.raises(ResumeError, match="seed = 1 there, 2 here"):
        split(CONFIG.model_copy(update={"seed": 2}), activations, tmp_path)


def test_shares_are_met_on_many_documents():
    config = SplitConfig(av_sft=0.5, ar_sft=0.2, rl=0.3, heldout=0.0)
    found = [assign(f"doc:{i}", config) for i in range(10_000)]
    for name, share in config.shares.items():
        assert abs(found.count(name) / 10_000 - share) < 0.015
    assert "heldout" not in found


def test_shares_must_add_up():
    with pytest.raises(ValidationError, match=r"must add up to 1, they add up to 1\.2"):
        SplitConfig(av_sft=0.5, ar_sft=0.3, rl=0.3, heldout=0.1)


def test_too_few_documents_for_a_part_are_refused_and_leave_no_files(tmp_path):
    extract(ExtractConfig(min_position=0), make_target(), make_documents(1), tmp_path / "one")
    with pytest.raises(DatasetError, match=r"no document for .* and .*1 documents in all"):
        split(CONFIG, tmp_path / "one", tmp_path / "out")
    assert not [
        path for path in (tmp_path / "out").iterdir() if not path.name.startswith(".gloss.")
    ]


def test_what_cannot_be_read_is_named_and_leaves_no_files(activations, tmp_path):
    with pytest.raises(SidecarError, match=r"nothing\.parquet"):
        split(CONFIG, tmp_path / "nothing.parquet", tmp_path / "out")
    content = bytearray((activations / "shard-00001.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "in").mkdir()
    for file in activations.glob("shard-*.parquet"):
        (tmp_path / "in" / file.name).write_bytes(file.read_bytes())
    write_dataset_sidecar(read_dataset_sidecar(activations), tmp_path / "in")
    assert sidecar_path(tmp_path / "in").exists()
    (tmp_path / "in/shard-00001.parquet").write_bytes(content)
    with pytest.raises(DatasetError, match=r"shard-00001\.parquet: a damaged Parquet file"):
        split(CONFIG, tmp_path / "in", tmp_path / "out")
    other = read_activations(activations / "shard-00001.parquet").drop_columns(["token"])
    pq.write_table(other, tmp_path / "in/shard-00001.parquet")
    with pytest.raises(DatasetError, match=r"rows with different columns.*shards of one dataset"):
        split(CONFIG, tmp_path / "in", tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.parquet*"))


def test_two_processes_do_not_write_one_folder(activations, tmp_path):
    with folder_lock(tmp_path), pytest.raises(LockError):
        split(CONFIG, activations, tmp_path)


def test_a_dataset_of_several_shards_and_row_groups_is_split_in_its_order(activations, tmp_path):
    """Row groups are decoded ahead, the large ones of other tools in the foreground."""
    whole = read_activations(activations)
    pq.write_table(whole, tmp_path / "in.parquet", row_group_size=7)
    write_dataset_sidecar(read_dataset_sidecar(activations), tmp_path / "in.parquet")
    first, second = (
        split(CONFIG, source, tmp_path / name)
        for name, source in (("a", activations), ("b", tmp_path / "in.parquet"))
    )
    for name in SPLITS:
        assert read_activations(first.paths[name]).equals(read_activations(second.paths[name]))


def test_moving_rows_needs_no_torch():
    code = "import sys, gloss.data; print('torch' in sys.modules, 'transformers' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == ["False", "False"]
