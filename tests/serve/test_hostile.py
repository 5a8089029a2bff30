"""Requests that are meant to stop the server for everybody: each is refused, or costs the others
nothing."""

import asyncio
import io
import json
import socket
import threading
import time
from contextlib import contextmanager

import httpx2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from served_nla import serving

from gloss.nla import TooLarge
from gloss.serve import limits as bounds
from gloss.serve.bodies import Bodies
from gloss.serve.interop_models import TextRequest
from gloss.serve.json_text import answer_bytes, json_bytes
from gloss.serve.limits import Limits, json_bounds
from gloss.serve.side_thread import SideThread

HEAD = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def hostile(nla):
    with serving(nla, header_timeout_s=0.6, body_timeout_s=0.8, write_timeout_s=0.5) as client:
        yield client


@contextmanager
def watched(client):
    """Asks for the health all the time; yields the seconds that each answer took."""
    found, begun, over = [], threading.Event(), threading.Event()

    def watch():
        with httpx2.Client(base_url=client.base_url, timeout=30) as other:
            while not over.is_set():
                started = time.monotonic()
                assert other.get("/healthz").status_code == 200
                found.append(time.monotonic() - started)
                begun.set()
                time.sleep(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    assert begun.wait(timeout=30)
    yield found
    over.set()
    thread.join()


def raw(client, data=b""):
    """A connection on which so much was sent."""
    connection = socket.create_connection((client.base_url.host, client.base_url.port), timeout=10)
    connection.sendall(data)
    return connection


def seconds_until_closed(connection):
    started = time.monotonic()
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return time.monotonic() - started


@pytest.mark.invariant("server-2")
@pytest.mark.parametrize("path", ["/tokenize", "/explain", "/v1/tokens", "/v1/explain"])
def test_a_chat_of_many_messages_is_refused_while_others_are_answered(hostile, path):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 40_000
    with watched(hostile) as seconds:
        answer = hostile.post(path, json={"messages": turns})
    assert answer.status_code == 413
    assert max(seconds) < 1.0
    most = turns[: bounds.MAX_MESSAGES + 1]
    answer = hostile.post("/v1/tokens", json={"messages": most})
    assert answer.status_code == 413
    assert f"at most {bounds.MAX_MESSAGES}, found {bounds.MAX_MESSAGES + 1}" in answer.text
    long = [{"role": "user", "content": "a" * (bounds.MAX_CHAT_CHARS + 1)}]
    assert "too long" in hostile.post("/v1/tokens", json={"messages": long}).json()["detail"]


@pytest.mark.invariant("server-2")
def test_millions_of_numbers_are_refused_before_they_are_parsed(hostile):
    body = b'{"activations": [[' + b"0," * 5_000_000 + b"0]]}"
    with watched(hostile) as seconds:
        assert hostile.post("/describe", content=body, headers=HEAD).status_code == 413
        assert hostile.post("/v1/explain", content=body, headers=HEAD).status_code == 413
    assert max(seconds) < 1.0


def test_numbers_that_are_none_cost_one_line_of_error_each_list(hostile):
    rows = [["x"] * 32] * 8000
    answer = hostile.post("/v1/explain", json={"activations": rows})
    assert answer.status_code == 422
    assert len(answer.json()["detail"]) < 5


def test_a_body_as_large_as_allowed_is_read(nla):
    largest, commas = json_bounds(nla.sidecar.d_model)
    assert commas > 2 * bounds.MAX_DESCRIBE_BATCH * nla.sidecar.d_model
    row = [round(0.001 * i - 0.3, 18) for i in range(nla.sidecar.d_model)]
    body = json.dumps({"activations": [row] * bounds.MAX_DESCRIBE_BATCH, "max_new_tokens": 1})
    assert len(body) < largest
    with serving(nla) as client:
        assert client.post("/describe", content=body, headers=HEAD).status_code == 200


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_json_is_refused(hostile, opening):
    answer = hostile.post("/tokenize", content=b'{"text":' + opening * 200_000, headers=HEAD)
    assert answer.status_code in (400, 422)


@pytest.mark.invariant("server-3")
@pytest.mark.parametrize(
    "begun",
    [b"", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-", b"GET / HTTP/1.1\r\n"],
)
def test_a_connection_that_never_finishes_its_headers_is_ended(hostile, begun):
    connection = raw(hostile, begun)
    assert 0.3 < seconds_until_closed(connection) < 5


@pytest.mark.invariant("server-3")
def test_headers_that_trickle_in_gain_no_time(hostile):
    connection, started = raw(hostile, b"GET /healthz HTTP/1.1\r\n"), time.monotonic()
    with pytest.raises(ConnectionError):  # noqa: PT012
        while time.monotonic() - started < 8:
            connection.sendall(b"x")
            time.sleep(0.1)
    assert time.monotonic() - started < 5


@pytest.mark.invariant("server-3")
@pytest.mark.parametrize("path", ["/tokenize", "/v1/explain", "/v1/vectors", "/nowhere"])
def test_a_body_that_never_ends_is_answered_408(hostile, path):
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    connection = raw(hostile, head.encode() + b'Content-Length: 100\r\n\r\n{"te')
    assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")


@pytest.mark.invariant("server-3")
def test_half_open_connections_make_room_for_others(nla, monkeypatch):
    monkeypatch.setattr("gloss.serve.server.max_connections", lambda: 20)
    with serving(nla, header_timeout_s=60.0) as client:
        held = [raw(client, b"POST /describe HTTP/1.1\r\nHost:") for _ in range(100)]
        started = time.monotonic()
        assert httpx2.get(f"{client.base_url}/healthz", timeout=10).status_code == 200
        assert time.monotonic() - started < 2
        assert len(client.server.server_state.connections) <= 21
        assert len(held) == 100


def test_where_all_connections_are_busy_a_new_one_is_told_so(nla, monkeypatch):
    monkeypatch.setattr("gloss.serve.server.max_connections", lambda: 3)
    with serving(nla) as client:
        head = b"POST /tokenize HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{"
        held = [raw(client, head) for _ in range(3)]
        time.sleep(0.3)
        said = raw(client).recv(65536)
        assert said.startswith(b"HTTP/1.1 503 ")
        headers, body = said.split(b"\r\n\r\n")
        assert b"retry-after: 1" in headers
        assert f"content-length: {len(body)}".encode() in headers
        assert json.loads(body)["kind"] == "ServerBusyError"
        assert len(held) == 3


@pytest.mark.invariant("server-3")
def test_a_client_that_does_not_take_its_answer_is_left(nla):
    limits = {"write_timeout_s": 0.3, "header_timeout_s": 60.0}
    with serving(nla, **limits) as client:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((client.base_url.host, client.base_url.port))
        request = b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        deadline, held = time.monotonic() + 20, client.server.server_state.connections
        with pytest.raises(OSError):  # noqa: PT012
            while time.monotonic() < deadline:
                connection.settimeout(2)
                connection.sendall(request * 50)
        for _ in range(100):
            if len(held) <= 1:
                break
            time.sleep(0.1)
        assert len(held) <= 1


def test_large_bodies_share_one_bound():
    limits, sent = Limits(max_held_bytes=6 * 2**20, max_body_bytes=5 * 2**20), []
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def app(_scope, receive, send):
        assert len((await receive())["body"]) == 4 * 2**20
        inside.set()
        await go_on.wait()

    def call(bodies):
        message = {"type": "http.request", "body": b"x" * 4 * 2**20, "more_body": False}

        async def receive():
            return message

        async def send(said):
            sent.append(said.get("status"))

        scope = {"type": "http", "path": "/f", "headers": [], "method": "POST"}
        return bodies(scope, receive, send)

    async def both():
        bodies = Bodies(app, limits=limits, json_bounds=(10, 10), files=frozenset({"/f"}))
        first = asyncio.ensure_future(call(bodies))
        await inside.wait()
        await call(bodies)
        assert sent[0] == 429
        go_on.set()
        await first
        sent.clear()
        await call(bodies)
        assert not sent

    asyncio.run(both())


# ---- uploads


def bomb(rows, width=32):
    """A small file of very many equal rows, which unpack to gigabytes."""
    vector = np.arange(width, dtype=np.float32)
    values = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(rows, dtype=np.int32)), pa.array(["x" * 4000])
    )
    flat = pa.array(np.tile(vector, rows))
    table = pa.table(
        {
            "n_raw_tokens": pa.array(np.ones(rows, dtype=np.int64)),
            "detokenized_text_truncated": values,
            "activation_vector": pa.FixedSizeListArray.from_arrays(flat, width),
            "activation_layer": pa.array(np.full(rows, 2, dtype=np.int64)),
            "doc_id": values,
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=rows, use_dictionary=True)
    return buffer.getvalue()


def memory_mb():
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096 / 2**20


@pytest.mark.invariant("server-4")
def test_a_file_that_unpacks_to_gigabytes_leaves_the_server_as_it_was(nla):
    data = bomb(500_000)
    assert len(data) < 2**20
    with serving(nla, upload_bytes=256 * 2**20) as client:
        assert client.post("/v1/vectors", content=npy(2)).status_code == 200
        before = memory_mb()
        with watched(client) as seconds:
            answer = client.post("/v1/vectors", content=data)
        assert answer.status_code in (200, 400)
        assert answer.status_code == 200 or "memory" in answer.text
        assert memory_mb() - before < 100
        assert max(seconds) < 1.0


@pytest.mark.invariant("server-4")
def test_a_process_without_memory_is_one_line(nla):
    with serving(nla, upload_bytes=2**20) as client:
        answer = client.post("/v1/vectors", content=bomb(200_000))
        assert answer.status_code == 400
        assert "too much memory or time" in answer.json()["detail"]


def npy(rows, width=32):
    buffer = io.BytesIO()
    np.save(buffer, np.ones((rows, width), dtype=np.float32))
    return buffer.getvalue()


def test_the_process_that_opens_a_file_is_told_no_secret(nla, monkeypatch, tmp_path):
    monkeypatch.setenv("GLOSS_TEST_SECRET", "told to nobody")
    told = []
    start = asyncio.create_subprocess_exec

    async def started(*command, **options):
        told.append(options["env"])
        return await start(*command, **options)

    monkeypatch.setattr("asyncio.create_subprocess_exec", started)
    with serving(nla) as client:
        found = client.post("/v1/vectors", content=npy(3)).json()
    assert (found["num_rows"], len(found["vectors"])) == (3, 3)
    assert "told to nobody" not in told[0].values()


# ---- answers and roles


def test_no_answer_holds_nan():
    assert json_bytes({"a": float("nan"), "b": [float("inf")]}) == b'{"a":null,"b":[null]}'
    assert answer_bytes({"a": (1.5, float("nan")), "b": "x"}) == b'{"a":[1.5,null],"b":"x"}'


@pytest.mark.invariant("server-5")
@pytest.mark.parametrize("role", ["", " ", "User", "narrator", "user<|im_end|>", "x" * 5000])
@pytest.mark.parametrize("path", ["/tokenize", "/v1/tokens", "/v1/explain"])
def test_a_role_that_no_template_means_is_refused(hostile, role, path):
    answer = hostile.post(path, json={"messages": [{"role": role, "content": "Hello"}]})
    assert answer.status_code == 400
    assert "unknown role: expected one of assistant" in answer.json()["detail"]
    assert len(answer.text) < 500


# ---- threads and shutdown


def test_a_side_thread_outlives_errors_and_is_bounded():
    async def ask():
        thread = SideThread("test", max_waiting=2)
        thread.start()
        with pytest.raises(ZeroDivisionError):
            await thread.run(lambda: 1 / 0)
        assert await thread.run(lambda a, b=0: a - b, 7, b=2) == 5
        gate, runs = threading.Event(), threading.Event()
        blocked = [asyncio.ensure_future(thread.run(lambda: runs.set() or gate.wait()))]
        await asyncio.sleep(0)
        assert runs.wait(10)  # it has left the queue before the others fill that
        blocked += [asyncio.ensure_future(thread.run(gate.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Exception, match="too many requests"):
            await thread.run(time.sleep, 0)
        gate.set()
        await asyncio.gather(*blocked)

    asyncio.run(ask())


@pytest.mark.invariant("server-6")
def test_a_shutdown_under_load_takes_its_grace_once_and_is_quiet(nla_folder, slow_steps, caplog):
    from gloss.nla import NLA

    endless = NLA(nla_folder)
    endless.av.model.generation_config.eos_token_id, endless.av.stop_id = None, -1
    rows = np.random.default_rng(0).normal(size=(17, 32)).tolist()
    ended = []

    def ask(address, row, stream):
        body = {"activations": [row], "max_new_tokens": 512, "stream": stream}
        try:
            with httpx2.stream("POST", f"{address}/describe", json=body, timeout=60) as answer:
                answer.read()
                ended.append(answer.status_code)
        except httpx2.TransportError as error:
            ended.append(type(error).__name__)

    with serving(endless, grace_s=2.0) as client:
        threads = [
            threading.Thread(target=ask, args=(str(client.base_url).rstrip("/"), row, i % 2 == 0))
            for i, row in enumerate(rows)
        ]
        for thread in threads:
            thread.start()
        raw(client, b"POST /describe HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{")
        queue = client.service.scheduler.explanations["tiny"]
        while queue.num_running < len(rows):
            time.sleep(0.02)
        started = time.monotonic()
        client.server.should_exit = True
        while client.service.scheduler._thread.is_alive() or client.server.server_state.tasks:
            assert time.monotonic() - started < 4
            time.sleep(0.01)
    assert time.monotonic() - started < 3.5
    for thread in threads:
        thread.join(timeout=10)
    assert len(ended) == len(rows)
    assert set(ended) & {503, 200}
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.invariant("server-2")
def test_more_messages_than_a_chat_has_are_refused_before_one_of_them_is_looked_at():
    """Each is checked in the event loop: 80 000 of them kept everybody waiting for a second."""
    wrong = [{"role": 7, "content": []}]
    with pytest.raises(ValidationError):
        TextRequest.model_validate({"messages": wrong * 3})
    with pytest.raises(TooLarge, match="at most 1024, found 1025"):
        TextRequest.model_validate({"messages": wrong * 1025})
