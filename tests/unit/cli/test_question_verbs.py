"""The questions of ``gloss nla`` and ``gloss steer``, and old names, through the command line's own
code.
"""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from speaking_nla import SAYINGS, directions, save_speaking_nla
from tiny_nla import write_rows

from gloss.cli.main import app

TEXT = "The gulls rest while it rains."


@pytest.fixture(scope="module")
def folder(tmp_path_factory, lab_tokenizer):
    folder = tmp_path_factory.mktemp("questions")
    save_speaking_nla(folder / "nla", lab_tokenizer)
    rows = directions().numpy()
    np.save(folder / "rows.npy", rows)
    save_file({"activations": rows}, folder / "rows.safetensors")
    write_rows(folder / "rows.parquet", lab_tokenizer, rows)
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    chat = [{"role": "user", "content": TEXT}]
    (folder / "chat.json").write_text(json.dumps(chat), encoding="utf-8")
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


def answer(gloss, *arguments):
    code, printed, errors = gloss(*arguments, "--nla", "nla", "--json")
    assert code == 0, errors
    return json.loads(printed)


@pytest.mark.parametrize("kind", ["parquet", "npy", "safetensors"])
def test_every_verb_reads_every_kind_of_activations(gloss, kind):
    rows = f"rows.{kind}"
    explained = answer(gloss, "explain", "--activations", rows)
    assert [one["text"] for one in explained] == list(SAYINGS)
    scored = answer(
        gloss, "nla", "score", "--activations", rows, "--explanation", SAYINGS[0], "--limit", 2
    )
    assert [one["row"] for one in scored] == [0, 1]
    compared = answer(gloss, "nla", "compare", "--activations", rows, "--positions", "0,2")
    assert [side["text"] for side in compared["sides"]] == [SAYINGS[0], SAYINGS[2]]


@pytest.mark.parametrize(
    "source", [[TEXT], ["--text-file", "text.txt"], ["--chat", "chat.json"]], ids=str
)
def test_every_verb_reads_every_kind_of_text(gloss, source):
    read = answer(gloss, "nla", "tokens", *source)
    assert "gulls" in "".join(token["token"] for token in read["tokens"])
    (explained,) = answer(gloss, "explain", *source)
    (scored,) = answer(gloss, "nla", "score", *source, "--explanation", SAYINGS[0])
    assert scored["cosine"] <= 1
    trusted = answer(gloss, "nla", "trust", *source, "--samples", 1, "--neighbours", 1)
    assert {one["name"] for one in trusted["controls"]} >= {"mean direction", "empty text"}
    steered = answer(
        gloss, "steer", *source, "--explanation", "It rains.", "--edit", "rains=>snows"
    )
    assert steered["edited"] == "It snows."
    written = answer(gloss, "nla", "continue", *source, "--max-new-tokens", 2)
    assert len(written["tokens"]) - written["prompt_length"] <= 2
    compared = answer(gloss, "nla", "compare", *source, "--positions", "1,-1")
    assert compared["sides"][0]["position"] == 1
    assert explained["position"] is not None


def test_two_texts_are_compared(gloss):
    found = answer(gloss, "nla", "compare", TEXT, "Ada is calm.", "--positions", "-1,0")
    assert found["sides"][1]["position"] == 0
    assert "first − second" in gloss("nla", "compare", TEXT, "Ada is calm.", "--nla", "nla")[1]


def test_a_row_that_is_not_there_is_refused(gloss):
    code, _, errors = gloss("nla", "compare", "--activations", "rows.npy", "--positions", "0,99")
    assert code == 2
    assert "rows.npy: no such rows: expected two rows, 0 to 3" in errors
    assert "cannot read --positions" in gloss("nla", "compare", TEXT, "--positions", "1")[2]


def test_a_whole_edited_explanation_takes_the_place_of_an_edit(gloss):
    given = ("--explanation", "It rains.", "--edited", "It snows.", "--alpha", 1)
    found = answer(gloss, "steer", TEXT, *given, "--unrelated", "calm=>gloomy")
    edits = {one["edit"] for one in found["continuations"]}
    assert edits == {"none", "edit", "random", "unrelated", "elsewhere"}
    assert gloss("steer", TEXT, "--nla", "nla")[0] == 2


def test_a_reconstruction_is_printed_or_written(gloss, tmp_path):
    code, printed, _ = gloss("nla", "reconstruct", "It rains.", "--nla", "nla")
    assert code == 0
    assert len(json.loads(printed)["activation"]) == json.loads(printed)["d_model"]
    out = tmp_path / "v.safetensors"
    assert gloss("nla", "reconstruct", "It rains.", "--nla", "nla", "--out", out)[1] == f"{out}\n"
    assert load_file(out)["activation"].shape == (1, json.loads(printed)["d_model"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["checkpoint", "inspect", "nla"], "gloss nla"),
        (["lab", "documents", "1"], "gloss data lab"),
        (["reconstruct", "It rains.", "--nla", "nla"], "gloss nla reconstruct"),
        (
            ["score", "--text", "It rains.", "--activations", "rows.npy", "--nla", "nla"],
            "gloss nla score",
        ),
        (["search", "mood", "nowhere.parquet"], "gloss results search"),
        (["themes", "nowhere.parquet"], "gloss results themes"),
        (["report", "nowhere"], "gloss results report"),
        (["explore", "--nla", "nowhere"], "gloss serve --open"),
        (["explore", "--no-browser", "--nla", "nowhere"], "gloss serve"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_an_old_name_works_and_says_its_new_one(gloss, old, new):
    code, _, errors = gloss(*old)
    first, *rest = errors.splitlines()
    assert first == f"gloss: `gloss {old[0]}` is called `{new}` from now on"
    assert code == (2 if rest and rest[0].startswith("gloss: ") else 0)
    assert ("nowhere" in errors) == (code == 2)


def test_the_old_name_of_the_steered_token_works(gloss):
    given = ("steer", TEXT, "--explanation", "It rains.", "--edit", "rains=>snows")
    assert answer(gloss, *given, "--position", 2)["positions"] == [2]
