"""The verb that serves NLAs over HTTP."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gloss.cli.read import ENGINE, TARGET
from gloss.errors import ConfigError, MissingExtraError

NLAS = Annotated[
    list[str] | None,
    typer.Option(
        "--nla",
        help=(
            "Folder or hub id of an NLA, or name=place; repeatable. The last quickstart if not"
            " given."
        ),
    ),
]
SECRET_ENV = Annotated[
    str | None,
    typer.Option(help="Environment variable that holds the secret clients send as X-SECRET-KEY."),
]
ALLOW_HOST = Annotated[
    list[str] | None,
    typer.Option(help="Another name that the server may be called by, behind a proxy; repeatable."),
]
RUNS = Annotated[Path | None, typer.Option(help="Folder whose run folders are shown.")]
HOST = Annotated[
    str, typer.Option(help="Address to listen on; another than this machine's own needs a secret.")
]
PORT = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")]
THREADS = Annotated[
    int | None,
    typer.Option(
        min=1, help="CPU threads of PyTorch; by default one fewer than it takes elsewhere."
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the verb to the root command."""
    app.command()(serve)


def serve(
    nla: NLAS = None,
    target: TARGET = None,
    host: HOST = "127.0.0.1",
    port: PORT = 5009,
    secret_env: SECRET_ENV = None,
    allow_host: ALLOW_HOST = None,
    runs: RUNS = None,
    engine: ENGINE = "local",
    threads: THREADS = None,
    max_batch_rows: Annotated[
        int, typer.Option(min=1, help="Explanations written side by side.")
    ] = 128,
    max_queued_rows: Annotated[
        int, typer.Option(min=1, help="Explanations that may wait; more are refused.")
    ] = 4096,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Longest explanation in tokens.")
    ] = 512,
    cache_mb: Annotated[
        int, typer.Option(min=0, help="Memory for activations and explanations kept, in MiB.")
    ] = 256,
    timeout_s: Annotated[
        float, typer.Option(min=1, help="Longest time for one request, in seconds.")
    ] = 300.0,
    grace_s: Annotated[
        float, typer.Option(min=0, help="Time that a shutdown leaves to requests under way.")
    ] = 10.0,
) -> None:
    """Serve NLAs over HTTP: Neuronpedia's interface, and Gloss's own below /v1."""
    server = server_module()
    from gloss.plugins import known_truth
    from gloss.serve.access import access_for, bound_socket
    from gloss.serve.limits import Limits
    from gloss.serve.service import open_service

    access = access_for(host, secret=secret_from(secret_env), allowed_hosts=allow_host or ())
    check_runs(runs)
    limits = Limits(
        max_batch_rows=max_batch_rows,
        max_queued_rows=max_queued_rows,
        max_new_tokens=max_new_tokens,
        cache_bytes=cache_mb * 2**20,
        request_timeout_s=timeout_s,
        grace_s=grace_s,
    )
    listening = bound_socket(host, port)
    leave_room_for_answers(threads)
    service = open_service(
        open_nlas(nla or [], target, engine), limits=limits, runs=runs, known_truth=known_truth()
    )
    tell_missing_parts(service)
    server.serve(service, access, listening, ready=_tell_address)


def server_module() -> Any:
    """``gloss.serve.server``. Raises: MissingExtraError."""
    try:
        from gloss.serve import server
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", "serve") from error
    return server


def secret_from(variable: str | None) -> str | None:
    """The secret that an environment variable holds; None where none is named. Raises: ConfigError
    if it holds none.
    """
    if variable is None:
        return None
    secret = os.environ.get(variable, "")
    if not secret:
        raise ConfigError(
            "the environment variable of the secret is not set", where=variable, expected="a secret"
        )
    return secret


def open_nlas(named: list[str], target: str | None, engine: str = "local") -> dict[str, Any]:
    """NLAs by name: what stands before ``=``, or the last part of the place.

    Raises: ConfigError for a name that is missing or there twice, or several NLAs on one engine
    elsewhere, which runs one AV."""
    import gloss
    from gloss.pipeline.last_run import last_quickstart

    if engine != "local" and len(named) > 1:
        raise ConfigError("an engine elsewhere runs one AV", expected="one --nla", found=len(named))
    found: dict[str, Any] = {}
    for entry in named or [str(last_quickstart())]:
        name, equals, place = entry.partition("=")
        place = place if equals else entry
        name = name if equals else Path(place.rstrip("/")).name
        if not name or name in found:
            raise ConfigError(
                "--nla needs a name of its own", expected="name=place", found=repr(entry)
            )
        found[name] = gloss.load(place, target=target, engine=engine)
    return found


def check_runs(runs: Path | None) -> None:
    """Raises ConfigError if the folder of runs is none."""
    if runs is not None and not runs.is_dir():
        raise ConfigError("no such folder", where=runs, expected="a folder that holds run folders")


def tell_missing_parts(service: Any) -> None:
    """Says on stderr which parts of the NLAs could not be loaded."""
    for name, errors in service.missing.items():
        for error in errors.values():
            print(f"gloss: {name} is served without this part: {error}", file=sys.stderr)


def leave_room_for_answers(threads: int | None) -> None:
    """Keeps a core free for the event loop: on a crowded CPU threads that wait for each other cost
    more than they bring.
    """
    import torch

    torch.set_num_threads(threads if threads is not None else max(1, torch.get_num_threads() - 1))


def _tell_address(address: str) -> None:
    print(
        f"Serving on {address} (API: {address}/v1/docs). Stop with Ctrl-C.",
        file=sys.stderr,
        flush=True,
    )
