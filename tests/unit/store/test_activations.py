import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gloss.data import (
    ActivationWriter,
    activation_schema,
    iter_activations,
    read_activations,
    vectors_as_array,
)
from gloss.errors import DatasetError
from gloss.store import activations as module

finite = st.floats(width=32, allow_nan=False, allow_infinity=False).map(np.float32)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def table_of(vectors, strings=None, ids=None):
    vectors = np.asarray(vectors, dtype=np.float32)
    n = len(vectors)
    columns = {
        "n_raw_tokens": list(range(1, n + 1)),
        "detokenized_text_truncated": strings or ["text"] * n,
        "activation_vector": module.vector_column(vectors),
        "activation_layer": [2] * n,
        "doc_id": ids or [f"d{i}" for i in range(n)],
        "position": list(range(n)),
        "token_id": [1] * n,
        "token": ["t"] * n,
    }
    return pa.table(columns, schema=activation_schema(vectors.shape[1]))


def write(path, *tables, d_model=3):
    with ActivationWriter(path, activation_schema(d_model)) as writer:
        for table in tables:
            writer.write(table)
    return writer


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(finite, finite, finite, texts, texts), min_size=1, max_size=12))
def test_rows_come_back_bit_for_bit(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "a.parquet"
    vectors = np.asarray([row[:3] for row in rows], dtype=np.float32)
    table = table_of(vectors, [row[3] for row in rows], [row[4] for row in rows])
    write(path, table)
    found = read_activations(path)
    assert found.equals(table)
    assert found["activation_vector"].chunk(0).flatten().to_numpy().tobytes() == vectors.tobytes()


def test_the_cut_into_writes_does_not_change_the_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROW_GROUP_BYTES", 4 * 3 * 10)
    whole = table_of(np.random.default_rng(0).normal(size=(47, 3)))
    write(tmp_path / "a.parquet", whole)
    write(tmp_path / "b.parquet", *(whole.slice(i, 4) for i in range(0, 47, 4)))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    metadata = pq.ParquetFile(tmp_path / "a.parquet").metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [
        10,
        10,
        10,
        10,
        7,
    ]


def test_norm_statistics_of_what_was_written(tmp_path):
    vectors = np.zeros((101, 3), dtype=np.float32)
    vectors[:, 1] = np.arange(101)
    writer = write(tmp_path / "a.parquet", table_of(vectors[:40]), table_of(vectors[40:]))
    assert writer.num_rows == 101
    assert writer.norm_statistics == pytest.approx(
        {"mean": 50, "p50": 50, "p75": 75, "p99": 99, "max": 100}
    )


def write_then_fail(writer):
    writer.write(table_of(np.ones((2, 3))))
    writer.write(table_of(np.ones((2, 3))).drop_columns(["doc_id"]))


def test_a_failed_write_leaves_nothing(tmp_path):
    with (
        pytest.raises(DatasetError, match="different columns"),
        ActivationWriter(tmp_path / "a.parquet", activation_schema(3)) as writer,
    ):
        write_then_fail(writer)
    assert list(tmp_path.iterdir()) == []


def test_vectors_are_read_without_a_copy_and_slices_are_respected():
    table = table_of(np.arange(12).reshape(4, 3) + 1)
    vectors = vectors_as_array(table)
    assert np.shares_memory(vectors, table["activation_vector"].chunk(0).flatten().to_numpy())
    assert vectors_as_array(table.slice(1, 2)).tolist() == [[4, 5, 6], [7, 8, 9]]
    assert vectors_as_array(pa.concat_tables([table, table])).shape == (8, 3)
    assert vectors_as_array(table.slice(0, 0)).shape == (0, 3)


@pytest.mark.invariant("gold-without-direction")
@pytest.mark.parametrize(
    ("value", "found"),
    [(0.0, "zero"), (np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")],
)
def test_rows_without_direction_are_refused_by_file_and_row(value, found):
    vectors = np.ones((5, 3))
    vectors[3] = value
    with pytest.raises(DatasetError, match=rf"a\.parquet: row 3.*{found}"):
        vectors_as_array(table_of(vectors), where="a.parquet")


def test_missing_vectors_are_refused():
    column = pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2))
    with pytest.raises(DatasetError, match="row 1: no activation"):
        vectors_as_array(pa.table({"activation_vector": column}))


def test_a_folder_of_shards_is_one_dataset(tmp_path):
    whole = table_of(np.random.default_rng(0).normal(size=(9, 3)))
    for index in range(3):
        write(tmp_path / f"shard-{index}.parquet", whole.slice(3 * index, 3))
    assert read_activations(tmp_path).equals(whole.combine_chunks())
    batches = list(iter_activations(tmp_path, batch_rows=2, columns=["doc_id"]))
    assert [len(batch) for batch in batches] == [2, 1, 2, 1, 2, 1]


def test_what_is_no_dataset_is_said_in_one_line(tmp_path):
    (tmp_path / "junk.parquet").write_bytes(b"PAR1 junk")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    wrong = table_of(np.ones((2, 3))).set_column(
        2, "activation_vector", pa.array([["a"], ["b"]], pa.list_(pa.string()))
    )
    pq.write_table(wrong, tmp_path / "wrong.parquet")
    (tmp_path / "empty").mkdir()
    for name, message in [
        ("junk.parquet", "not a Parquet file"),
        ("other.parquet", "no column 'activation_vector'"),
        ("wrong.parquet", "wrong type of activation_vector"),
        ("nowhere.parquet", "no such dataset"),
        ("empty", "no Parquet files"),
    ]:
        with pytest.raises(DatasetError, match=message) as caught:
            read_activations(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.invariant("older-3")
@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.list_(pa.float64()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float16(), 3),
        pa.list_(pa.float64(), 3),
    ],
    ids=str,
)
def test_vectors_of_any_list_of_floats_are_read_and_nothing_else_is_needed(tmp_path, kind):
    vectors = np.asarray([[1, 2, 3], [4, 5, 0.5]], dtype=np.float16)
    item = vectors.astype(kind.value_type.to_pandas_dtype())
    column = pa.array([list(row) for row in item], kind)
    pq.write_table(pa.table({"activation_vector": column}), tmp_path / "a.parquet")
    found = read_activations(tmp_path / "a.parquet")
    assert found["activation_vector"].type == pa.list_(pa.float32(), 3)
    assert found["activation_vector"].to_pylist() == vectors.astype(np.float32).tolist()


@pytest.mark.invariant("older-3")
@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([[1.0, 2.0], [1.0, 2.0, 3.0]], "row 1: no activation.*found 3 numbers"),
        ([[1.0, 2.0], None], "row 1: no activation.*found null"),
        ([[1.0, 2.0], [1.0, None]], "row 1: no activation.*null among its numbers"),
    ],
)
def test_a_row_without_a_vector_of_the_common_width_is_named(tmp_path, rows, found):
    column = pa.array(rows, pa.list_(pa.float32()))
    pq.write_table(pa.table({"activation_vector": column}), tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match=found):
        read_activations(tmp_path / "a.parquet")


@pytest.mark.invariant("older-3")
def test_a_small_file_that_decodes_to_gigabytes_is_refused_before_it_is_decoded(tmp_path):
    column = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(90_000_000, np.float32)), 1000)
    file = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"activation_vector": column}), file, compression="zstd")
    assert file.stat().st_size < 1_000_000
    with pytest.raises(DatasetError, match="a file that grows out of proportion"):
        read_activations(file)
