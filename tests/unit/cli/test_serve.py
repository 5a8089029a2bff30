"""``gloss serve`` as a user starts and stops it."""

import os
import signal
import socket
import subprocess
import sys

import httpx2
import pytest
from tiny_nla import write_nla

GLOSS = [sys.executable, "-m", "gloss.cli.main"]
SERVE = [*GLOSS, "serve"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, lab_tokenizer):
    return write_nla(tmp_path_factory.mktemp("cli"), lab_tokenizer)


def refused(*arguments, **environment):
    done = subprocess.run(
        [*SERVE, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_an_address_that_others_reach_needs_a_secret(folder):
    assert "--secret-env" in refused("--nla", str(folder), "--host", "0.0.0.0")


@pytest.mark.parametrize("secret", [{}, {"NLA_SECRET": ""}])
def test_a_secret_that_is_not_there_is_refused(folder, secret):
    said = refused(
        "--nla", str(folder), "--host", "0.0.0.0", "--secret-env", "NLA_SECRET", **secret
    )
    assert "NLA_SECRET" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nla", "a={folder}", "--nla", "a={folder}"], "name of its own"),
        (["--nla", "={folder}"], "name=place"),
        (["--nla", "{folder}/nowhere"], "no such model folder"),
        (["--nla", "{folder}", "--engine", "tpu"], "unknown engine"),
        (
            ["--nla", "a={folder}", "--nla", "b={folder}", "--engine", "vllm+http://127.0.0.1:9"],
            "one AV",
        ),
        (["--nla", "{folder}", "--runs", "{folder}/nowhere"], "no such folder"),
    ],
)
def test_wrong_arguments_are_one_line(folder, arguments, said):
    assert said in refused(*(argument.format(folder=folder) for argument in arguments))


def test_a_port_that_is_taken_is_said_before_anything_is_loaded(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "cannot listen" in refused(
            "--nla", str(folder), "--port", str(taken.getsockname()[1])
        )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_stopped(folder, number):
    command = [
        *SERVE,
        "--nla",
        f"one={folder}",
        "--nla",
        f"two={folder}",
        "--port",
        "0",
        "--secret-env",
        "NLA_SECRET",
    ]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "NLA_SECRET": "sesame, open"}
    )
    try:
        line = process.stderr.readline()
        address = line.split()[2]
        assert address.startswith("http://127.0.0.1:")
        answer = httpx2.get(f"{address}/v1/nlas", headers={"X-SECRET-KEY": "sesame, open"})
        assert [nla["name"] for nla in answer.json()["nlas"]] == ["one", "two"]
        assert line == (
            f"Serving on {address} (page: {address}/explore/, API: {address}/v1/docs)."
            " Stop with Ctrl-C.\n"
        )
        assert "<title>" in httpx2.get(f"{address}/explore/").text  # the page itself is open
        process.send_signal(number)
        assert process.wait(timeout=30) == 0
        rest = process.stderr.read()
        assert "Traceback" not in rest
        assert "sesame" not in line + rest
    finally:
        process.kill()
        process.wait()
