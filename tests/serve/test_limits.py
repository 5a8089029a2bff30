"""Clients that leave, ask for too much, or are too many."""

import contextlib
import json
import threading
import time

import httpx2
import pytest
import torch
from served_nla import TEXT, running, serving
from test_sharing import metric

from gloss.engines import DecodingBatch
from gloss.errors import ServerBusyError
from gloss.serve.limits import Limits
from gloss.serve.service import open_service

LONG = {"temperature": 0.0, "max_new_tokens": 512}


@pytest.fixture
def endless(nla_folder, slow_steps):
    """An NLA whose explanations run on to their cap."""
    from gloss.nla import NLA

    nla = NLA(nla_folder)
    nla.av.model.generation_config.eos_token_id, nla.av.stop_id = None, -1
    return nla


def rows(n, seed=0):
    return torch.randn(n, 32, generator=torch.Generator().manual_seed(seed)).tolist()


def in_background(client, path, body):
    """Asks in a thread, and takes it when the server ends the connection."""

    def ask():
        with contextlib.suppress(httpx2.TransportError):
            httpx2.post(f"{client.base_url}{path}", json=body, timeout=60)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def until(condition, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "never happened"
        time.sleep(0.02)


def test_writing_stops_when_a_streams_client_leaves(endless):
    with serving(endless) as client:
        with client.stream(
            "POST", "/describe", json={"activations": rows(4), "stream": True, **LONG}
        ) as response:
            lines = response.iter_lines()
            assert json.loads(next(lines).removeprefix("data: "))["done"] is False
            assert metric(client, "gloss_batch_rows") == 4
        until(lambda: metric(client, "gloss_batch_rows") == 0)
        written = metric(client, "gloss_tokens_total")
        time.sleep(0.3)
        assert metric(client, "gloss_tokens_total") == written < 4 * 400
        assert metric(client, "gloss_abandoned_rows_total") == 4


def test_writing_stops_when_a_whole_answers_client_leaves(endless):
    with serving(endless) as client:
        with pytest.raises(httpx2.ReadTimeout):
            client.post("/v1/explain", json={"activations": rows(3), **LONG}, timeout=0.5)
        until(lambda: metric(client, "gloss_batch_rows") == 0)
        assert metric(client, "gloss_abandoned_rows_total") == 3


def test_a_row_that_another_client_waits_for_is_written_on(endless):
    body = {"activations": rows(1), "temperature": 0.0, "max_new_tokens": 60}
    with serving(endless) as client:
        kept = []
        patient = threading.Thread(
            target=lambda: kept.append(client.post("/v1/explain", json=body))
        )
        with client.stream("POST", "/v1/explain", json={**body, "stream": True}) as response:
            lines = response.iter_lines()
            for _ in range(5):
                next(lines)
            patient.start()
            until(lambda: metric(client, "gloss_shared_work_total", kind="explanation") == 1)
        patient.join()
        assert kept[0].status_code == 200
        assert kept[0].json()["explanations"][0]["response"]
        assert metric(client, "gloss_abandoned_rows_total") == 0


def test_a_full_queue_answers_429_at_once_and_says_when_to_come_back(endless):
    with serving(endless, max_batch_rows=2, max_queued_rows=4, grace_s=0.2) as client:
        in_background(client, "/describe", {"activations": rows(3, 0), **LONG})
        until(lambda: metric(client, "gloss_batch_rows") == 2)
        in_background(client, "/describe", {"activations": rows(3, 1), **LONG})
        until(lambda: metric(client, "gloss_queued_rows") == 4)
        started = time.monotonic()
        for path, body in (
            ("/describe", {"activations": rows(1, 9)}),
            ("/v1/explain", {"activations": rows(1, 9)}),
        ):
            for stream in (False, True):
                answer = client.post(path, json={**body, "stream": stream})
                assert answer.status_code == 429
                assert int(answer.headers["Retry-After"]) >= 1
                assert answer.json()["kind"] == "ServerBusyError"
        assert time.monotonic() - started < 5
        assert client.get("/healthz").status_code == 200


def test_a_small_request_does_not_wait_for_all_of_a_large_one(endless):
    with serving(endless, max_batch_rows=2, grace_s=0.2) as client:
        short = {"temperature": 0.0, "max_new_tokens": 10}
        in_background(client, "/describe", {"activations": rows(40), **short})
        until(lambda: metric(client, "gloss_queued_rows") > 30)
        client.post("/describe", json={"activations": rows(1, 5), **short})
        assert metric(client, "gloss_queued_rows") > 25


def test_a_request_that_takes_too_long_ends_with_504_or_an_error_frame(endless):
    body = {"activations": rows(1), **LONG}
    with serving(endless, request_timeout_s=1.0) as client:
        answer = client.post("/describe", json=body)
        assert answer.status_code == 504
        assert "too long" in answer.json()["detail"]
        with client.stream("POST", "/v1/explain", json={**body, "stream": True}) as response:
            data = [line.removeprefix("data: ") for line in response.iter_lines() if line]
        assert json.loads(data[-1])["status"] == 504
        assert "[DONE]" not in data
        until(lambda: metric(client, "gloss_batch_rows") == 0)


def test_bodies_beyond_the_bound_are_refused_with_or_without_a_length(nla):
    with serving(nla, max_body_bytes=10_000) as client:
        big = json.dumps({"text": "a " * 20_000}).encode()
        headers = {"Content-Type": "application/json"}
        assert client.post("/explain", content=big, headers=headers).status_code == 413
        assert (
            client.post(
                "/v1/explain", content=iter([big[:9000], big[9000:]]), headers=headers
            ).status_code
            == 413
        )
        assert client.post("/v1/vectors", content=b"x" * 20_000).status_code == 413
        assert client.post("/explain", json={"text": TEXT, "positions": [1]}).status_code == 200


def test_an_answer_with_too_many_numbers_is_refused(nla):
    with serving(nla, max_values=100) as client:
        for path in ("/extract", "/v1/activations"):
            assert client.post(path, json={"text": TEXT}).status_code == 413


def test_texts_and_queries_beyond_their_bounds_are_422(client):
    assert client.post("/explain", json={"text": "a" * 65_537}).status_code == 422
    assert client.post("/v1/explain", json={"text": "a", "tokens": "a" * 1001}).status_code == 422
    assert (
        client.post("/v1/trust", json={"text": "a", "explanation": "a" * 8193}).status_code == 422
    )
    answer = client.post("/explain", json={"text": "secret-text" * 6000})
    assert "secret-text" not in answer.text


def test_completions_are_bounded_too(nla):
    with (
        serving(nla, max_completions=1) as client,
        client.stream(
            "POST", "/completion", json={"text": "Leo", "completion_tokens": 250, "stream": True}
        ) as response,
    ):
        next(response.iter_lines())
        assert client.post("/completion", json={"text": "Leo"}).status_code in (200, 429)


def test_an_error_of_ours_is_a_500_without_its_details_and_the_server_goes_on(
    nla, monkeypatch, caplog
):
    with serving(nla) as client:
        with monkeypatch.context() as broken:
            broken.setattr(DecodingBatch, "step", lambda _engine: 1 / 0)
            answer = client.post("/v1/explain", json={"activations": rows(1)})
            assert answer.status_code == 500
            assert "division" not in answer.text
        assert client.post("/v1/explain", json={"activations": rows(1)}).status_code == 200
        assert metric(client, "gloss_failures_total", kind="ZeroDivisionError") == 1
        assert "division by zero" in caplog.text


# ---- shutdown


def test_a_shutdown_finishes_what_is_under_way(endless):
    answers = []
    body = {"activations": rows(2), "temperature": 0.0, "max_new_tokens": 50}
    with serving(endless, grace_s=20.0) as client:
        thread = threading.Thread(
            target=lambda: answers.append(client.post("/describe", json=body))
        )
        thread.start()
        until(lambda: metric(client, "gloss_batch_rows") == 2)
        client.server.should_exit = True
        thread.join(timeout=20)
    assert answers[0].status_code == 200
    assert len(answers[0].json()["results"]) == 2


def test_a_shutdown_does_not_wait_longer_than_its_grace(endless):
    service = open_service({"tiny": endless}, limits=Limits(grace_s=1.0))
    failures = []

    def ask(address):
        try:
            answer = httpx2.post(
                f"{address}/describe", json={"activations": rows(1), **LONG}, timeout=60
            )
            failures.append(answer.status_code)
        except httpx2.TransportError as error:
            failures.append(type(error))

    with running(service) as (address, server):
        thread = threading.Thread(target=ask, args=(address,))
        thread.start()
        until(lambda: service.scheduler.explanations["tiny"].num_running == 1)
        started = time.monotonic()
        server.should_exit = True
    assert time.monotonic() - started < 8
    thread.join(timeout=10)
    assert failures
    assert failures[0] != 200
    assert not service.scheduler.is_ready


def test_a_closed_scheduler_refuses_and_is_not_ready(nla):
    service = open_service({"tiny": nla}, limits=Limits())
    with running(service) as (address, _):
        service.scheduler.close()
        assert httpx2.get(f"{address}/readyz").status_code == 503
        answer = httpx2.post(f"{address}/describe", json={"activations": rows(1)})
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers
        with pytest.raises(ServerBusyError):
            service.questions["tiny"].executor.explanations([])
