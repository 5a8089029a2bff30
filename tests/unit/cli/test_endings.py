"""Whatever happens, a command ends with one line and an exit code."""

import json
import os
import subprocess
import sys

import pytest
import typer

from gloss.cli.endings import one_line
from gloss.errors import CorpusError
from gloss.stopping import Terminated


class PanicError(BaseException):
    """As pyo3 raises it: no Exception."""


@pytest.mark.invariant("edges-3")
@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (CorpusError("no text", where="a.txt"), 2, "gloss: a.txt: no text."),
        (FileNotFoundError(2, "No such file", "b\x1b.txt"), 2, "gloss: b�.txt: No such file"),
        (MemoryError(), 2, "gloss: not enough memory."),
        (RuntimeError("CUDA out of memory. Tried to"), 2, "gloss: not enough memory."),
        (KeyboardInterrupt(), 130, "gloss: stopped; what is finished is saved."),
        (Terminated(), 143, "gloss: stopped; what is finished is saved."),
        (ValueError("odd\nmore"), 70, "gloss: a fault of Gloss, not of yours (ValueError: odd)."),
        (
            RecursionError("deep"),
            70,
            "gloss: a fault of Gloss, not of yours (RecursionError: deep)",
        ),
        (PanicError("rust"), 70, "gloss: a fault of Gloss, not of yours (PanicError: rust)."),
        (AssertionError(), 70, "gloss: a fault of Gloss, not of yours (AssertionError: Assert"),
    ],
)
def test_every_error_is_one_line_and_a_code(error, code, line, capfd):
    with pytest.raises(typer.Exit) as end, one_line(typer.Exit):
        raise error
    said = capfd.readouterr().err
    assert end.value.exit_code == code
    assert said.startswith(line)
    assert said.count("\n") == 1


@pytest.mark.invariant("edges-3")
def test_where_a_fault_was_is_told_on_request_alone(capfd):
    for debug in (False, True):
        with pytest.raises(SystemExit), one_line(SystemExit, debug=debug):
            raise ZeroDivisionError("x")
        said = capfd.readouterr().err
        assert ("Traceback" in said) == debug
        assert "gloss --debug" in said


def run(*arguments, stdin=None, close=(), **environment):
    def closed():
        for handle in close:
            os.close(handle)

    return subprocess.run(
        [sys.executable, "-m", "gloss.cli.main", *arguments],
        env={**os.environ, **environment},
        input=stdin,
        capture_output=True,
        preexec_fn=closed if close else None,
        timeout=120,
        check=False,
    )


@pytest.mark.invariant("edges-2")
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-16-le"])
def test_a_console_of_any_encoding_gets_valid_json(encoding, tmp_path):
    done = run("data", "lab", "documents", "1", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.decode(encoding))[0]["doc_id"] == "lab-0-000000"
    assert done.stdout.decode(encoding).isascii()
    shown = run("results", "search", "→ 😀", str(tmp_path / "→.parquet"), PYTHONIOENCODING=encoding)
    assert shown.returncode == 2
    assert "Traceback" not in shown.stderr.decode(encoding)
    arrow = "→" if encoding.startswith("utf") else "\\u2192"
    assert f"{arrow}.parquet" in shown.stderr.decode(encoding)


@pytest.mark.invariant("edges-2")
def test_the_help_is_shown_in_an_old_locale():
    old = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run("steer", "--help", **old)
    assert done.returncode == 0, done.stderr
    assert b"Usage" in done.stdout


@pytest.mark.invariant("edges-2")
def test_closed_streams_are_told_of():
    assert run("--help", close=[2]).returncode == 0
    lost = run("data", "lab", "documents", "1", close=[1])
    assert lost.returncode == 2
    assert lost.stderr.decode().count("\n") == 1
    empty = run("explain", "--nla", "nowhere", close=[0])
    assert empty.returncode == 2
    assert "Traceback" not in empty.stderr.decode()


@pytest.mark.invariant("edges-2")
def test_bytes_on_standard_input_are_refused_and_a_mark_is_no_text(tmp_path):
    done = run("explain", "--nla", "nowhere", stdin=b"caf\xe9")
    assert done.returncode == 2
    assert b"standard input: not a text: expected UTF-8" in done.stderr
    blank = run("explain", "--nla", "nowhere", stdin=b"\xef\xbb\xbf \n")
    assert b"the text is empty" in blank.stderr


def test_a_reader_that_goes_is_no_error():
    gloss = f"{sys.executable} -m gloss.cli.main data lab documents 300"
    pipe = f"{gloss} | head -c 10; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", pipe], capture_output=True, timeout=120, check=False)
    assert done.returncode == 141
    assert done.stderr == b""


@pytest.mark.invariant("edges-7")
@pytest.mark.parametrize(
    "arguments",
    [
        "steer x --edit a=>b --alpha nan",
        "steer x --edit a=>b --alpha inf",
        "explain x --temperature inf",
        "explain x --temperature nan",
        "explain x --positions 99999999999999999999",
        "explain x --positions 1e9",
        "explain x --tokens every:99999999999999999999",
        "explain x --max-new-tokens 1e9",
        "explain x --max-new-tokens 99999999999999999999",
        "explain x --seed 99999999999999999999",
        "explain --activations x.npy --limit -1",
        "explain --activations x.npy --limit 0",
        "explain x --batch-size 0",
        "nla compare x --positions ²,1",
        "nla continue x --temperature -inf",
        "nla trust x --samples -1",
        "nla score x --explanation y --limit 0",
        "results themes x.parquet --distance nan",
        "results themes x.parquet --distance 2",
        "results search x x.parquet --limit 0",
        "serve --port 70000",
        "serve --timeout-s nan",
        "serve --cache-mb 99999999999999999999",
        "evaluate x --max-rows 1",
        "quickstart --seed -1",
    ],
)
def test_numbers_out_of_bounds_end_with_two(arguments, monkeypatch, capfd):
    from gloss.cli.main import app

    monkeypatch.setattr(sys, "argv", ["gloss"])
    with pytest.raises(SystemExit) as end:
        app(arguments.split())
    said = capfd.readouterr().err
    assert end.value.code == 2, said
    assert "Traceback" not in said
