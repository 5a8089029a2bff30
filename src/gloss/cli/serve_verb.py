"""The verb that serves NLAs over HTTP, with the page over them."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from gloss.cli.options import AtLeast0, AtLeast1, NLAOptions, NotNegative
from gloss.cli.output import note
from gloss.errors import ConfigError, MissingExtraError
from gloss.pipeline.last_run import last_quickstart
from gloss.serve.access import access_for, bound_socket
from gloss.serve.limits import Limits

PAGE_PATH = "/explore/"
Port = Annotated[int, typer.Option(min=0, max=65535)]
Seconds = Annotated[float, typer.Option(min=1)]


def serve(
    nla: list[str] | None = None,
    target: str | None = None,
    engine: str = "local",
    dtype: str = "float32",
    device: str = "auto",
    runs: Path | None = None,
    open_page: bool = False,
    host: str = "127.0.0.1",
    port: Port = 5009,
    secret_env: str | None = None,
    allow_host: list[str] | None = None,
    threads: AtLeast1 | None = None,
    max_batch_rows: AtLeast1 = Limits.max_batch_rows,
    max_queued_rows: AtLeast1 = Limits.max_queued_rows,
    max_new_tokens: AtLeast1 = Limits.max_new_tokens,
    cache_mb: AtLeast0 = Limits.cache_bytes // 2**20,
    timeout_s: Seconds = Limits.request_timeout_s,
    grace_s: NotNegative = Limits.grace_s,
) -> None:
    """Serve NLAs over HTTP: a page to read, check and steer with, Gloss's own interface below /v1,
    and Neuronpedia's."""
    secret, allowed = _secret(secret_env), allow_host or ()
    access = access_for(host, secret=secret, allowed_hosts=allowed, open_paths=[PAGE_PATH])
    if runs is not None and not runs.is_dir():
        raise ConfigError("no such folder", where=runs, expected="a folder that holds run folders")
    named = _named(nla, target=target, engine=engine, dtype=dtype, device=device)
    for options in named.values():
        options.places()
    listening = bound_socket(host, port)
    server = _server_module()
    from gloss.explorer import mount_page
    from gloss.plugins import known_truth
    from gloss.serve.service import open_service

    _spare_a_core(threads)
    limits = Limits(
        max_batch_rows=max_batch_rows,
        max_queued_rows=max_queued_rows,
        max_new_tokens=max_new_tokens,
        cache_bytes=cache_mb * 2**20,
        request_timeout_s=timeout_s,
        grace_s=grace_s,
    )
    nlas = {name: options.open() for name, options in named.items()}
    if runs is None and not nla:
        runs = last_quickstart()
    service = open_service(nlas, limits=limits, runs=runs, known_truth=known_truth())
    for name, errors in service.missing.items():
        for error in errors.values():
            note(f"{name} is served without this part: {error}")
    ready = partial(_announce, open_page=open_page)
    server.serve(service, access, listening, ready=ready, add_page=mount_page)


def _announce(url: str, *, open_page: bool) -> None:
    page = f"{url}{PAGE_PATH}"
    line = f"Serving on {url} (page: {page}, API: {url}/v1/docs). Stop with Ctrl-C."
    print(line, file=sys.stderr, flush=True)
    if open_page:
        from gloss.explorer import open_when_ready

        open_when_ready(page)


def _named(entries: list[str] | None, *, engine: str, **parts: Any) -> dict[str, NLAOptions]:
    """NLAs by name: what stands before ``=``, or the last part of the place.

    Raises: ConfigError for a name that is missing or there twice, or several NLAs on one engine
    elsewhere, which runs one AV."""
    places = entries or [str(last_quickstart())]
    if engine != "local" and len(places) > 1:
        what = "an engine elsewhere runs one AV"
        raise ConfigError(what, expected="one --nla", found=len(places))
    found: dict[str, NLAOptions] = {}
    for entry in places:
        name, equals, place = entry.partition("=")
        place = place if equals else entry
        name = name if equals else Path(place.rstrip("/")).name
        if not name or name in found:
            what = "--nla needs a name of its own"
            raise ConfigError(what, expected="name=place", found=repr(entry))
        found[name] = NLAOptions(nla=place, engine=engine, **parts)
    return found


def _secret(variable: str | None) -> str | None:
    if variable is None:
        return None
    if secret := os.environ.get(variable, ""):
        return secret
    what = "the environment variable of the secret is not set"
    raise ConfigError(what, where=variable, expected="a secret")


def _server_module() -> Any:
    try:
        from gloss.serve import server
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", "serve") from error
    return server


def _spare_a_core(threads: int | None) -> None:
    """Keeps a core free for the event loop: on a crowded CPU threads that wait for each other cost
    more than they bring."""
    import torch

    torch.set_num_threads(threads if threads is not None else max(1, torch.get_num_threads() - 1))
