"""Shuffled rows are the same rows, in an order that only the seed decides and that is uniform, in
bounded memory.
"""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gloss.contract import DatasetSidecar, read_dataset_sidecar, write_dataset_sidecar
from gloss.data import (
    ActivationWriter,
    ShuffleConfig,
    activation_schema,
    read_activations,
    shuffle,
    vectors_as_array,
)
from gloss.errors import ConfigError, DatasetError, LockError, ResumeError, SidecarError
from gloss.store.activations import VECTOR_COLUMN, vector_column

D_MODEL = 128


def write_dataset(path: Path, num_rows: int, *, d_model: int = D_MODEL) -> Path:
    """Row i holds the vector i+1 … and the text "row i"."""
    schema = activation_schema(d_model)
    path.parent.mkdir(parents=True, exist_ok=True)
    with ActivationWriter(path, schema) as writer:
        for first in range(0, num_rows, 5000):
            numbers = np.arange(first, min(first + 5000, num_rows))
            columns = {
                name: [0] * len(numbers)
                for name in ("n_raw_tokens", "activation_layer", "token_id")
            }
            columns |= {
                name: [f"row {i}" for i in numbers]
                for name in ("detokenized_text_truncated", "token")
            }
            columns |= {"position": numbers, "doc_id": [f"doc:{i // 10}" for i in numbers]}
            vectors = np.repeat(numbers[:, None] + 1, d_model, axis=1).astype(np.float32)
            writer.write(
                pa.table({**columns, VECTOR_COLUMN: vector_column(vectors)})
                .select(schema.names)
                .cast(schema)
            )
    sidecar = DatasetSidecar(
        dataset_id="base",
        stage="base",
        row_count=num_rows,
        base_model="m",
        d_model=d_model,
        layer=1,
    )
    write_dataset_sidecar(sidecar, path)
    return path


def order_of(folder: Path) -> list[int]:
    """The old places of the rows, after a check that every row is still one row."""
    table = read_activations(folder)
    places = table["position"].to_pylist()
    assert (vectors_as_array(table) == np.asarray(places)[:, None] + 1).all()
    assert table["detokenized_text_truncated"].to_pylist() == [f"row {i}" for i in places]
    assert table["doc_id"].to_pylist() == [f"doc:{i // 10}" for i in places]
    return places


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """40 MB, two shards' worth; five runs of 8 MB where 32 MB are allowed."""
    return write_dataset(tmp_path_factory.mktemp("large") / "base.parquet", 75_000)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("small") / "base.parquet", 200, d_model=4)


def test_every_row_comes_once_in_another_order(small, tmp_path):
    result = shuffle(ShuffleConfig(seed=3), small, tmp_path)
    order = order_of(tmp_path)
    assert sorted(order) == list(range(200))
    assert sum(place == i for i, place in enumerate(order)) < 10
    assert (result.rows, result.shards) == (200, 1)
    assert read_activations(tmp_path).schema == read_activations(small).schema


def test_the_sidecar_says_what_was_shuffled(small, tmp_path):
    shuffle(ShuffleConfig(seed=3), small, tmp_path)
    sidecar = read_dataset_sidecar(tmp_path)
    assert (sidecar.row_count, sidecar.d_model, sidecar.layer) == (200, 4, 1)
    assert sidecar.parent_datasets == ("base",)
    assert sidecar.dataset_id.startswith("base__shuffled_")


def test_memory_changes_nothing_but_where_the_rows_wait(large, tmp_path):
    shuffle(ShuffleConfig(seed=1, memory_mb=2000), large, tmp_path / "inside")
    shuffle(ShuffleConfig(seed=1, memory_mb=32), large, tmp_path / "outside")
    order = order_of(tmp_path / "inside")
    assert sorted(order) == list(range(75_000))
    assert order_of(tmp_path / "outside") == order
    assert len(list((tmp_path / "outside").glob("*.parquet"))) == 2
    assert not [path for path in (tmp_path / "outside").rglob("*") if path.suffix == ".arrow"]


def test_same_seed_same_bytes_other_seed_another_order(small, tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        shuffle(ShuffleConfig(seed=seed), small, tmp_path / name)
    bytes_of = {name: (tmp_path / name / "shard-00000.parquet").read_bytes() for name in "abc"}
    assert bytes_of["a"] == bytes_of["b"] != bytes_of["c"]


def test_every_order_of_four_rows_is_equally_likely(tmp_path):
    source = write_dataset(tmp_path / "base.parquet", 4, d_model=2)
    keys = [np.random.PCG64(seed).random_raw(4) for seed in range(4800)]
    counts = Counter(tuple(np.argsort(row, kind="stable").tolist()) for row in keys)
    assert len(counts) == 24
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 49.7, (
        "chi square, 23 degrees, p = 0.001"
    )
    for seed in (0, 1, 2):
        shuffle(ShuffleConfig(seed=seed), source, tmp_path / str(seed))
        assert order_of(tmp_path / str(seed)) == np.argsort(keys[seed], kind="stable").tolist()


def test_a_stopped_shuffle_goes_on_to_the_same_bytes(large, tmp_path, monkeypatch):
    config = ShuffleConfig(seed=2, memory_mb=64)
    shuffle(config, large, tmp_path / "whole")
    module = sys.modules["gloss.data.shuffle"]
    write = module._write_shard

    def stop_at_the_second(runs, index, *rest):
        if index == 1:
            raise KeyboardInterrupt
        return write(runs, index, *rest)

    monkeypatch.setattr(module, "_write_shard", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        shuffle(config, large, tmp_path / "stopped")
    monkeypatch.setattr(module, "_write_shard", write)
    first = tmp_path / "stopped/shard-00000.parquet"
    assert not (tmp_path / "stopped/.shuffle.tmp").exists()
    stamp = first.stat().st_mtime_ns
    (tmp_path / "stopped/.shuffle.tmp").mkdir()  # what a killed run leaves
    shuffle(config, large, tmp_path / "stopped")
    assert first.stat().st_mtime_ns == stamp
    for shard in sorted((tmp_path / "whole").glob("*.parquet")):
        assert (tmp_path / "stopped" / shard.name).read_bytes() == shard.read_bytes()


def test_a_finished_shuffle_is_kept_and_another_seed_is_refused(small, tmp_path):
    shuffle(ShuffleConfig(seed=1), small, tmp_path)
    stamp = (tmp_path / "shard-00000.parquet").stat().st_mtime_ns
    shuffle(ShuffleConfig(seed=1, memory_mb=64), small, tmp_path)
    assert (tmp_path / "shard-00000.parquet").stat().st_mtime_ns == stamp
    with pytest.raises(ResumeError, match="seed = 1 there, 2 here"):
        shuffle(ShuffleConfig(seed=2), small, tmp_path)


def test_a_folder_of_shards_is_shuffled_as_one_dataset(tmp_path):
    for i in range(3):
        write_dataset(tmp_path / "in" / f"shard-{i}.parquet", 10, d_model=2)
    write_dataset_sidecar(read_dataset_sidecar(tmp_path / "in/shard-0.parquet"), tmp_path / "in")
    shuffle(ShuffleConfig(), tmp_path / "in", tmp_path / "out")
    assert sorted(order_of(tmp_path / "out")) == sorted(list(range(10)) * 3)
    assert read_dataset_sidecar(tmp_path / "out").row_count == 30


def test_bad_input_is_refused(small, tmp_path):
    with pytest.raises(SidecarError, match="no sidecar"):
        shuffle(ShuffleConfig(), tmp_path / "nothing.parquet", tmp_path / "out")
    damaged = write_dataset(tmp_path / "damaged.parquet", 200, d_model=4)
    content = bytearray(damaged.read_bytes())
    content[60:90] = bytes(30)
    damaged.write_bytes(bytes(content))
    with pytest.raises(DatasetError, match="damaged"):
        shuffle(ShuffleConfig(), damaged, tmp_path / "out2")
    assert not list((tmp_path / "out2").glob("*.parquet"))
    mixed = write_dataset(tmp_path / "mixed/a.parquet", 10, d_model=2).parent
    write_dataset(mixed / "b.parquet", 10, d_model=3)
    write_dataset_sidecar(read_dataset_sidecar(mixed / "a.parquet"), mixed)
    with pytest.raises(DatasetError, match="different columns"):
        shuffle(ShuffleConfig(), mixed, tmp_path / "out3")


def test_too_little_memory_is_refused_with_what_is_needed(small, tmp_path, monkeypatch):
    module = sys.modules["gloss.data.shuffle"]
    extent = module.Extent(rows=10**9, num_bytes=4 * 10**12, vectors_shrink=False)
    monkeypatch.setattr(module, "read_extent", lambda path: extent)
    with pytest.raises(ConfigError, match=r"memory_mb of at least 40\d+, found 512"):
        shuffle(ShuffleConfig(), small, tmp_path)


def test_two_processes_do_not_write_one_folder(small, tmp_path):
    from gloss.durable import folder_lock

    with folder_lock(tmp_path), pytest.raises(LockError):
        shuffle(ShuffleConfig(), small, tmp_path)


def test_moving_rows_needs_no_torch():
    code = "import sys, gloss.data; print('torch' in sys.modules, 'transformers' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == ["False", "False"]
