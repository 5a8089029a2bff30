"""Serves the explorer's static files from the API's own application, under a strict content
security policy."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from gloss.explorer.parquet import SharedText, parquet_bytes

PAGE_PATH = "/explore"
STATIC = Path(__file__).parent / "static"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src"
    " 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_LOOK_AGAIN_S = 0.2


class PageFiles(StaticFiles):
    """Static files with the page's headers; scripts carry their type whatever the system's table
    says."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, or 404."""
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        if path.endswith(".js"):
            response.headers["Content-Type"] = "text/javascript; charset=utf-8"
        return response


def mount_page(app: FastAPI) -> None:
    """Adds the page to an application, compressed, at ``PAGE_PATH``, and beside it what turns the
    page's JSON into Parquet."""
    app.post(f"{PAGE_PATH}/parquet", include_in_schema=False)(_parquet)
    app.mount(PAGE_PATH, GZipMiddleware(PageFiles(directory=STATIC, html=True)), name="explorer")


def _parquet(shared: SharedText) -> Response:
    return Response(parquet_bytes(shared), media_type="application/vnd.apache.parquet")


def open_when_ready(url: str, *, timeout_s: float = 300.0) -> threading.Thread:
    """Opens the user's browser once the server at ``url`` answers, without holding it up; returns
    the thread that waits."""

    def wait() -> None:
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if _answers(url):
                webbrowser.open(url)
                return
            time.sleep(_LOOK_AGAIN_S)

    thread = threading.Thread(target=wait, name="open-browser", daemon=True)
    thread.start()
    return thread


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
