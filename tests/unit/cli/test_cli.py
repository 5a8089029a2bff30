import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

GLOSS = [sys.executable, "-m", "gloss"]


def gloss(*arguments, stdin="", **options):
    return subprocess.run(
        [*GLOSS, *arguments], input=stdin, capture_output=True, text=True, timeout=120, **options
    )


def test_help_and_import_need_no_torch():
    code = (
        "import sys, gloss, gloss.cli.main; assert not {'torch', 'transformers', 'pyarrow',"
        " 'sklearn'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_help_lists_the_verbs():
    out = gloss("--help")
    assert out.returncode == 0
    assert "gloss [OPTIONS] COMMAND" in out.stdout
    assert "python -m" not in out.stdout
    listed = out.stdout.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == [
        "quickstart",
        "run",
        "evaluate",
        "explain",
        "steer",
        "serve",
        "data",
        "train",
        "nla",
        "results",
    ]


def test_version():
    assert gloss("--version").stdout.strip() == "gloss 0.1.0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "missing.toml"], "missing.toml: cannot be read"),
        (["quickstart", "--preset", "huge"], "unknown preset"),
        (["explain", "x", "--nla", "nowhere"], "nowhere: no NLA here"),
        (["explain", "  ", "--nla", "nowhere"], "the text is empty"),
        (["results", "report", "nowhere"], "nowhere: no such folder"),
        (["evaluate", "nowhere"], "no finished run here"),
        (["steer", "x", "--edit", "nothing", "--nla", "nowhere"], "cannot read --edit"),
        (
            [
                *("nla", "score", "--explanation", "x", "--activations", "nowhere.parquet"),
                *("--nla", "nowhere"),
            ],
            "no such dataset",
        ),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_two(arguments, message, tmp_path):
    out = gloss(*arguments, cwd=tmp_path)
    assert out.returncode == 2
    assert message in " ".join(out.stderr.split())
    assert "Traceback" not in out.stderr
    assert len(out.stderr.strip().splitlines()) == 1


def test_explain_without_an_nla_names_the_command_that_makes_one(tmp_path):
    out = gloss(
        "explain",
        "hello",
        env={**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)},
    )
    assert out.returncode == 2
    assert "gloss quickstart" in out.stderr


def test_lab_documents_are_printed_as_json():
    out = gloss("data", "lab", "documents", "2", "--seed", "5")
    assert [document["doc_id"] for document in json.loads(out.stdout)] == [
        "lab-5-000000",
        "lab-5-000001",
    ]


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path, pytestconfig):
    config = pytestconfig.rootpath / "src/gloss/pipeline/presets/smoke.toml"
    out = gloss("run", str(config), "--out", str(tmp_path / "run"), "--dry-run")
    assert out.returncode == 0
    assert "joint" in out.stdout
    assert not (tmp_path / "run").exists()


def test_a_reader_that_vanishes_ends_quietly():
    process = subprocess.Popen(
        [*GLOSS, "data", "lab", "documents", "400"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_output_to_a_full_disk_is_one_line():
    with Path("/dev/full").open("w") as full:
        out = subprocess.run(
            [*GLOSS, "data", "lab", "documents", "3"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert out.returncode == 2
    assert out.stderr == "gloss: No space left on device\n"
