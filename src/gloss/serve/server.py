"""Runs the application by uvicorn on one address."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI

from gloss.serve.access import Access
from gloss.serve.app import create_app
from gloss.serve.connections import BACKLOG, KEEP_ALIVE_S, Connection, Server, max_connections
from gloss.serve.memory import give_back_large_blocks
from gloss.serve.service import Service


def make_server(
    service: Service, access: Access, add_page: Callable[[FastAPI], None] | None = None
) -> Server:
    """A uvicorn server over a service, with the page that ``add_page`` mounts.

    Its shutdown gives requests under way the time of grace, then ends them.
    """
    limits = service.limits
    protocol: Any = partial(Connection, limits=limits, most=max_connections())
    app = create_app(service, access)
    if add_page is not None:
        add_page(app)
    config = uvicorn.Config(
        app,
        http=protocol,
        backlog=BACKLOG,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=round(limits.grace_s) + 2,
        timeout_keep_alive=KEEP_ALIVE_S,
        ws="none",
        lifespan="on",
    )
    return Server(config, grace_s=limits.grace_s, stop=service.scheduler.stop)


def serve(
    service: Service,
    access: Access,
    listening: socket.socket,
    *,
    ready: Callable[[str], None],
    add_page: Callable[[FastAPI], None] | None = None,
) -> None:
    """Serves until a stop signal, then shuts down in good order; ``ready`` gets the address just
    before."""
    give_back_large_blocks()
    listening.listen()
    host, port = listening.getsockname()[:2]
    ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal again when everything is closed
        make_server(service, access, add_page).run(sockets=[listening])
