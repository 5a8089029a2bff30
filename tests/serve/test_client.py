"""The Python client has the methods of a local NLA and raises its errors."""

import asyncio
import inspect
import json
import runpy
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx2
import pytest
import torch
from served_nla import TEXT, running, serving

import gloss
from gloss.errors import (
    AccessError,
    ActivationError,
    ConfigError,
    PositionError,
    ServerBusyError,
    ServerError,
)
from gloss.nla import NLA, Questions
from gloss.nla.remote import AsyncRemoteNLA, Connection, RemoteNLA
from gloss.serve.limits import Limits
from gloss.serve.service import open_service

CHAT = [{"role": "user", "content": "Who sat there?"}]


@pytest.fixture
def remote(client):
    with gloss.connect(str(client.base_url)) as remote:
        yield remote


def same(found, expected):
    assert [(e.position, e.token, e.text, e.response, e.flags) for e in found] == [
        (e.position, e.token, e.text, e.response, e.flags) for e in expected
    ]
    assert [e.fve for e in found] == pytest.approx([e.fve for e in expected], abs=1e-4)


def test_it_reads_as_the_local_nla(remote, nla, vectors):
    same(remote.explain(TEXT), nla.explain(TEXT))
    same(remote.explain(TEXT, positions="3,7-9"), nla.explain(TEXT, positions="3,7-9"))
    same(remote.explain(TEXT, positions=(2, -1)), nla.explain(TEXT, positions=(2, -1)))
    same(remote.explain(vectors), nla.explain(vectors))
    same(remote.explain(vectors[0]), nla.explain(vectors[0]))
    assert remote.explain(vectors, score=False)[0].fve is None
    assert remote.tokens(TEXT) == nla.tokens(TEXT)
    torch.testing.assert_close(
        remote.activations(TEXT), nla.activations(TEXT), atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(
        remote.reconstruct("it rains"), nla.reconstruct("it rains"), atol=1e-5, rtol=1e-5
    )
    assert remote.score(["a"] * 4, vectors)[2].cosine == pytest.approx(
        nla.score(["a"] * 4, vectors)[2].cosine, abs=1e-5
    )
    assert remote.nlas()[0].name == "tiny"


def test_it_steers_as_the_local_nla(remote, nla):
    options = {
        "edit": ("rains", "snows"),
        "original": "it rains",
        "alphas": (2.0,),
        "max_new_tokens": 8,
    }
    found, local = remote.steer(TEXT, **options), nla.steer(TEXT, **options)
    assert (found.positions, found.token, found.original, found.edited) == (
        local.positions,
        local.token,
        local.original,
        local.edited,
    )
    assert found.continuations == local.continuations
    assert "steering at token" in str(found)


def test_chats_are_read_too(remote):
    tokens = remote.tokens(CHAT).tokens
    assert "Who" in "".join(token.token for token in tokens)
    assert len(remote.explain(CHAT, positions="all")) == len(tokens)
    assert remote.trust(CHAT, position=4, samples=2).controls


def test_the_async_client_does_the_same(client, nla, vectors):
    async def ask():
        async with gloss.connect(str(client.base_url), asynchronous=True) as remote:
            return await asyncio.gather(
                *(remote.explain(v) for v in vectors), remote.activations(TEXT)
            )

    *explained, activations = asyncio.run(ask())
    for found, vector in zip(explained, vectors, strict=True):
        same(found, nla.explain(vector))
    assert activations.shape == (17, 32)


def test_it_compares_and_continues(remote, client, vectors):
    found = remote.compare((TEXT, 3), vectors[0], seed=1)
    body = {
        "sides": [{"text": TEXT, "position": 3}, {"activation": vectors[0].tolist()}],
        "seed": 1,
    }
    assert found.to_dict() == client.post("/v1/compare", json=body).json()
    assert remote.compare(TEXT, TEXT).norm == 0
    whole = client.post(
        "/completion", json={"text": TEXT, "completion_tokens": 6, "temperature": 0}
    ).json()["text"]
    continued = remote.continue_text(TEXT, max_new_tokens=6)
    assert (continued.text, TEXT + continued.continuation) == (whole, whole)


def test_it_reads_runs(nla, tmp_path):
    (tmp_path / "a run").mkdir()
    (tmp_path / "a run" / "metrics.jsonl").write_text('{"stage": "joint", "step": 3}\n')
    with serving(nla, runs=tmp_path) as client, gloss.connect(str(client.base_url)) as remote:
        assert [run.id for run in remote.runs()] == ["a run"]
        assert remote.run("a run").metrics == [{"stage": "joint", "step": 3}]
        with pytest.raises(ConfigError):
            remote.run("../nowhere")


def test_both_clients_have_the_same_methods():
    def public(kind):
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(AsyncRemoteNLA) == public(RemoteNLA)


def test_its_questions_have_the_signatures_of_the_local_nla():
    questions = [n for n in vars(Questions) if n in vars(NLA) and not n.startswith("_")]
    assert len(questions) == 9
    for name in questions:
        local = inspect.signature(getattr(NLA, name))
        assert inspect.signature(getattr(RemoteNLA, name)) == local
        assert inspect.signature(getattr(AsyncRemoteNLA, name)) == local


def test_the_synchronous_client_is_made_from_the_asynchronous_one():
    script = Path(__file__).parents[2] / "scripts" / "unasync.py"
    subprocess.run([sys.executable, str(script), "--check"], check=True)
    module = runpy.run_path(str(script))
    assert module["synchronous"]("async def f():\n    await g()\n").endswith("def f():\n    g()\n")
    with pytest.raises(ValueError, match="no synchronous twin of 'AsyncThing'"):
        module["synchronous"]("AsyncThing()")


@pytest.mark.parametrize(
    ("ask", "error", "said"),
    [
        (lambda r: r.explain(TEXT, positions=99), PositionError, "no such token"),
        (lambda r: r.explain(torch.zeros(1, 32)), ActivationError, "no direction"),
        (lambda r: r.explain(torch.ones(1, 7)), ActivationError, "32"),
        (lambda r: r.explain(TEXT, samples=99), ConfigError, "samples"),
        (lambda r: r.steer(TEXT, edit=("x", "y"), original="a"), ConfigError, "does not hold"),
    ],
)
def test_errors_are_those_of_the_local_nla(remote, ask, error, said):
    with pytest.raises(error, match=said) as caught:
        ask(remote)
    assert "\n" not in str(caught.value)


def test_an_nla_that_is_not_there_is_named(client):
    with pytest.raises(ConfigError, match="no such NLA"):
        gloss.connect(str(client.base_url), nla="other").tokens("a")


def test_secrets_are_sent_and_missed(nla):
    with serving(nla, secret="open sesame") as client:
        url = str(client.base_url)
        assert gloss.connect(url, secret="open sesame").tokens("a")
        for secret in (None, "wrong"):
            with pytest.raises(AccessError):
                gloss.connect(url, secret=secret).tokens("a")


def test_what_is_no_address_is_refused():
    for url in ("127.0.0.1:5009", "file:///etc/passwd", ""):
        with pytest.raises(ConfigError, match="not the address"):
            gloss.connect(url)


def test_a_server_that_is_not_there_is_an_error_with_its_remedy(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    with pytest.raises(ServerError, match="gloss serve"):
        gloss.connect("http://127.0.0.1:9").tokens("a")


class Scripted(BaseHTTPRequestHandler):
    """Answers with what the test has put into ``script``: (status, headers, body), in turn."""

    script: list = []

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        status, headers, body = self.script.pop(0)
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def scripted():
    server = HTTPServer(("127.0.0.1", 0), Scripted)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


TOKENS = json.dumps(
    {
        "doc_id": "text",
        "text": "a",
        "tokens": [{"token_id": 1, "token": "a", "position": 0}],
        "messages": None,
    }
).encode()


def test_a_busy_server_is_waited_for_but_not_for_ever(scripted):
    busy = (429, {"Retry-After": "0"}, b'{"detail": "full", "kind": "ServerBusyError"}')
    Scripted.script = [busy, busy, (200, {}, TOKENS)]
    assert gloss.connect(scripted).tokens("a").token_ids == [1]
    Scripted.script = [(429, {"Retry-After": "500"}, busy[2])]
    with pytest.raises(ServerBusyError, match="full"):
        gloss.connect(scripted).tokens("a")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"tokens": 3}'])
def test_an_answer_of_something_else_is_an_error(scripted, body):
    Scripted.script = [(200, {}, body)]
    with pytest.raises(ServerError, match="not the answer of a Gloss server"):
        gloss.connect(scripted).tokens("a")


@pytest.mark.parametrize(
    "body", [b"boom", b'{"detail": "x", "kind": "SystemExit"}', b'{"kind": "__name__"}', b"[1]"]
)
def test_an_error_of_unknown_kind_is_a_server_error(scripted, body):
    Scripted.script = [(500, {}, body)]
    with pytest.raises(ServerError):
        gloss.connect(scripted).tokens("a")


def test_a_server_that_has_answered_is_waited_for_longer_but_not_for_ever(nla, monkeypatch):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    never = RemoteNLA(Connection(url="http://127.0.0.1:9", max_wait_s=7.0))
    with pytest.raises(ServerError, match="no server can be reached"):
        never.tokens("a")
    assert all(0.5 <= found / w <= 1 for found, w in zip(waits, (0.25, 0.5, 1, 2), strict=True))
    assert len(waits) == 4
    waits.clear()
    monkeypatch.setattr("gloss.engines.retries._RANDOM.uniform", lambda least, most: least)
    never._known = True
    with pytest.raises(ServerError, match="no server can be reached"):
        never.tokens("a")
    assert len(waits) >= 5
    assert sum(waits) <= 7.0


def test_a_client_outlives_a_restart_of_its_server(nla):
    service = open_service({"tiny": nla}, limits=Limits(grace_s=1.0))
    with running(service) as (address, _):
        remote = RemoteNLA(Connection(url=address))
        before = remote.explain(TEXT)
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(address)
    again = open_service({"tiny": nla}, limits=Limits(grace_s=1.0))
    answers = []
    thread = threading.Thread(target=lambda: answers.append(remote.explain(TEXT)))
    thread.start()
    with running(again, port=int(address.rsplit(":", 1)[1])):
        thread.join()
    assert list(answers[0]) == list(before)
