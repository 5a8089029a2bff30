"""JSON over HTTP: connection faults are tried again, a busy server is waited for."""

from __future__ import annotations

import json
import math
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    wait_exponential,
)

from gloss.errors import EngineError
from gloss.foreign import json_text

_CONNECTION_FAULTS = (httpx2.NetworkError, httpx2.RemoteProtocolError, httpx2.ConnectTimeout)
_BUSY = (429, 503)
_SHOWN_BYTES = 4000
KEY_VARIABLE = "GLOSS_ENGINE_KEY"
"""Environment variable with the key of an engine's server; without it no key is sent."""


@dataclass(frozen=True)
class Limits:
    """How long and how often an engine tries.

    ``concurrency``: requests under way at once. ``timeout_s``: silence after which a request has
    failed. ``retries``: attempts after a connection fault, the first after ``backoff_s``, each
    later one after twice as long. ``max_wait_s``: how long one request waits in all for a server
    that answers 429 or 503 with Retry-After."""

    concurrency: int = 32
    timeout_s: float = 600.0
    retries: int = 4
    backoff_s: float = 0.25
    max_wait_s: float = 120.0


class RefusedRequest(EngineError):
    """The server answered with an error: its HTTP ``status`` and what it said, ``message``."""

    def __init__(self, url: str, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(
            f"the server refuses the request with HTTP {status}",
            where=url,
            found=message or "no reason",
            remedy="Its log says more" if status >= 500 else None,
        )


class Transport:
    """Sends JSON to one server and reads JSON back; belongs to one event loop."""

    def __init__(self, client: httpx2.AsyncClient, url: str, limits: Limits) -> None:
        self._client, self.url, self._limits = client, url, limits

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, limits: Limits, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Transport]:
        """A transport, closed with all requests under way at the end; ``headers`` go with each."""
        pool = httpx2.Limits(
            max_connections=limits.concurrency, max_keepalive_connections=limits.concurrency
        )
        timeout = httpx2.Timeout(limits.timeout_s, connect=min(10.0, limits.timeout_s), pool=None)
        async with httpx2.AsyncClient(
            headers=headers, timeout=timeout, limits=pool, trust_env=False
        ) as client:
            yield cls(client, url, limits)

    async def send(self, path: str, body: bytes | None = None) -> Any:
        """The JSON answer to a POST of ``body``, or to a GET where there is none; None for an empty
        answer.

        Raises: RefusedRequest for an error status, EngineError if the server cannot be reached, is
        silent or speaks no JSON."""
        limits = self._limits
        connecting = AsyncRetrying(
            retry=retry_if_exception_type(_CONNECTION_FAULTS),
            stop=stop_after_attempt(limits.retries + 1),
            wait=wait_exponential(limits.backoff_s, max=math.inf),
            retry_error_callback=self._unreachable,
        )
        waiting = AsyncRetrying(
            retry=retry_if_result(lambda response: _retry_after_s(response) is not None),
            stop=lambda state: state.idle_for + state.upcoming_sleep > limits.max_wait_s,
            wait=lambda state: _retry_after_s(_outcome(state)) or 0.0,
            retry_error_callback=_outcome,
        )
        return self._read(await waiting(connecting, self._request, path, body), path)

    async def _request(self, path: str, body: bytes | None) -> httpx2.Response:
        method = "GET" if body is None else "POST"
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            return await self._client.request(
                method, self.url + path, content=body, headers=headers
            )
        except httpx2.ConnectTimeout:
            raise
        except httpx2.TimeoutException as error:
            raise EngineError(
                "the server does not answer in time",
                where=self.url,
                expected=f"an answer within {self._limits.timeout_s:g} s",
                remedy="Look at its log and load; allow more time, or fewer requests at once",
            ) from error

    def _unreachable(self, state: RetryCallState) -> None:
        assert state.outcome is not None
        fault = state.outcome.exception()
        connected = not isinstance(fault, httpx2.ConnectError | httpx2.ConnectTimeout)
        raise EngineError(
            "the connection breaks off" if connected else "no server can be reached",
            where=self.url,
            found=f"{str(fault) or type(fault).__name__}, {state.attempt_number} times",
            remedy="The server may have died: look at its log"
            if connected
            else "Start the server, or check host and port",
        ) from fault

    def _read(self, response: httpx2.Response, path: str) -> Any:
        if not response.is_success:
            raise RefusedRequest(
                self.url, response.status_code, _message(response.content[:_SHOWN_BYTES])
            )
        try:
            return json.loads(response.content) if response.content else None
        except ValueError as error:
            raise EngineError(
                f"{path} is not answered with JSON", where=self.url, found=repr(response.text[:80])
            ) from error


def _outcome(state: RetryCallState) -> Any:
    assert state.outcome is not None
    return state.outcome.result()


def bearer() -> dict[str, str]:
    """The header with the server's key as SGLang and vLLM want it; empty where none is set."""
    return {"Authorization": f"Bearer {key}"} if (key := os.environ.get(KEY_VARIABLE)) else {}


def secret() -> dict[str, str]:
    """The header with the server's key as a Gloss server wants it; empty where none is set."""
    return {"X-SECRET-KEY": key} if (key := os.environ.get(KEY_VARIABLE)) else {}


def _retry_after_s(response: httpx2.Response) -> float | None:
    """How long a busy server asks to wait, in seconds; None if the answer is final."""
    asked = response.headers.get("retry-after")
    if response.status_code not in _BUSY or asked is None:
        return None
    if asked.strip().isdigit():
        return float(asked)
    try:
        until = parsedate_to_datetime(asked)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def _message(content: bytes) -> str:
    """What a server's error says, in whichever of the usual forms."""
    text = content.decode("utf-8", errors="replace")
    try:
        values = json.loads(text)
    except ValueError:
        return text.strip()
    for key in ("error", "message", "detail"):
        if isinstance(values, dict) and key in values:
            values = values[key]
    return values if isinstance(values, str) else json_text(values, only_ascii=True)
