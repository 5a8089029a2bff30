"""The verb that serves NLAs with the page over them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gloss.cli import serve as serving
from gloss.cli.read import ENGINE, TARGET
from gloss.cli.serve import ALLOW_HOST, HOST, NLAS, PORT, RUNS, SECRET_ENV, THREADS


def register(app: typer.Typer) -> None:
    """Adds the verb to the root command."""
    app.command()(explore)


def explore(
    nla: NLAS = None,
    target: TARGET = None,
    runs: RUNS = None,
    host: HOST = "127.0.0.1",
    port: PORT = 5009,
    secret_env: SECRET_ENV = None,
    allow_host: ALLOW_HOST = None,
    engine: ENGINE = "local",
    threads: THREADS = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
) -> None:
    """Serve NLAs with a page to read, check and steer with, and open it."""
    server = serving.server_module()
    from gloss.explorer import PAGE_PATH, mount_page, open_when_ready
    from gloss.plugins import known_truth
    from gloss.serve.access import access_for, bound_socket
    from gloss.serve.limits import Limits
    from gloss.serve.service import open_service

    page_path = f"{PAGE_PATH}/"
    access = access_for(
        host,
        secret=serving.secret_from(secret_env),
        allowed_hosts=allow_host or (),
        open_paths=[page_path],
    )
    serving.check_runs(runs)
    listening = bound_socket(host, port)
    serving.leave_room_for_answers(threads)
    nlas = serving.open_nlas(nla or [], target, engine)
    service = open_service(
        nlas, limits=Limits(), runs=runs or _runs_beside(nla), known_truth=known_truth()
    )
    serving.tell_missing_parts(service)

    def ready(address: str) -> None:
        page = f"{address}{page_path}"
        print(
            f"The page: {page} (API: {address}/v1/docs). Stop with Ctrl-C.",
            file=sys.stderr,
            flush=True,
        )
        if browser:
            open_when_ready(page)

    server.serve(service, access, listening, ready=ready, add_page=mount_page)


def _runs_beside(nla: list[str] | None) -> Path | None:
    """The folder of the last quickstart's run, where nothing else was named."""
    if nla:
        return None
    from gloss.pipeline.last_run import last_quickstart

    return Path(last_quickstart())
