import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from speaking_nla import SAYINGS, directions
from tiny_nla import D_MODEL, LAYER, write_rows

from gloss.errors import (
    ActivationError,
    ConfigError,
    DatasetError,
    GlossError,
    ResumeError,
    TemplateError,
)
from gloss.nla import NLA
from gloss.reading import ExplainConfig, explain_activations, explain_in_memory, read_results
from gloss.reading import explain as explaining
from gloss.store.sources import array_source, open_source


def noisy(count, *, scale=0.3, seed=0):
    noise = torch.randn(count, D_MODEL, generator=torch.Generator().manual_seed(seed))
    return directions()[torch.arange(count) % len(SAYINGS)] + scale * noise


@pytest.fixture
def rows_file(tmp_path, lab_tokenizer):
    return write_rows(tmp_path / "rows.parquet", lab_tokenizer, noisy(11).numpy())


def explained(nla, source, out, **changes):
    return explain_activations(
        nla, source, out, ExplainConfig(chunk_rows=3, batch_size=2, **changes)
    )


def test_each_row_gets_the_explanation_and_scores_that_the_nla_gives_it(nla, rows_file, tmp_path):
    explained(nla, rows_file, tmp_path / "out.parquet")
    rows, vectors = read_results(tmp_path / "out.parquet").to_dicts(), noisy(11)
    assert [row["row"] for row in rows] == list(range(11))
    assert [row["text"] for row in rows] == [item.text for item in nla.explain(vectors)]
    assert {row["text"] for row in rows} == set(SAYINGS)
    scores = nla.score([row["text"] for row in rows], vectors)
    np.testing.assert_allclose(
        [row["direction_mse"] for row in rows], [s.direction_mse for s in scores], atol=1e-5
    )
    np.testing.assert_allclose([row["fve"] for row in rows], [s.fve for s in scores], atol=1e-5)
    np.testing.assert_allclose(
        [row["norm"] for row in rows], vectors.norm(dim=1).numpy(), rtol=1e-5
    )
    assert (rows[0]["doc_id"], rows[0]["position"], rows[0]["token"], rows[0]["context"]) == (
        "d",
        4,
        "t",
        "a text",
    )
    assert rows[0]["flags"] == ["early position", "special token"]


def test_the_same_activations_give_the_same_texts_from_every_kind_of_file(nla, rows_file, tmp_path):
    vectors = noisy(11)
    np.save(tmp_path / "rows.npy", vectors.numpy())
    save_file({"activations": vectors, "other": torch.zeros(2)}, tmp_path / "rows.safetensors")
    sources = [
        rows_file,
        tmp_path / "rows.npy",
        tmp_path / "rows.safetensors",
        vectors,
        vectors.numpy(),
    ]
    texts = [explain_in_memory(nla, source).table["text"].to_pylist() for source in sources]
    assert all(found == texts[0] for found in texts)
    assert len(texts[0]) == 11


@pytest.mark.parametrize("name", ["samples", "best_of", "batch_size", "chunk_rows", "limit"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ConfigError, match=f"{name}: expected (at least 1|1 or more), found 0"):
        ExplainConfig(**{name: 0})


def test_a_stopped_run_goes_on_with_the_same_bytes(nla, rows_file, tmp_path, monkeypatch):
    options = {"samples": 2, "temperature": 2.0}
    explained(nla, rows_file, tmp_path / "whole.parquet", **options)
    calls, whole = [], explaining.explain_chunk

    def stops_in_the_third_chunk(questions, chosen, *arguments):
        calls.append(chosen.known[0]["row"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(questions, chosen, *arguments)

    monkeypatch.setattr(explaining, "explain_chunk", stops_in_the_third_chunk)
    with pytest.raises(KeyboardInterrupt):
        explained(nla, rows_file, tmp_path / "stopped.parquet", **options)
    assert not (tmp_path / "stopped.parquet").exists()
    explained(nla, rows_file, tmp_path / "stopped.parquet", **options)
    assert calls == [0, 3, 6, 6, 9]
    assert (tmp_path / "stopped.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not (tmp_path / "stopped.parquet.parts").exists()


def test_a_killed_command_goes_on_with_the_same_bytes(speaking_folder, tmp_path):
    np.save(tmp_path / "rows.npy", noisy(600).numpy())
    options = ["--nla", speaking_folder, "--activations", "rows.npy", "--limit", "500"]
    command = [sys.executable, "-m", "gloss.cli.main", "explain", *map(str, options), "--out"]
    begun = subprocess.Popen(
        [*command, "out.parquet", "--temperature", "1"], cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    parts = tmp_path / "out.parquet.parts"
    deadline = time.monotonic() + 60
    while not (parts / "shard-000000.parquet").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(begun.pid, signal.SIGKILL)
    begun.wait(timeout=30)
    assert (parts / "shard-000000.parquet").exists()
    assert not (tmp_path / "out.parquet").exists()
    for out in ("out.parquet", "fresh.parquet"):
        subprocess.run(
            [*command, out, "--temperature", "1"],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            timeout=100,
        )
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "fresh.parquet").read_bytes()
    assert len(read_results(tmp_path / "out.parquet")) == 500


def test_a_finished_file_is_left_and_other_settings_or_inputs_are_refused(
    nla, rows_file, tmp_path, lab_tokenizer
):
    out = tmp_path / "out.parquet"
    explained(nla, rows_file, out)
    before = out.stat().st_mtime_ns
    assert explained(nla, rows_file, out).num_rows == 11
    assert out.stat().st_mtime_ns == before
    with pytest.raises(ResumeError, match=r"sampling\.seed = 0 there, 1 here"):
        explained(nla, rows_file, out, seed=1)
    write_rows(rows_file, lab_tokenizer, noisy(11, seed=1).numpy())
    with pytest.raises(ResumeError, match="input"):
        explained(nla, rows_file, out)


def test_a_file_that_is_no_table_of_explanations_is_never_overwritten(nla, rows_file):
    before = rows_file.read_bytes()
    with pytest.raises(DatasetError, match="not a file of explanations"):
        explained(nla, rows_file, rows_file)
    assert rows_file.read_bytes() == before


def test_only_a_chunk_is_read_at_a_time(nla, tmp_path):
    asked = []

    def read(first, last):
        asked.append((first, last))
        return noisy(11)[first:last]

    explained(nla, array_source(read, (11, D_MODEL), ["rows"]), tmp_path / "out.parquet", limit=7)
    assert asked == [(0, 3), (3, 6), (6, 9)]
    assert len(read_results(tmp_path / "out.parquet")) == 7


def test_shards_of_a_folder_are_one_source_whatever_the_chunks(nla, tmp_path, lab_tokenizer):
    for i in range(3):
        write_rows(tmp_path / f"shard-{i}.parquet", lab_tokenizer, noisy(4, seed=i).numpy())
    source = open_source(tmp_path)
    joined = torch.cat([noisy(4, seed=i) for i in range(3)])
    for size in (1, 3, 5, 100):
        chunks = list(source.chunks(size))
        assert [len(chunk.vectors) for chunk in chunks[:-1]] == [size] * (len(chunks) - 1)
        torch.testing.assert_close(torch.cat([chunk.vectors for chunk in chunks]), joined)


def test_best_of_keeps_the_response_with_the_least_error(nla):
    vectors = noisy(4, scale=1.5)
    drawn = explain_in_memory(
        nla, vectors, ExplainConfig(samples=6, temperature=1.6, seed=3)
    ).to_dicts()
    best = explain_in_memory(
        nla, vectors, ExplainConfig(best_of=6, temperature=1.6, seed=3)
    ).to_dicts()
    for i, row in enumerate(best):
        errors = [d["direction_mse"] for d in drawn[6 * i : 6 * i + 6]]
        scored = [e for e in errors if e is not None]
        assert len(set(scored)) > 1
        assert row["direction_mse"] == pytest.approx(min(scored))
    with pytest.raises(ConfigError, match="best-of needs different responses"):
        explain_in_memory(nla, vectors, ExplainConfig(best_of=2, temperature=0))


def test_best_of_without_an_ar_says_so(nla, speaking_folder):
    alone = NLA(av=speaking_folder / "av", target=speaking_folder / "target")
    assert explain_in_memory(alone, noisy(2)).table["fve"].to_pylist() == [None, None]
    with pytest.raises(GlossError, match="this NLA has no AR"):
        explain_in_memory(alone, noisy(2), ExplainConfig(best_of=2))


def test_differences_are_explained_row_by_row_or_from_one_row(nla, tmp_path):
    first, second = noisy(4), noisy(4, seed=5)
    np.save(tmp_path / "second.npy", second.numpy())
    pairs = explain_in_memory(nla, first, minus=tmp_path / "second.npy").to_dicts()
    assert [row["norm"] for row in pairs] == pytest.approx(
        (first - second).norm(dim=1).tolist(), rel=1e-5
    )
    assert all("difference" in row["flags"] for row in pairs)
    from_all = explain_in_memory(nla, first, minus=second[0]).to_dicts()
    assert [row["norm"] for row in from_all] == pytest.approx(
        (first - second[0]).norm(dim=1).tolist(), rel=1e-5
    )
    with pytest.raises(
        ActivationError, match="different numbers of rows: expected 4, or 1, found 3"
    ):
        explain_in_memory(nla, first, minus=second[:3])


def test_rows_without_direction_are_flagged_and_do_not_stop_the_others(nla):
    vectors = noisy(4)
    vectors[1], vectors[2, 3] = 0.0, float("nan")
    rows = explain_in_memory(nla, vectors).to_dicts()
    assert [row["text"] is None for row in rows] == [False, True, True, False]
    assert ["no direction" in row["flags"] for row in rows] == [False, True, True, False]
    same = explain_in_memory(nla, vectors[:1], minus=vectors[:1]).to_dicts()[0]
    assert same["flags"] == ["difference", "no direction"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            torch.zeros(2, 3, D_MODEL),
            r"expected \[n, d_model\], found \[2, 3, 32\]. Put batch and positions on one axis",
        ),
        (torch.zeros(2, D_MODEL, dtype=torch.long), "expected a float type"),
        (torch.ones(2, D_MODEL + 1), "another width: expected 32, found 33"),
        ("missing.npy", "no such file of activations"),
        ("rows.csv", "no such dataset"),
    ],
)
def test_bad_inputs_have_one_clear_line(nla, source, message):
    with pytest.raises(GlossError, match=message) as caught:
        explain_in_memory(nla, source)
    assert "\n" not in str(caught.value)


def test_damaged_arrays_have_one_clear_line(nla, tmp_path):
    for name, content in (("a.npy", b"no array"), ("a.safetensors", b"\x10" * 30), ("b.npy", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DatasetError, match=name):
            explain_in_memory(nla, tmp_path / name)
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DatasetError, match=r"objects\.npy"):
        explain_in_memory(nla, tmp_path / "objects.npy")
    save_file(
        {"a": torch.ones(1, D_MODEL), "b": torch.ones(1, D_MODEL)}, tmp_path / "two.safetensors"
    )
    with pytest.raises(DatasetError, match="which tensor holds the activations"):
        explain_in_memory(nla, tmp_path / "two.safetensors")


def test_activations_of_another_layer_are_refused(nla, tmp_path, lab_tokenizer):
    import pyarrow.parquet as pq

    file = write_rows(tmp_path / "rows.parquet", lab_tokenizer, noisy(2).numpy())
    table = pq.read_table(file)
    index = table.schema.get_field_index("activation_layer")
    pq.write_table(table.set_column(index, "activation_layer", [[LAYER + 1] * 2]), file)
    with pytest.raises(
        ActivationError, match="another layer: expected layer 2, which this NLA explains, found 3"
    ):
        explain_in_memory(nla, file)


def test_the_file_says_what_made_it(nla, speaking_folder, rows_file, tmp_path):
    explained(nla, rows_file, tmp_path / "out.parquet", samples=2, seed=4)
    made = read_results(tmp_path / "out.parquet").provenance
    assert made["nla"]["name"] == str(speaking_folder)
    assert made["layer"] == LAYER
    assert made["sampling"]["samples"] == 2
    assert made["sampling"]["temperature"] == 1.0
    assert made["sampling"]["seed"] == 4
    assert made["gloss_version"]
    assert len(made["nla"]["av"]["hash"]) == 32
    assert made["nla"]["av"]["hash"] != made["nla"]["ar"]["hash"]


def test_the_hash_of_an_nla_changes_with_its_weights(nla, speaking_folder, tmp_path):
    import shutil

    from gloss.reading.explain import nla_identity

    shutil.copytree(speaking_folder, tmp_path / "copy")
    same = nla_identity(NLA(tmp_path / "copy"), with_ar=True)
    assert same["av"] == nla_identity(nla, with_ar=True)["av"]
    weights = tmp_path / "copy" / "av" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5000:] = bytes(5000)
    weights.write_bytes(data)
    changed = nla_identity(NLA(tmp_path / "copy"), with_ar=True)
    assert changed["av"] != same["av"]
    assert changed["ar"] == same["ar"]


def test_a_prompt_of_ones_own_is_injected_at_its_place_and_other_neighbours_are_refused(nla):
    vectors = noisy(1)
    recorded = str(nla.sidecar.av_template).replace("{injection_char}", "<INJECT>")
    texts = [
        explain_in_memory(nla, vectors, ExplainConfig(prompt=p)).table["response"][0].as_py()
        for p in (None, recorded)
    ]
    assert texts[0] == texts[1]
    other = 'Say {{what}} this is: {"q": "<concept><INJECT></concept>"}'
    assert nla.with_prompt(other).av.prefix_ids != nla.av.prefix_ids
    assert (
        explain_in_memory(nla, vectors, ExplainConfig(prompt=other)).provenance["prompt"] == other
    )
    with pytest.raises(
        TemplateError,
        match=r"tokens beside <INJECT> are not those .* '<concept>' right before <INJECT>",
    ) as caught:
        explain_in_memory(nla, vectors, ExplainConfig(prompt="What is <INJECT>?"))
    assert "\n" not in str(caught.value)
    for prompt in ("no place", "<concept><INJECT></concept><INJECT>"):
        with pytest.raises(TemplateError, match="wrong number of <INJECT>"):
            nla.with_prompt(prompt)


def test_custom_prompts_are_accepted_as_the_reference_accepts_them(golden):
    from gloss.models import load_av

    for family in ("qwen2", "gemma3"):
        av = load_av(golden / family / "av")
        wanted = json.loads((golden / family / "expected" / "av.json").read_text(encoding="utf-8"))[
            "custom_prompts"
        ]
        assert wanted
        for case in wanted.values():
            if case["ok"]:
                other = av.with_prompt(case["prompt"])
                assert [*other.prefix_ids, *other.tail_ids] == case["value"]["token_ids"]
                assert len(other.prefix_ids) + 1 == case["value"]["injection_positions"][0]
            else:
                with pytest.raises(TemplateError):
                    av.with_prompt(case["prompt"])


def test_reading_activations_loads_no_target(speaking_folder, rows_file):
    nla = NLA(speaking_folder)
    explain_in_memory(nla, rows_file)
    assert "target" not in vars(nla)


def test_two_processes_do_not_write_one_table(nla, rows_file, tmp_path):
    from gloss.durable import folder_lock
    from gloss.errors import LockError

    with folder_lock(Path(tmp_path / "out.parquet.parts")), pytest.raises(LockError):
        explained(nla, rows_file, tmp_path / "out.parquet")
