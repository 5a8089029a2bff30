"""Stands before every path: who may ask, from where, and what every answer says to browsers. Counts
and times answers."""

from __future__ import annotations

import hmac
import time
from collections.abc import Collection, Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gloss.errors import AccessError
from gloss.serve.replies import CLIENT_LEFT, error_response
from gloss.serve.telemetry import Telemetry

SECRET_HEADER = "X-SECRET-KEY"
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """ASGI middleware. ``hosts`` are the names the server may be called by; None allows any (a
    secret then stands before all).

    ``open_paths`` need no secret; one that ends with / opens what can be fetched below it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        secret: str | None,
        hosts: Collection[str] | None,
        open_paths: Collection[str],
        labels: Mapping[str, str],
        telemetry: Telemetry,
    ) -> None:
        self.app, self._secret, self._telemetry = app, secret, telemetry
        in_brackets = [f"[{name}]" if ":" in name else name for name in hosts or ()]
        self._hosts = None if hosts is None else in_brackets
        self._open_paths, self._labels = frozenset(open_paths), labels
        self._open_folders = tuple(path for path in self._open_paths if path.endswith("/"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses, or passes on and adds the security headers."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        started, status = time.monotonic(), CLIENT_LEFT

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refused = await self._refusal(scope, receive)
        try:
            if refused is None:
                await self.app(scope, receive, send_guarded)
            else:
                error, code = refused
                self._telemetry.failures.labels("AccessError").inc()
                await error_response(error, code)(scope, receive, send_guarded)
        finally:
            label = self._label(scope["path"])
            self._telemetry.requests.labels(label, str(status)).inc()
            self._telemetry.latency.labels(label).observe(time.monotonic() - started)

    def _label(self, path: str) -> str:
        folder = path.rsplit("/", 1)[0] + "/"
        return path if path in self._labels else self._labels.get(folder, "other")

    async def _refusal(self, scope: Scope, receive: Receive) -> tuple[AccessError, int] | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not await self._is_own_name(scope, receive):
            found = host or "no Host header"
            return AccessError("not this server's name", found=found, remedy=_HOST_REMEDY), 403
        if not _same_origin(headers, host, scope):
            return AccessError("another site's page may not ask this server", found=origin), 403
        if self._secret is None or self._is_open(scope["method"], scope["path"]):
            return None
        given = headers.get(SECRET_HEADER)
        if given is None:
            return AccessError(f"{SECRET_HEADER} header required"), 401
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self._secret.encode()):
            return AccessError("wrong secret", where=SECRET_HEADER), 403
        return None

    async def _is_own_name(self, scope: Scope, receive: Receive) -> bool:
        """Whether Starlette's middleware lets the Host header pass; its own refusal has neither
        our error line nor our headers."""
        passed = False

        async def passes(_scope: Scope, _receive: Receive, _send: Send) -> None:
            nonlocal passed
            passed = True

        async def refuses(_message: Message) -> None:
            pass

        middleware = TrustedHostMiddleware(passes, self._hosts, www_redirect=False)
        await middleware(scope, receive, refuses)
        return passed

    def _is_open(self, method: str, path: str) -> bool:
        fetches = method in ("GET", "HEAD")
        return path in self._open_paths or (fetches and path.startswith(self._open_folders))


_HOST_REMEDY = "Call it by the address it is bound to, or start it with --allow-host"


def _same_origin(headers: Headers, host: str, scope: Mapping[str, Any]) -> bool:
    """Whether no browser says that another site's page is asking; following a link is allowed.

    The scheme may differ: a proxy in front may speak TLS for us."""
    origin = headers.get("origin")
    if origin is not None:
        return bool(host) and origin in (f"http://{host}", f"https://{host}")
    reads = scope["method"] in ("GET", "HEAD")
    followed_link = reads and headers.get("sec-fetch-mode") == "navigate"
    return followed_link or headers.get("sec-fetch-site") not in ("cross-site", "same-site")
