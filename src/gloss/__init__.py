"""Natural language autoencoders: turn a language model's activations into words, and check the
words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from gloss.errors import GlossError

if TYPE_CHECKING:
    from pathlib import Path

    from gloss.engines import Engine
    from gloss.nla import NLA
    from gloss.nla.remote import AsyncRemoteNLA, RemoteNLA
    from gloss.target_model import LoadOptions

__version__ = "0.1.0"
__all__ = ["NLA", "GlossError", "__version__", "connect", "load"]


def load(
    name: str | Path | None = None,
    *,
    av: str | Path | None = None,
    ar: str | Path | None = None,
    target: str | Path | None = None,
    engine: str | Engine = "local",
    force: bool = False,
    **options: Unpack[LoadOptions],
) -> NLA:
    """Opens an NLA: a folder with ``av/`` and ``ar/``, or a hub id such as
    ``kitft/nla-qwen2.5-7b-L20`` (-av and -ar behind it).

    Its parts are fetched and loaded when first used. ``av``, ``ar`` and ``target`` name parts that
    stand elsewhere; ``engine`` is
    ``local`` or the server that runs the AV, such as ``vllm+http://host:8000``; ``force`` goes on
    with another target than the recorded one, with a warning of what differs; ``options`` are
    revision (of AV and AR), dtype, device, device_map, attn_implementation, quantization, adapter
    and trust_remote_code.
    Raises: ConfigError if nothing is named, or no engine is called so; CheckpointError if there is
    no NLA, or the hub cannot be reached; SidecarError."""
    from gloss.nla import NLA

    return NLA(name, av=av, ar=ar, target=target, engine=engine, force=force, **options)


@overload
def connect(
    url: str,
    *,
    nla: str | None = None,
    secret: str | None = None,
    asynchronous: Literal[False] = False,
) -> RemoteNLA: ...


@overload
def connect(
    url: str, *, nla: str | None = None, secret: str | None = None, asynchronous: Literal[True]
) -> AsyncRemoteNLA: ...


def connect(
    url: str, *, nla: str | None = None, secret: str | None = None, asynchronous: bool = False
) -> RemoteNLA | AsyncRemoteNLA:
    """An NLA that a Gloss server holds (``gloss serve``), with the methods of a local one; nothing
    is sent yet.

    ``nla`` names one of several; by default the first. ``secret`` is what the server was started
    with. An ``asynchronous`` client has the same methods to be awaited. Raises: ConfigError if
    ``url`` is not one of a web server."""
    from gloss.nla.remote import AsyncRemoteNLA, Connection, RemoteNLA

    connection = Connection(url=url, secret=secret)
    return AsyncRemoteNLA(connection, nla) if asynchronous else RemoteNLA(connection, nla)


def __getattr__(name: str) -> Any:
    if name == "NLA":
        from gloss.nla import NLA

        return NLA
    raise AttributeError(f"module 'gloss' has no attribute {name!r}")
