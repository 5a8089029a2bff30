import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_data import make_documents, make_target, make_tokenizer

from gloss.contract import read_dataset_sidecar
from gloss.data import (
    Document,
    ExtractConfig,
    extract,
    read_activations,
    read_corpus,
    vectors_as_array,
)
from gloss.data.extract import _with_total
from gloss.errors import ConfigError, CorpusError, ResumeError
from gloss.target_model import capture_activations, next_token_logits

CONFIG = ExtractConfig(
    min_position=5, positions_per_doc=4, shard_documents=16, batch_tokens=512, seed=3
)
DOCUMENTS = make_documents(40)


def run(out, documents=DOCUMENTS, target=None, **changes):
    return extract(CONFIG.model_copy(update=changes), target or make_target(), documents, out)


def shards(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


@pytest.mark.invariant("1")
def test_rows_are_the_raw_output_of_block_k_at_their_position(tmp_path):
    result = run(tmp_path, layer=1)
    table = read_activations(tmp_path)
    texts = {document.doc_id: document.text for document in DOCUMENTS}
    assert len(table) == result.counts.rows == result.sidecar.row_count > 100
    for row, vector in zip(table.to_pylist(), vectors_as_array(table), strict=True):
        ids = make_tokenizer()(texts[row["doc_id"]])["input_ids"]
        with torch.inference_mode():
            expected = capture_activations(make_target().model, torch.tensor([ids]), None, 1)[
                0, row["position"]
            ]
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-4)
        assert row["n_raw_tokens"] == row["position"] + 1
        assert row["token_id"] == ids[row["position"]]
        assert row["detokenized_text_truncated"] == make_tokenizer().decode(
            ids[: row["n_raw_tokens"]]
        )
        assert row["detokenized_text_truncated"].endswith(row["token"])


def test_sidecar_tells_layer_counts_and_norms_of_the_rows(tmp_path):
    result = run(tmp_path)
    sidecar = read_dataset_sidecar(tmp_path)
    norms = np.linalg.norm(vectors_as_array(read_activations(tmp_path)).astype(np.float64), axis=1)
    assert sidecar == result.sidecar
    assert (sidecar.stage, sidecar.norm, sidecar.layer, sidecar.d_model) == (
        "base",
        "none",
        make_target().default_layer,
        32,
    )
    expected = {
        "mean": norms.mean(),
        "p50": np.percentile(norms, 50),
        "p75": np.percentile(norms, 75),
    }
    expected |= {"p99": np.percentile(norms, 99), "max": norms.max()}
    assert sidecar.norm_statistics == pytest.approx(expected, rel=1e-6)


@pytest.mark.invariant("older-2")
def test_every_shard_has_a_sidecar_of_its_own(tmp_path):
    whole, files = run(tmp_path).sidecar, sorted(tmp_path.glob("*.parquet"))
    assert len(files) == 3
    for file in files:
        sidecar, table = read_dataset_sidecar(file), read_activations(file)
        norms = np.linalg.norm(vectors_as_array(table).astype(np.float64), axis=1)
        assert sidecar.row_count == len(table)
        assert sidecar.norm_statistics["p75"] == pytest.approx(np.percentile(norms, 75), rel=1e-6)
        assert sidecar.dataset_id == f"{whole.dataset_id}__{file.stem}"
        assert (sidecar.layer, sidecar.d_model) == (whole.layer, whole.d_model)


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    run(tmp_path / "a")
    run(tmp_path / "b", documents=iter(DOCUMENTS))
    assert shards(tmp_path / "a") == shards(tmp_path / "b")
    assert len(shards(tmp_path / "a")) == 3


@pytest.mark.invariant("corpus-path")
def test_a_moved_corpus_gives_the_same_bytes_and_ids(tmp_path):
    found = []
    for place in ("here", "far/away"):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        lines = (json.dumps({"text": document.text}) for document in DOCUMENTS)
        (folder / "tales.jsonl").write_text("\n".join(lines))
        result = run(folder / "out", documents=read_corpus(str(folder / "tales.jsonl")))
        found.append((shards(folder / "out"), result.sidecar.dataset_id))
    assert found[0] == found[1]


@pytest.mark.invariant("2")
def test_positions_do_not_depend_on_the_order_of_documents(tmp_path):
    run(tmp_path / "a")
    run(tmp_path / "b", documents=DOCUMENTS[::-1])
    places = [
        {(row["doc_id"], row["position"]) for row in read_activations(tmp_path / name).to_pylist()}
        for name in ("a", "b")
    ]
    assert places[0] == places[1]


def test_a_stopped_extraction_goes_on_to_the_same_bytes(tmp_path):
    class Stopped(Exception):
        pass

    def stopping():
        for index, document in enumerate(DOCUMENTS):
            if index == 35:
                raise Stopped
            yield document

    run(tmp_path / "whole")
    with pytest.raises(Stopped):
        extract(CONFIG, make_target(), stopping(), tmp_path / "stopped", num_documents=40)
    assert sorted(shards(tmp_path / "stopped")) == ["shard-00000.parquet", "shard-00001.parquet"]
    before = (tmp_path / "stopped" / "shard-00000.parquet").stat().st_mtime_ns
    result = run(tmp_path / "stopped")
    assert (tmp_path / "stopped" / "shard-00000.parquet").stat().st_mtime_ns == before
    assert shards(tmp_path / "stopped") == shards(tmp_path / "whole")
    assert replace(result.sidecar, created_at="") == replace(
        read_dataset_sidecar(tmp_path / "whole"), created_at=""
    )


def test_a_shard_that_was_deleted_is_written_again(tmp_path):
    run(tmp_path)
    before = shards(tmp_path)
    (tmp_path / "shard-00001.parquet").unlink()
    run(tmp_path)
    assert shards(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 4}, "seed = 3 there, 4 here"),
        ({"layer": 0}, "layer"),
        ({"positions_per_doc": 2}, "positions_per_doc"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, changes, named):
    run(tmp_path)
    with pytest.raises(ResumeError, match=named):
        run(tmp_path, **changes)


def test_another_target_or_another_corpus_is_refused(tmp_path):
    run(tmp_path)
    other = make_target.__wrapped__()
    with torch.no_grad():
        other.model.model.layers[0].mlp.up_proj.weight += 1
    with pytest.raises(ResumeError, match="target"):
        run(tmp_path, target=other)
    changed = [*DOCUMENTS[:20], Document("doc:20", "another text"), *DOCUMENTS[21:]]
    with pytest.raises(ResumeError, match="other documents in shard 1"):
        run(tmp_path, documents=changed)
    with pytest.raises(ResumeError, match="2 shards of documents, 3 before"):
        run(tmp_path, documents=DOCUMENTS[:32])


@pytest.mark.invariant("empty-documents")
def test_empty_binary_and_pad_token_documents_do_not_stop_it(tmp_path):
    odd = [
        Document("empty", ""),
        Document("none", None),
        Document("blank", "   \n"),
        Document("pad", "<|endoftext|>" * 30),
        Document("padded", "boat <|endoftext|> lake " * 20),
        Document("binary", bytes(range(256)).decode("latin-1") * 3),
        Document("surrogate", "boat \ud800 lake " * 10),
    ]
    result = run(tmp_path, documents=odd, shard_documents=1)
    rows = read_activations(tmp_path).to_pylist()
    assert {row["doc_id"] for row in rows} == {"pad", "padded", "binary", "surrogate"}
    assert all(row["token_id"] != make_tokenizer().pad_token_id for row in rows)
    assert (result.counts.documents, result.counts.empty, result.counts.without_positions) == (
        7,
        2,
        1,
    )


def test_documents_that_are_cut_off_are_counted_and_said(tmp_path, capsys):
    long = "boat lake " * 20
    length = len(make_tokenizer()(long)["input_ids"])
    texts = [Document("short", "boat lake " * 15), *(Document(f"l{i}", long) for i in range(3))]
    counts = run(tmp_path, documents=texts, max_tokens=length - 1).counts
    assert (counts.documents, counts.cut, counts.without_positions) == (4, 3, 0)
    assert "of 4 documents only the beginning of 3 was read" in capsys.readouterr().err
    assert run(tmp_path / "whole", documents=texts, max_tokens=length).counts.cut == 0
    assert "beginning" not in capsys.readouterr().err


def test_chat_texts_count_characters_of_the_rendered_chat(tmp_path):
    chats = [
        Document(
            f"c{i}",
            None,
            ({"role": "user", "content": a.text}, {"role": "assistant", "content": b.text}),
        )
        for i, (a, b) in enumerate(zip(DOCUMENTS[:6], DOCUMENTS[6:12], strict=True))
    ]
    run(tmp_path, documents=chats)
    rendered = {
        c.doc_id: make_tokenizer().apply_chat_template(list(c.messages), tokenize=False)
        for c in chats
    }
    rows = read_activations(tmp_path).to_pylist()
    assert len(rows) == 24
    for row in rows:
        assert rendered[row["doc_id"]].startswith(row["detokenized_text_truncated"])
        assert "<|" not in row["token"]


@pytest.mark.invariant("3")
def test_norm_outliers_are_left_out_and_counted(tmp_path):
    spiked = make_target.__wrapped__()
    token = int(make_tokenizer()(" boat")["input_ids"][0])
    with torch.no_grad():
        spiked.model.model.embed_tokens.weight[token] *= 200
    everything = run(tmp_path / "all", target=spiked, max_norm_ratio=None)
    usual = run(tmp_path / "usual", target=spiked)
    assert everything.counts.outliers == 0
    assert usual.counts.outliers > 0
    assert usual.counts.rows + usual.counts.outliers == everything.counts.rows
    assert usual.sidecar.norm_statistics["max"] < everything.sidecar.norm_statistics["max"] / 4
    assert token not in read_activations(tmp_path / "usual")["token_id"].to_pylist()


def test_activations_that_are_not_finite_are_left_out_and_counted(tmp_path):
    broken = make_target.__wrapped__()
    token = int(make_tokenizer()(" gull")["input_ids"][0])
    with torch.no_grad():
        broken.model.model.embed_tokens.weight[token] = torch.nan
    result = run(tmp_path, target=broken)
    assert result.counts.not_finite > 0
    vectors_as_array(read_activations(tmp_path))


def test_top_next_tokens_are_the_targets_own_and_leave_the_activations_alone(tmp_path):
    run(tmp_path / "plain")
    run(tmp_path / "with", top_next_tokens=3)
    plain, table = read_activations(tmp_path / "plain"), read_activations(tmp_path / "with")
    np.testing.assert_allclose(vectors_as_array(table), vectors_as_array(plain), atol=1e-4)
    for row in table.slice(0, 8).to_pylist():
        ids = torch.tensor([make_tokenizer()(row["detokenized_text_truncated"])["input_ids"]])
        top = (
            next_token_logits(make_target().model, ids, torch.ones_like(ids))[0]
            .topk(3)
            .indices.tolist()
        )
        assert row["top_next_tokens"] == [make_tokenizer().decode([token]) for token in top]


def test_a_corpus_without_a_usable_document_says_why(tmp_path):
    with pytest.raises(
        CorpusError,
        match=r"more than 500 tokens, found 40 documents, 0 empty, 40 too short.*min_position",
    ):
        run(tmp_path, min_position=500)


def test_layer_and_dtype_are_checked_before_work(tmp_path):
    with pytest.raises(ConfigError, match="expected 0 to 2, found 7"):
        run(tmp_path, layer=7)
    with pytest.raises(ConfigError, match="another number format"):
        run(tmp_path, dtype="bfloat16")
    assert not list(tmp_path.iterdir())


def test_the_number_of_documents_is_found_for_the_progress_bar():
    assert _with_total(DOCUMENTS, None)[1] == _with_total(iter(DOCUMENTS), None)[1] == 40
    assert _with_total(iter(DOCUMENTS), 7)[1] == 7
    assert list(_with_total(iter(DOCUMENTS), None)[0]) == DOCUMENTS


def test_every_setting_is_documented():
    assert all(field.description for field in ExtractConfig.model_fields.values())


@pytest.mark.invariant("3")
def test_by_default_early_positions_template_tokens_and_norm_outliers_are_left_out():
    config = ExtractConfig()
    assert config.min_position >= 50
    assert config.exclude_template_tokens
    assert config.max_norm_ratio == 4.0


@pytest.mark.invariant("3")
def test_no_position_before_the_first_allowed_is_taken(tmp_path):
    run(tmp_path, min_position=20)
    assert min(read_activations(tmp_path)["position"].to_pylist()) >= 20


@pytest.mark.invariant("3")
def test_the_bos_is_never_taken(tmp_path):
    run(tmp_path, target=make_target(bos=True), min_position=0, positions_per_doc=500)
    rows = read_activations(tmp_path)
    assert make_tokenizer(bos=True).bos_token_id not in rows["token_id"].to_pylist()
    assert min(rows["position"].to_pylist()) == 1
