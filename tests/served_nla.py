"""A real uvicorn in a thread over given NLAs, and a client of it."""

import json
import threading
import time
from contextlib import contextmanager

import httpx2

from gloss.serve.access import access_for, bound_socket
from gloss.serve.limits import Limits
from gloss.serve.server import make_server
from gloss.serve.service import open_service

TEXT = "Leo felt joyful that dawn. He fixed the bait and his mother pulled the trout."


@contextmanager
def running(
    service,
    *,
    host="127.0.0.1",
    port=0,
    secret=None,
    allowed_hosts=(),
    open_paths=(),
    add_page=None,
):
    """A server in a thread; yields its address and the uvicorn server."""
    listening = bound_socket(host, port)
    access = access_for(host, secret=secret, allowed_hosts=allowed_hosts, open_paths=open_paths)
    server = make_server(service, access, add_page)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", server
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        assert not thread.is_alive()


@contextmanager
def serving(
    nlas, *, runs=None, known_truth=None, secret=None, host="127.0.0.1", allowed_hosts=(), **limits
):
    """A client of a server over these NLAs with these limits."""
    nlas = nlas if isinstance(nlas, dict) else {"tiny": nlas}
    limits = Limits(**{"grace_s": 2.0, **limits})
    service = open_service(nlas, limits=limits, runs=runs, known_truth=known_truth)
    with (
        running(service, host=host, secret=secret, allowed_hosts=allowed_hosts) as (
            address,
            server,
        ),
        httpx2.Client(
            base_url=address, timeout=60, headers={"X-SECRET-KEY": secret} if secret else {}
        ) as client,
    ):
        client.service, client.server = service, server
        yield client


def frames(client, path, body):
    """All frames of a streamed answer, as JSON, without the [DONE] that must close it."""
    with client.stream("POST", path, json=body) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        data = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert data[-1] == "[DONE]"
    return [json.loads(line) for line in data[:-1]]
