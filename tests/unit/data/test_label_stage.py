import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_data import make_documents, make_target

from gloss.contract import read_dataset_sidecar, sidecar_path, write_dataset_sidecar
from gloss.data import (
    ExtractConfig,
    LabelConfig,
    SplitConfig,
    extract,
    label,
    read_activations,
    split,
)
from gloss.data.split import check_document_disjoint
from gloss.errors import DatasetError, LabelError, ResumeError
from gloss.providers import ExtractiveLabeller, ScriptedLabeller

CONFIG = LabelConfig(labeller="scripted", chunk_rows=20)


@pytest.fixture(scope="module")
def activations(tmp_path_factory):
    out = tmp_path_factory.mktemp("activations")
    config = ExtractConfig(min_position=5, positions_per_doc=3, top_next_tokens=2)
    extract(config, make_target(), make_documents(30), out)
    return out


def describe(request):
    return f"{request.doc_id} at {request.position}"


def test_requests_show_text_token_and_place_and_labels_join_their_rows(activations, tmp_path):
    labeller = ScriptedLabeller(describe, needs_next_tokens=True, settings={"style": "plain"})
    result = label(CONFIG, activations, labeller, tmp_path / "out.parquet")
    rows = read_activations(result.path).to_pylist()
    assert len(rows) == result.labelled == len(labeller.requests)
    for row, request in zip(rows, labeller.requests, strict=True):
        assert row["api_explanation"] == describe(request)
        assert (request.doc_id, request.position) == (row["doc_id"], row["position"])
        assert (request.text, request.token) == (row["detokenized_text_truncated"], row["token"])
        assert request.next_tokens == tuple(row["top_next_tokens"])
    sidecar = read_dataset_sidecar(result.path)
    assert sidecar.labels == {"model": "scripted", "style": "plain", "seed": 0}
    assert sidecar.row_count == len(rows)
    assert [path.name for path in tmp_path.iterdir() if "chunks" in path.name] == []


@pytest.mark.invariant("edges-9")
@pytest.mark.parametrize("column", ["doc_id", "n_raw_tokens", "detokenized_text_truncated"])
def test_rows_that_lack_what_every_row_has_are_refused_by_every_stage(
    activations, tmp_path, column
):
    table, file = read_activations(activations), tmp_path / "holes.parquet"
    values = [None if i in (3, 7) else v for i, v in enumerate(table[column].to_pylist())]
    at = table.schema.get_field_index(column)
    kind = table.schema.field(column).type
    pq.write_table(table.set_column(at, column, pa.array(values, kind)), file)
    write_dataset_sidecar(read_dataset_sidecar(activations), file)
    message = f"rows without {column}: expected a value in each row, found none in 2 of"
    with pytest.raises(DatasetError, match=message):
        label(CONFIG, file, ScriptedLabeller(describe), tmp_path / "out.parquet")
    with pytest.raises(DatasetError, match=message):
        split(SplitConfig(), file, tmp_path / "parts")
    if column == "doc_id":
        with pytest.raises(DatasetError, match=message):
            check_document_disjoint({"rl": file})
    assert not (tmp_path / "out.parquet").exists()


def test_missing_empty_and_tagged_labels_are_left_out_and_counted(activations, tmp_path):
    wrong = {0: None, 1: "  ", 2: "a</explanation>b", 3: "<explanation>"}
    labeller = ScriptedLabeller(lambda request: wrong.get(request.position % 5, "fine"))
    result = label(CONFIG, activations, labeller, tmp_path / "out.parquet")
    positions = read_activations(activations)["position"].to_pylist()
    assert result.labelled == sum(position % 5 == 4 for position in positions)
    assert result.dropped == len(positions) - result.labelled
    assert set(read_activations(result.path)["api_explanation"].to_pylist()) == {"fine"}


def test_a_stopped_labelling_goes_on_to_the_same_bytes(activations, tmp_path):
    total = len(read_activations(activations))
    answers = [f"label {i}" for i in range(total)]
    whole = label(CONFIG, activations, ScriptedLabeller(answers), tmp_path / "whole.parquet")
    with pytest.raises(LabelError, match="run out"):
        label(CONFIG, activations, ScriptedLabeller(answers[:45]), tmp_path / "stopped.parquet")
    assert not (tmp_path / "stopped.parquet").exists()
    rest = ScriptedLabeller(answers[40:])
    resumed = label(CONFIG, activations, rest, tmp_path / "stopped.parquet")
    assert len(rest.requests) == total - 40
    assert resumed.path.read_bytes() == whole.path.read_bytes()
    silent = ScriptedLabeller([])
    assert label(CONFIG, activations, silent, tmp_path / "stopped.parquet") == resumed


@pytest.mark.invariant("stale-labels")
def test_changed_settings_are_refused_before_and_after_the_end(activations, tmp_path):
    with pytest.raises(LabelError):
        label(
            CONFIG,
            activations,
            ScriptedLabeller(["a"] * 25, settings={"style": 1}),
            tmp_path / "out.parquet",
        )
    with pytest.raises(ResumeError, match="style = 1 there, 2 here"):
        label(
            CONFIG,
            activations,
            ScriptedLabeller(describe, settings={"style": 2}),
            tmp_path / "out.parquet",
        )
    label(
        CONFIG,
        activations,
        ScriptedLabeller(describe, settings={"style": 1}),
        tmp_path / "out.parquet",
    )
    with pytest.raises(ResumeError, match="seed = 0 there, 5 here"):
        label(
            CONFIG.model_copy(update={"seed": 5}),
            activations,
            ScriptedLabeller(describe, settings={"style": 1}),
            tmp_path / "out.parquet",
        )


def test_next_tokens_come_from_the_column_the_target_or_an_error(activations, tmp_path):
    plain = tmp_path / "plain.parquet"
    pq.write_table(read_activations(activations).drop_columns(["top_next_tokens"]), plain)
    write_dataset_sidecar(read_dataset_sidecar(activations), plain)
    with pytest.raises(
        LabelError, match=r"needs the target's next tokens.*extract\.top_next_tokens"
    ):
        label(CONFIG, plain, ExtractiveLabeller(), tmp_path / "none.parquet")
    asked = ScriptedLabeller(describe, needs_next_tokens=True)
    label(CONFIG, plain, asked, tmp_path / "out.parquet", target=make_target())
    stored = read_activations(activations)["top_next_tokens"].to_pylist()
    same = [
        request.next_tokens[:2] == tuple(tokens)
        for request, tokens in zip(asked.requests, stored, strict=True)
    ]
    assert sum(same) > 0.9 * len(same)
    label(CONFIG, plain, ExtractiveLabeller(next_tokens=0), tmp_path / "free.parquet")


def test_wrong_answers_and_useless_labellers_are_errors(activations, tmp_path):
    class Short(ScriptedLabeller):
        def label(self, requests):
            return ["one"]

    with pytest.raises(LabelError, match="expected 20 labels, found 1"):
        label(CONFIG, activations, Short([]), tmp_path / "a.parquet")
    with pytest.raises(LabelError, match="gave no usable label"):
        label(CONFIG, activations, ScriptedLabeller(lambda request: None), tmp_path / "b.parquet")
    result = label(CONFIG, activations, ScriptedLabeller(describe), tmp_path / "c.parquet")
    with pytest.raises(DatasetError, match="labelled already"):
        label(CONFIG, result.path, ScriptedLabeller(describe), tmp_path / "d.parquet")
    assert sorted(path.name for path in tmp_path.glob("*.parquet")) == ["c.parquet"]


def test_a_file_without_gloss_columns_can_be_labelled(activations, tmp_path):
    own = ["position", "token_id", "token", "top_next_tokens"]
    table: pa.Table = read_activations(activations).drop_columns(own)
    pq.write_table(table, tmp_path / "reference.parquet")
    write_dataset_sidecar(read_dataset_sidecar(activations), tmp_path / "reference.parquet")
    assert sidecar_path(tmp_path / "reference.parquet").exists()
    labeller = ScriptedLabeller(describe)
    label(CONFIG, tmp_path / "reference.parquet", labeller, tmp_path / "out.parquet")
    assert [r.position for r in labeller.requests] == [
        n - 1 for n in table["n_raw_tokens"].to_pylist()
    ]
    assert all(request.text.endswith(request.token) for request in labeller.requests)
