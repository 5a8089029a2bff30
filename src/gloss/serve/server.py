"""Runs the application by uvicorn on one address."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

from gloss.serve.access import Access
from gloss.serve.app import create_app
from gloss.serve.service import Service


def make_server(
    service: Service, access: Access, add_page: Callable[[FastAPI], None] | None = None
) -> uvicorn.Server:
    """A uvicorn server over a service, with the page that ``add_page`` mounts.

    Its shutdown gives requests under way the time of grace, then ends them.
    """
    app = create_app(service, access)
    if add_page is not None:
        add_page(app)
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=max(1, round(service.limits.grace_s)),
        timeout_keep_alive=30,
        ws="none",
        lifespan="on",
    )
    return uvicorn.Server(config)


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
    listening.listen()
    host, port = listening.getsockname()[:2]
    ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal again when everything is closed
        make_server(service, access, add_page).run(sockets=[listening])
