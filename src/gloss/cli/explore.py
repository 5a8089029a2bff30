"""The verb that serves NLAs with the page over them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gloss.cli.serve import NLAS, RUNS, open_nlas, server_module
from gloss.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Adds the verb to the root command."""
    app.command()(explore)


def explore(
    nla: NLAS = None,
    target: Annotated[str | None, typer.Option(help="Target model, where it does not stand beside the NLA.")] = None,
    runs: RUNS = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 5009,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
) -> None:
    """Serve NLAs on this machine with a page to read, check and steer with, and open it."""
    server = server_module()
    from gloss.explorer import PAGE_PATH, mount_page, open_when_ready
    from gloss.lab.examples import LabExamples
    from gloss.serve.limits import Limits
    from gloss.serve.service import open_service

    if runs is not None and not runs.is_dir():
        raise ConfigError("no such folder", where=runs, expected="a folder that holds run folders")
    access = server.access_for("127.0.0.1", secret=None)
    listening = server.bound_socket("127.0.0.1", port)
    service = open_service(
        open_nlas(nla or [], target), limits=Limits(), runs=runs or _runs_beside(nla), known_truth=LabExamples()
    )

    def ready(address: str) -> None:
        page = f"{address}{PAGE_PATH}/"
        print(f"The page: {page} (API: {address}/v1/docs). Stop with Ctrl-C.", file=sys.stderr, flush=True)
        if browser:
            open_when_ready(page)

    server.serve(service, access, listening, ready=ready, add_page=mount_page)


def _runs_beside(nla: list[str] | None) -> Path | None:
    """The folder of the last quickstart's run, where nothing else was named."""
    if nla:
        return None
    from gloss.pipeline.last_run import last_quickstart

    return Path(last_quickstart())
