"""Runs the application by uvicorn on one address."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

from gloss.errors import ConfigError
from gloss.serve.app import Access, create_app
from gloss.serve.guard import LOOPBACK
from gloss.serve.service import Service


def access_for(
    host: str,
    *,
    secret: str | None,
    allowed_hosts: Sequence[str] = (),
    open_paths: Sequence[str] = (),
) -> Access:
    """Who may ask a server bound to ``host``; see ``Access``.

    Raises: ConfigError for an address that others can reach, without a secret.
    """
    if is_loopback(host):
        return Access(secret=secret, hosts={*LOOPBACK, host, *allowed_hosts}, open_paths=open_paths)
    if secret is None:
        raise ConfigError(
            f"--host {host} can be reached from other machines",
            expected="a secret",
            remedy=(
                "Name the environment variable that holds one with --secret-env NAME, or bind to"
                " 127.0.0.1"
            ),
        )
    return Access(secret=secret, hosts=set(allowed_hosts) or None, open_paths=open_paths)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket on an address; port 0 takes a free one.

    Raises: ConfigError if it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"cannot listen ({reason})",
            where=f"{host}:{port}",
            remedy="Choose another --port or --host",
        ) from error
    return listening


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
    """Serves until a stop signal, then shuts down in good order; ``ready`` is told the address just
    before.
    """
    listening.listen()
    host, port = listening.getsockname()[:2]
    ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal again when everything is closed
        make_server(service, access, add_page).run(sockets=[listening])
