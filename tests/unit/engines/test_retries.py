"""When a request is sent again, and how long it waits before."""

import asyncio
import threading
import time
from email.utils import formatdate
from types import SimpleNamespace

import httpx2
import pytest

from gloss.engines import transport
from gloss.engines.retries import Busy, RetryRule, checked, retry_after_s
from gloss.engines.transport import Limits, RefusedRequest, Transport
from gloss.errors import EngineError, ServerBusyError, ServerError
from gloss.nla.remote import Connection, RemoteNLA


def answer(status, after=None, **said):
    headers = {} if after is None else {"Retry-After": after}
    return httpx2.Response(status, headers=headers, json=said)


class Server:
    """Answers in turn; the last answer again and again. An exception is raised."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), 0

    def __call__(self, request):
        self.asked += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        return httpx2.Response(
            found.status_code, headers=found.headers, content=found.content, request=request
        )


@pytest.fixture
def waits(monkeypatch):
    """The waits of this thread, which take no time; a server of another test waits as ever."""
    found, real, mine = [], asyncio.sleep, threading.get_ident()

    async def no_time(seconds):
        if threading.get_ident() == mine:
            found.append(seconds)
        else:
            await real(seconds)

    monkeypatch.setattr("asyncio.sleep", no_time)
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=found.append))
    return found


def by_transport(server, **limits):
    async def ask():
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(server)) as client:
            return await Transport(client, "http://x", Limits(**limits)).send("/y")

    return asyncio.run(ask())


def by_client(server, **limits):
    remote = RemoteNLA(Connection(url="http://x", **limits))
    remote._client = httpx2.Client(base_url="http://x", transport=httpx2.MockTransport(server))
    return remote.nlas()


WAYS = pytest.mark.parametrize(
    ("ask", "final"), [(by_transport, RefusedRequest), (by_client, ServerError)]
)


@pytest.mark.invariant("server-1")
@WAYS
@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_passing_fault_is_asked_again_without_the_header(ask, final, status, waits):
    server = Server(answer(status), answer(status), answer(200, nlas=[]))
    assert ask(server) in ({"nlas": []}, [])
    assert server.asked == 3
    assert 0.125 <= waits[0] <= 0.25
    assert 0.25 <= waits[1] <= 0.5


@pytest.mark.invariant("server-1")
@WAYS
@pytest.mark.parametrize(
    "after", ["0", "-5", "soon", "nan", "inf", "", "Wed, 21 Oct 2015 07:28:00 GMT", "0.0", "1e999"]
)
def test_a_header_of_nothing_does_not_ask_for_ever(ask, final, after, waits):
    server = Server(answer(429, after, detail="full"))
    with pytest.raises(final, match="full"):
        ask(server, max_wait_s=20.0)
    assert min(waits) >= 0.125
    assert sum(waits) <= 20.0
    assert 6 <= server.asked <= 20


@WAYS
@pytest.mark.parametrize("after", ["3", "3.0", " 3 "])
def test_the_header_is_the_least_wait(ask, final, after, waits):
    ask(Server(answer(503, after), answer(200, nlas=[])))
    assert 3.0 <= waits[0] <= 3.3


@WAYS
def test_who_asks_for_more_than_all_of_the_wait_is_given_up_at_once(ask, final, waits):
    server = Server(answer(429, "3600"))
    with pytest.raises(final):
        ask(server)
    assert (server.asked, waits) == (1, [])


@WAYS
@pytest.mark.parametrize("status", [400, 404, 500, 501])
def test_other_statuses_are_final(ask, final, status, waits):
    server = Server(answer(status, "1"))
    with pytest.raises(Exception, match=rf"{status}"):
        ask(server)
    assert (server.asked, waits) == (1, [])


@WAYS
@pytest.mark.parametrize(
    ("status", "kind"), [(503, "CheckpointError"), (503, "EngineError"), (504, "ServerError")]
)
def test_what_a_gloss_server_says_for_good_is_final(ask, final, status, kind, waits):
    server = Server(answer(status, detail="the AR is not loaded", kind=kind))
    with pytest.raises(Exception, match="the AR is not loaded"):
        ask(server)
    assert server.asked == 1
    server = Server(answer(503, kind="ServerBusyError", detail="x"), answer(200, nlas=[]))
    ask(server)
    assert server.asked == 2


@WAYS
def test_connections_that_break_are_tried_as_often_as_said(ask, final, waits):
    server = Server(httpx2.ConnectError("refused"))
    with pytest.raises((EngineError, ServerError), match="no server can be reached"):
        ask(server)
    assert server.asked == 5
    doubling = zip(waits, (0.25, 0.5, 1.0, 2.0), strict=True)
    assert all(0.5 <= found / most <= 1.0 for found, most in doubling)


@WAYS
def test_silence_is_final(ask, final, waits):
    server = Server(httpx2.ReadTimeout("silent"))
    with pytest.raises((EngineError, ServerError), match="in time"):
        ask(server)
    assert server.asked == 1


def test_two_clients_do_not_come_back_together(waits):
    firsts = set()
    for _ in range(8):
        by_transport(Server(answer(429, "2"), answer(200)))
        firsts.add(waits.pop())
    assert len(firsts) == 8


def test_a_gateway_that_gives_up_after_long_work_is_not_asked_for_hours():
    stop = RetryRule(max_wait_s=60.0).options()["stop"]
    outcome = SimpleNamespace(exception=lambda: Busy(answer(504)))
    late = SimpleNamespace(
        outcome=outcome, idle_for=0.2, upcoming_sleep=0.3, seconds_since_start=300.0
    )
    assert stop(late)
    assert not stop(SimpleNamespace(**{**vars(late), "seconds_since_start": 1.0}))


def test_dates_are_read_in_both_time_zones():
    ahead = formatdate(time.time() + 30, usegmt=True)
    assert 25 < retry_after_s(answer(429, ahead)) <= 30
    assert retry_after_s(answer(429, formatdate(time.time() - 30))) == 0.0
    with pytest.raises(Busy):
        checked(answer(502))
    assert not hasattr(transport, "retry_after_s")
    assert issubclass(ServerBusyError, ServerError)
