"""Activations of any content come back bit for bit; a damaged file is named, or unharmed, never
read as other data.
"""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_activations import table_of, write

from gloss.data import iter_activations, read_activations, vectors_as_array
from gloss.errors import DatasetError
from gloss.store import activations as module
from gloss.store.activations import read_schema

quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
LARGEST, SMALLEST = float(np.finfo(np.float32).max), float(np.float32(1e-45))
floats = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.sampled_from(
    [LARGEST, -LARGEST, SMALLEST, -SMALLEST, 1.1754943508222875e-38, -0.0, 0.0, 1.0]
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
tables = st.lists(st.tuples(floats, floats, floats, texts, texts), max_size=40).map(
    lambda rows: (
        table_of(
            np.asarray([row[:3] for row in rows], dtype=np.float32).reshape(-1, 3),
            [row[3] for row in rows],
            [row[4] for row in rows],
        )
        if rows
        else table_of(np.zeros((0, 3)))
    )
)


def vector_bytes(table):
    return b"".join(
        chunk.flatten().to_numpy().tobytes() for chunk in table["activation_vector"].chunks
    )


@quick
@given(
    table=tables,
    group_rows=st.integers(1, 9),
    batch_rows=st.integers(1, 50),
    cuts=st.lists(st.integers(0, 40), max_size=3),
)
@example(table=table_of(np.zeros((0, 3))), group_rows=1, batch_rows=1, cuts=[])
def test_rows_come_back_bit_for_bit_whatever_the_cuts(
    table, group_rows, batch_rows, cuts, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "ROW_GROUP_BYTES", 4 * 3 * group_rows)
    edges = sorted({0, *cuts, len(table)})
    write(
        tmp_path / "a.parquet",
        *(table.slice(a, b - a) for a, b in itertools.pairwise(edges) if b > a),
    )
    whole = read_activations(tmp_path / "a.parquet")
    parts = list(iter_activations(tmp_path / "a.parquet", batch_rows=batch_rows))
    assert whole.equals(table)
    assert vector_bytes(whole) == vector_bytes(table)
    assert sum(map(len, parts)) == len(table)
    assert all(len(part) <= batch_rows for part in parts)
    if parts:
        assert pa.concat_tables(parts).combine_chunks().equals(table.combine_chunks())


@quick
@given(table=tables, sizes=st.lists(st.integers(0, 10), min_size=1, max_size=5))
def test_shards_read_as_one_in_order(table, sizes, tmp_path_factory):
    folder, start = tmp_path_factory.mktemp("shards"), 0
    for index, size in enumerate([*sizes, len(table)]):
        write(folder / f"shard-{index:05d}.parquet", table.slice(start, size))
        start = min(len(table), start + size)
    assert read_activations(folder).combine_chunks().equals(table.combine_chunks())


@quick
@given(
    table=tables,
    bad=st.sampled_from([None, 0.0, -0.0, float("nan"), float("inf"), -float("inf")]),
    row=st.integers(0, 39),
)
def test_a_row_without_direction_is_refused_by_file_and_row(table, bad, row, tmp_path):
    vectors = np.abs(vectors_or_empty(table)) + 1
    row = row % max(1, len(vectors))
    values = [*vectors.tolist(), [1.0, 1.0, 1.0]]
    values[row] = None if bad is None else [bad] * 3
    column = pa.array(values, pa.list_(pa.float32(), 3))
    whole = table_of(np.ones((len(values), 3))).set_column(2, "activation_vector", column)
    pq.write_table(whole, tmp_path / "a.parquet", row_group_size=3)
    with pytest.raises(DatasetError, match=rf"a\.parquet: row {row}: (no|an) activation"):
        vectors_as_array(read_activations(tmp_path / "a.parquet"), where=tmp_path / "a.parquet")
    if bad is None:
        with pytest.raises(DatasetError, match=rf"b\.parquet: row {row}: no activation"):
            write(tmp_path / "b.parquet", whole)
        assert not (tmp_path / "b.parquet").exists()


def vectors_or_empty(table):
    return module.raw_vectors(table).clip(-1e30, 1e30)


GOOD = table_of(
    np.random.default_rng(0).normal(size=(30, 3)), [f"text {i} é" for i in range(30)], ["dö"] * 30
)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "a.parquet"
    write(path, GOOD)
    return path.read_bytes()


def read_both_ways(path):
    """The table, or None where both ways of reading say that this file is damaged."""
    results = []
    for read in (
        read_activations,
        lambda path: pa.concat_tables(list(iter_activations(path, batch_rows=7))),
    ):
        try:
            results.append(read(path))
        except DatasetError as error:
            line = str(error)
            results.append(None)
            if not line.startswith(f"{path}: ") or "\n" in line:
                raise AssertionError(line) from error
    assert (results[0] is None) == (results[1] is None)
    return results


@settings(quick, max_examples=400)
@given(at=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_a_flipped_byte_is_found_or_changes_nothing(at, mask, good, tmp_path):
    damaged = bytearray(good)
    damaged[int(at * len(good))] ^= mask
    (tmp_path / "a.parquet").write_bytes(damaged)
    for found in read_both_ways(tmp_path / "a.parquet"):
        assert found is None or found.combine_chunks().equals(GOOD.combine_chunks())


def test_every_byte_of_the_footer_is_guarded(good, tmp_path):
    path, start = tmp_path / "a.parquet", len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    unnoticed = []
    for at in range(start, len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x20]) + good[at + 1 :])
        try:
            if not read_activations(path).equals(GOOD):
                unnoticed.append(at)
        except DatasetError:
            continue
    assert unnoticed == []


@settings(quick, max_examples=150)
@given(kept=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused_by_name(kept, good, tmp_path):
    (tmp_path / "a.parquet").write_bytes(good[: int(kept * len(good))])
    assert read_both_ways(tmp_path / "a.parquet") == [None, None]


def test_one_damaged_shard_of_several_is_named_with_what_to_do(good, tmp_path):
    for index in range(3):
        (tmp_path / f"shard-{index}.parquet").write_bytes(good)
    site = data_site(tmp_path / "shard-1.parquet")
    (tmp_path / "shard-1.parquet").write_bytes(
        good[:site] + bytes([good[site] ^ 1]) + good[site + 1 :]
    )
    for read in (read_activations, lambda path: list(iter_activations(path))):
        with pytest.raises(
            DatasetError, match=r"shard-1\.parquet: a damaged Parquet file.*make it again"
        ):
            read(tmp_path)
    assert len(next(iter_activations(tmp_path / "shard-0.parquet"))) == 30


def test_page_checksums_are_written(good, tmp_path):
    (tmp_path / "a.parquet").write_bytes(good)
    site = data_site(tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes(good[:site] + bytes([good[site] ^ 1]) + good[site + 1 :])
    assert not pq.read_table(tmp_path / "a.parquet").equals(GOOD)
    with pytest.raises(DatasetError, match=r"a damaged Parquet file.*CRC"):
        read_activations(tmp_path / "a.parquet")


def data_site(path):
    """A byte in a vector that Parquet itself would read without a complaint."""
    vectors = pq.ParquetFile(path).metadata.row_group(0).column(2)
    return vectors.data_page_offset + vectors.total_compressed_size - 12


def test_a_page_that_is_skipped_is_missed(good, tmp_path):
    """A page header whose type says index page makes Arrow's batch reader end early, without an
    error.
    """
    path, quiet = tmp_path / "a.parquet", []
    for at in range(4, len(good) // 2):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        try:
            if pq.ParquetFile(path).metadata.num_rows != sum(
                map(len, pq.ParquetFile(path).iter_batches())
            ):
                quiet.append(at)
        except (pa.ArrowException, OSError, UnicodeDecodeError):
            continue
    assert quiet
    for at in quiet:
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(DatasetError, match="damaged"):
            list(iter_activations(path))


def test_norms_of_huge_vectors_are_finite(tmp_path):
    written = write(tmp_path / "a.parquet", table_of(np.full((3, 3), LARGEST)))
    assert written.norm_statistics["max"] == pytest.approx(LARGEST * 3**0.5)


@pytest.mark.parametrize(
    "metadata", [None, {b"gloss.footer": b"length and crc32 0123456789abcdef"}]
)
def test_a_file_that_another_tool_wrote_from_ours_is_read(metadata, good, tmp_path):
    """Such a tool may copy what an earlier Gloss wrote into the footer, and change rows and
    columns.
    """
    (tmp_path / "a.parquet").write_bytes(good)
    with pq.ParquetFile(tmp_path / "a.parquet") as file:
        table = file.read().replace_schema_metadata(metadata)
    pq.write_table(table.slice(0, 9), tmp_path / "b.parquet")
    assert read_activations(tmp_path / "b.parquet").equals(GOOD.slice(0, 9))
    assert read_activations(tmp_path / "a.parquet").schema.metadata is None
    renamed = table.rename_columns([*table.column_names[:-1], "word"])
    pq.write_table(renamed, tmp_path / "c.parquet")
    assert read_activations(tmp_path / "c.parquet").column_names == renamed.column_names
    pq.write_table(table, tmp_path / "d.parquet", store_schema=False)
    assert read_activations(tmp_path / "d.parquet").equals(table.replace_schema_metadata(None))


def test_texts_of_another_tool_are_read_as_plain_strings(tmp_path):
    table = table_of(np.ones((2, 3)))
    for kind in (pa.large_string(), pa.string_view()):
        wide = table.set_column(4, "doc_id", table["doc_id"].cast(kind))
        pq.write_table(wide, tmp_path / "a.parquet")
        assert read_activations(tmp_path / "a.parquet").equals(table)
        assert pa.concat_tables(list(iter_activations(tmp_path / "a.parquet"))).equals(table)
        assert read_schema(tmp_path / "a.parquet").equals(table.schema)


def test_the_footer_of_a_dataset_to_train_on_is_guarded_to_the_names_inside_its_prompts(tmp_path):
    chat = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    prompts = pa.array([[{"role": "user", "content": "x"}]] * 30, chat)
    table = GOOD.append_column("prompt", prompts).append_column("response", pa.array(["r"] * 30))
    path = tmp_path / "a.parquet"
    with module.ActivationWriter(path, table.schema) as writer:
        writer.write(table)
    good, unnoticed = path.read_bytes(), []
    for at in range(len(good) - 8 - int.from_bytes(good[-8:-4], "little"), len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x20]) + good[at + 1 :])
        try:
            if not read_activations(path).equals(table):
                unnoticed.append(at)
        except DatasetError:
            continue
    assert unnoticed == []


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("doc_id", pa.array([1.0, 2.0]), "wrong type of doc_id"),
        ("n_raw_tokens", pa.array(["1", "2"]), "wrong type of n_raw_tokens"),
        ("position", pa.array([1, 2], pa.duration("s")), "wrong type of position"),
        ("token", pa.array([1, 2]), "wrong type of token"),
        ("activation_layer", pa.array([1.5, 2.0]), "values that do not fit their column"),
        ("activation_vector", pa.array([[], []], pa.list_(pa.float32(), 0)), "activation_vector"),
        (
            "activation_vector",
            pa.array([[1], [2]], pa.list_(pa.int32())),
            "wrong type of activation_vector",
        ),
    ],
)
def test_columns_of_a_wrong_type_are_refused(column, values, message, tmp_path):
    table = table_of(np.ones((2, 3)))
    at = table.column_names.index(column)
    pq.write_table(table.set_column(at, column, values), tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match=message):
        read_activations(tmp_path / "a.parquet")


def test_a_column_that_comes_twice_is_refused(tmp_path):
    table = table_of(np.ones((2, 3)))
    pq.write_table(table.append_column("doc_id", table["doc_id"]), tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match="'doc_id' is there more than once"):
        read_activations(tmp_path / "a.parquet")


def test_categories_of_another_tool_are_text(tmp_path):
    table = table_of(np.ones((2, 3)))
    at = table.column_names.index("doc_id")
    pq.write_table(
        table.set_column(at, "doc_id", table["doc_id"].dictionary_encode()), tmp_path / "a.parquet"
    )
    assert read_activations(tmp_path / "a.parquet")["doc_id"].to_pylist() == ["d0", "d1"]
