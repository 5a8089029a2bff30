"""Who may ask a server, and the address that it listens on; known before anything is loaded."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from gloss.errors import ConfigError

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may ask. ``secret`` None asks for none; ``hosts`` are the names that the server may be
    called by, None for any.

    ``open_paths`` need no secret, beside the health checks: a page's own files (a path that ends
    with / and what is below it)."""

    secret: str | None = None
    hosts: Collection[str] | None
    open_paths: Collection[str] = ()


def access_for(
    host: str,
    *,
    secret: str | None,
    allowed_hosts: Sequence[str] = (),
    open_paths: Sequence[str] = (),
) -> Access:
    """Who may ask a server bound to ``host``; see ``Access``. ``*.example.org`` allows all below.

    Raises: ConfigError for an address that others can reach, without a secret, or for another
    pattern of names.
    """
    for name in allowed_hosts:
        if "*" in name.removeprefix("*."):
            raise ConfigError(
                "--allow-host", expected="a name, or *. and a domain", found=repr(name)
            )
    if secret is not None and not secret.strip():
        raise ConfigError("the secret is empty", expected="a secret that nobody guesses")
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
