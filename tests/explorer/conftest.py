"""A real browser and a real server for the page's tests; skipped with the reason where there is no
browser.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from speaking_nla import save_speaking_nla
from tiny_nla import D_MODEL, write_rows

from gloss.explorer.mount import STATIC

ORIGIN = "http://gloss.test"


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="module")
def browser():
    """Chromium, closed after each module: while Playwright is open, no other test of this process
    can ``asyncio.run``.
    """
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed (pip install playwright)"
    )
    chromium = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if chromium is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def modules(browser):
    """Calls a function of one of the page's modules, without a server: ``modules("js/text.js",
    "wordDiff", "a", "b")``.
    """
    context = browser.new_context()
    page = context.new_page()
    page.route(f"{ORIGIN}/**", _from_disk)
    page.goto(f"{ORIGIN}/blank.html")

    def run(module, expression, *arguments):
        source = (
            f"async (args) => {{ const m = await import('{ORIGIN}/{module}'); return"
            f" m.{expression}(...args); }}"
        )
        return page.evaluate(source, list(arguments))

    run.page = page
    yield run
    context.close()


def _from_disk(route):
    name = route.request.url.removeprefix(ORIGIN).lstrip("/").split("?")[0]
    file = STATIC / name
    if name == "blank.html":
        route.fulfill(body="<!doctype html><title>blank</title>", content_type="text/html")
    elif file.is_file():
        route.fulfill(path=file, content_type="text/javascript" if file.suffix == ".js" else None)
    else:
        route.abort()


METRICS = [
    {"stage": "joint", "step": step, "fve_sampled": 0.1 * step, "kl": 0.01 * step}
    for step in range(9)
]
SAMPLE = {
    "stage": "joint",
    "step": 8,
    "doc_id": "d",
    "text_tail": "Once",
    "explanation": "the hero is Sam",
    "fve": 0.5,
}


class Server:
    """``gloss serve`` in a process of its own, on a port of its own; killed and started again by
    the tests.
    """

    d_model = D_MODEL

    def __init__(self, nla, runs, log, tokenizer):
        self.nla, self.runs, self.log, self.tokenizer = nla, runs, log, tokenizer
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.page = f"{self.url}/explore/"
        self.process = None

    def start(self):
        command = [
            sys.executable,
            "-m",
            "gloss.cli.main",
            "serve",
            "--port",
            self.port,
        ]
        command += ["--nla", self.nla, "--runs", self.runs]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
        until = time.monotonic() + 90
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=2):
                    return
            except OSError:
                time.sleep(0.2)
        raise AssertionError(self.log.read_text())

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def explained_frames(self, frame):
        """An event stream of ``/v1/explain`` with one finished explanation."""
        return f"data: {json.dumps(frame)}\n\ndata: [DONE]\n\n"

    def vectors_file(self, path, vectors):
        """A file of vectors in the format of its ending."""
        if path.suffix == ".npy":
            np.save(path, vectors)
        elif path.suffix == ".safetensors":
            save_file({"activations": vectors}, path)
        else:
            write_rows(path, self.tokenizer, vectors)
        return path

    def append_metric(self, row):
        with (self.runs / "small" / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")


@pytest.fixture(scope="session")
def server(tmp_path_factory, lab_tokenizer):
    folder = tmp_path_factory.mktemp("server")
    save_speaking_nla(folder / "nla", lab_tokenizer)
    run = folder / "runs" / "small"
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in METRICS))
    (run / "samples.jsonl").write_text(json.dumps(SAMPLE) + "\n")
    server = Server(folder / "nla", folder / "runs", folder / "server.log", lab_tokenizer)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def artefacts(request, tmp_path_factory):
    """The folder of screenshots and logs, named at the end of the run."""
    folder = tmp_path_factory.mktemp("explorer")
    request.config.stash[ARTEFACTS] = folder
    return folder


ARTEFACTS = pytest.StashKey()


def pytest_terminal_summary(terminalreporter, config):
    if folder := config.stash.get(ARTEFACTS, None):
        terminalreporter.write_line(f"screenshots of the page: {folder}")


@pytest.fixture
def context(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 860}, accept_downloads=True)
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture
def tab(context):
    return context.new_page()
