"""The verbs that read at scale, through the command line's own code."""

import json
import os
import pty
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
from speaking_nla import SAYINGS, directions, save_speaking_nla

from gloss.cli.main import app
from gloss.nla import Questions
from gloss.reading import read_results

CHAT = [
    {"role": "user", "content": "The gulls rest."},
    {"role": "assistant", "content": "It rains."},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, lab_tokenizer):
    folder = tmp_path_factory.mktemp("scale")
    save_speaking_nla(folder / "nla", lab_tokenizer)
    np.save(folder / "rows.npy", np.tile(directions().numpy(), (3, 1)))
    (folder / "chat.json").write_text(json.dumps({"messages": CHAT}), encoding="utf-8")
    (folder / "text.txt").write_text("The gulls rest while it rains.", encoding="utf-8")
    (folder / "prompt.txt").write_text("Read: <concept><INJECT></concept>\n", encoding="utf-8")
    return folder


@pytest.fixture
def gloss(folder, monkeypatch, capsys):
    """Runs a command in the folder; gives exit code, standard output, standard error."""
    monkeypatch.chdir(folder)

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            app([str(argument) for argument in arguments])
        out = capsys.readouterr()
        return int(end.value.code or 0), out.out, out.err

    return run


def explain(gloss, *arguments):
    return gloss("explain", "--nla", "nla", *arguments)


@pytest.mark.invariant("older-8")
def test_rows_without_a_table_are_lines_that_come_as_each_batch_is_done(
    gloss, folder, capsys, monkeypatch
):
    printed, whole = [], Questions.explain_chosen

    async def watched(self, chosen, sampling):
        printed.append(capsys.readouterr().out)
        return await whole(self, chosen, sampling)

    monkeypatch.setattr(Questions, "explain_chosen", watched)
    arguments = ["--activations", "rows.npy", "--batch-size", 3, "--limit", 8]
    code, rest, _ = explain(gloss, *arguments)
    assert (code, len(printed)) == (0, 3)
    assert [len(text.splitlines()) for text in [*printed[1:], rest]] == [3, 3, 2]
    lines = "".join([*printed, rest]).splitlines()
    monkeypatch.setattr(Questions, "explain_chosen", whole)
    rows = json.loads(explain(gloss, *arguments, "--json")[1])
    for i, (line, row) in enumerate(zip(lines, rows, strict=True)):
        number, fve, said = line.split("  ", 2)
        assert (int(number), row["row"]) == (i, i)
        assert fve == f"FVE {row['fve']:.2f}".replace("-", "−")
        assert said.startswith(" ".join(row["text"].split()))
    as_lines = explain(gloss, *arguments, "--jsonl")[1].splitlines()
    names = [field for field in rows[0] if field not in ("done", "layer")]
    assert [json.loads(line) for line in as_lines] == [
        {name: row[name] for name in names} for row in rows
    ]


@pytest.mark.invariant("older-8")
def test_lines_go_where_standard_output_goes_also_beside_a_terminal(folder, tmp_path):
    """A bar on a terminal must not take over what is printed into a file."""
    ours, theirs = pty.openpty()
    out, command = tmp_path / "out.jsonl", "import sys; from gloss.cli.main import main; main()"
    arguments = ["explain", "--nla", "nla", "--activations", "rows.npy", "--jsonl"]
    with out.open("wb") as file:
        done = subprocess.Popen(
            [sys.executable, "-c", command, *arguments], cwd=folder, stdout=file, stderr=theirs
        )
    os.close(theirs)
    with suppress(OSError):  # how a terminal says that its last writer has gone
        while os.read(ours, 65536):
            pass
    os.close(ours)
    assert done.wait() == 0
    assert [json.loads(line)["row"] for line in out.read_text().splitlines()] == [*range(12)]


def test_a_file_of_activations_becomes_a_table(gloss, folder, tmp_path):
    out = tmp_path / "out.parquet"
    code, printed, errors = explain(
        gloss, "--activations", "rows.npy", "--out", out, "--jsonl", "--samples", 2
    )
    assert (code, printed.strip()) == (0, str(out))
    assert errors.splitlines()[-1] == f"Next: gloss results themes {out}"
    lines = [
        json.loads(line)
        for line in out.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert lines == read_results(out).to_dicts()
    assert len(lines) == 24


def test_a_few_rows_are_printed(gloss):
    code, printed, _ = explain(gloss, "--activations", "rows.npy", "--limit", 4, "--json")
    assert code == 0
    assert [row["text"] for row in json.loads(printed)] == list(SAYINGS)
    assert "the gulls sleep" in explain(gloss, "--activations", "rows.npy")[1]


def test_a_transcript_is_read_with_roles_and_sections(gloss):
    code, printed, _ = explain(
        gloss, "--chat", "chat.json", "--tokens", "every:2", "--max-activations", 3, "--json"
    )
    rows = json.loads(printed)
    assert code == 0
    assert len(rows) == 3
    assert {(row["role"], row["section"]) for row in rows} == {
        ("user", "content"),
        ("assistant", "content"),
    }
    assert "user content" in " ".join(explain(gloss, "--chat", "chat.json")[1].split())


def test_a_text_file_means_and_differences(gloss):
    rows = json.loads(
        explain(
            gloss, "--text-file", "text.txt", "--pool", "mean", "--minus-position", 0, "--json"
        )[1]
    )
    assert len(rows) == 1
    assert {"mean-pooled", "difference"} <= set(rows[0]["flags"])
    rows = json.loads(explain(gloss, "It rains.", "--minus-text", "It is calm.", "--json")[1])
    assert "difference" in rows[0]["flags"]
    rows = json.loads(
        explain(gloss, "--activations", "rows.npy", "--minus", "rows.npy", "--json")[1]
    )
    assert {tuple(row["flags"]) for row in rows} == {("difference", "no direction")}


def test_positions_prompt_and_best_of_work_on_a_text(gloss):
    options = ("--positions", "0,2", "--best-of", 3, "--prompt", "prompt.txt")
    rows = json.loads(explain(gloss, "The gulls rest", *options, "--json")[1])
    assert [row["position"] for row in rows] == [0, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "--chat", "chat.json"], "several things to explain"),
        (["--chat", "chat.json", "--text-file", "text.txt"], "several things to explain"),
        (["--activations", "rows.npy", "--tokens", "all"], "--tokens does not fit this input"),
        (["--activations", "rows.npy", "--positions", "1"], "--positions does not fit this input"),
        (["--chat", "chat.json", "--limit", "3"], "--limit does not fit this input"),
        (["--chat", "chat.json", "--tokens", "some"], "cannot read the selection of tokens"),
        (
            ["--chat", "chat.json", "--tokens", "all", "--positions", "1"],
            "positions and tokens both",
        ),
        (["--chat", "text.txt"], "text.txt: not JSON"),
        (["--chat", "missing.json"], "missing.json: cannot be read (No such file or directory)"),
        (["--text-file", "rows.npy"], "not a text"),
        (["--activations", "missing.npy"], "no such file of activations"),
        (["--activations", "chat.json"], "unknown kind of activations"),
        (["--activations", "rows.npy", "--out", "rows.npy"], "ends in .parquet"),
        (
            ["--activations", "rows.npy", "--best-of", "2", "--temperature", "0"],
            "best-of needs different responses",
        ),
        (["x", "--pool", "max"], "unknown --pool"),
        (["x", "--prompt", "no-file"], "neither a prompt nor a readable file"),
        (["x", "--prompt", "What is <INJECT>?"], "tokens beside <INJECT>"),
    ],
)
def test_bad_requests_have_one_line_and_exit_code_two(gloss, arguments, message):
    code, printed, errors = explain(gloss, *arguments)
    assert (code, printed) == (2, "")
    assert message in errors
    assert errors.startswith("gloss: ")
    assert errors.count("\n") == 1


def test_search_shows_hits_and_says_if_there_is_none(gloss, tmp_path):
    out = tmp_path / "out.parquet"
    explain(gloss, "--chat", "chat.json", "--tokens", "all", "--out", out)
    code, printed, _ = gloss("results", "search", "MOOD", out)
    assert code == 0
    assert "the mood is calm" in printed
    _, printed, errors = gloss("results", "search", "mood", out, "--json", "--limit", 2)
    hits = json.loads(printed)
    every = len(json.loads(gloss("results", "search", "mood", out, "--json", "--limit", 1000)[1]))
    assert every > 2
    assert f"2 of {every} explanations are shown" in errors
    assert [hit["text"][slice(*hit["spans"][0])] for hit in hits] == ["mood", "mood"]
    assert gloss("results", "search", "reward hacking", out) == (
        0,
        "",
        "gloss: no explanation matches\n",
    )
    assert gloss("results", "search", "(", out)[0] == 2
    assert (
        "--semantic and --model together"
        in gloss("results", "search", "mood", out, "--semantic")[2]
    )
    assert gloss("results", "search", "mood", "missing.parquet")[0] == 2


def test_themes_are_counted(gloss, tmp_path):
    out = tmp_path / "out.parquet"
    explain(gloss, "--activations", "rows.npy", "--out", out)
    found = {
        theme["label"]: theme["n_tokens"]
        for theme in json.loads(gloss("results", "themes", out, "--distance", 0, "--json")[1])
    }
    assert found["the mood is calm"] == 6
    assert found["the gulls sleep"] == 3
    assert "the mood is calm" in gloss("results", "themes", out)[1]
    assert "no claim comes back" in gloss("results", "themes", out, "--min-tokens", 99)[1]


def test_results_go_to_neuronpedia_and_back(gloss, tmp_path):
    out, page, back = tmp_path / "a.parquet", tmp_path / "a.json", tmp_path / "b.parquet"
    explain(gloss, "--chat", "chat.json", "--out", out)
    assert gloss("results", "export", out, "--out", page)[0] == 0
    assert gloss("results", "import", page, "--out", back)[0] == 0
    assert (
        read_results(back).table["text"].to_pylist() == read_results(out).table["text"].to_pylist()
    )
    assert gloss("results", "import", out, "--out", back)[0] == 2
    assert gloss("results", "export", out, "--out", page, "--doc", "other")[0] == 2
