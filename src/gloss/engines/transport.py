"""JSON over HTTP; when a request is sent again is said in ``retries``."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from tenacity import AsyncRetrying

from gloss.engines.retries import Busy, RetryRule, checked
from gloss.errors import EngineError
from gloss.foreign import json_text

_SHOWN_BYTES = 4000
KEY_VARIABLE = "GLOSS_ENGINE_KEY"
"""Environment variable with the key of an engine's server; without it no key is sent."""


@dataclass(frozen=True)
class Limits:
    """How long and how often an engine tries.

    ``concurrency``: requests under way at once. ``timeout_s``: silence after which a request has
    failed. ``retries``, ``backoff_s``, ``max_wait_s``: as ``RetryRule`` has them."""

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
        rule = RetryRule(
            max_wait_s=limits.max_wait_s, retries=limits.retries, backoff_s=limits.backoff_s
        )
        attempts = AsyncRetrying(**rule.options())
        try:
            response: httpx2.Response = await attempts(self._request, path, body)
        except Busy as busy:
            response = busy.response
        except httpx2.TransportError as fault:
            raise self._unreachable(fault, attempts.statistics["attempt_number"]) from fault
        return self._read(response, path)

    async def _request(self, path: str, body: bytes | None) -> httpx2.Response:
        method = "GET" if body is None else "POST"
        headers = {} if body is None else {"content-type": "application/json"}
        return checked(
            await self._client.request(method, self.url + path, content=body, headers=headers)
        )

    def _unreachable(self, fault: httpx2.TransportError, attempts: int) -> EngineError:
        if isinstance(fault, httpx2.TimeoutException) and not isinstance(
            fault, httpx2.ConnectTimeout
        ):
            return EngineError(
                "the server does not answer in time",
                where=self.url,
                expected=f"an answer within {self._limits.timeout_s:g} s",
                remedy="Look at its log and load; allow more time, or fewer requests at once",
            )
        connected = not isinstance(fault, httpx2.ConnectError | httpx2.ConnectTimeout)
        return EngineError(
            "the connection breaks off" if connected else "no server can be reached",
            where=self.url,
            found=f"{str(fault) or type(fault).__name__}, {attempts} times",
            remedy="The server may have died: look at its log"
            if connected
            else "Start the server, or check host and port",
        )

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


def bearer() -> dict[str, str]:
    """The header with the server's key as SGLang and vLLM want it; empty where none is set."""
    return {"Authorization": f"Bearer {key}"} if (key := os.environ.get(KEY_VARIABLE)) else {}


def secret() -> dict[str, str]:
    """The header with the server's key as a Gloss server wants it; empty where none is set."""
    return {"X-SECRET-KEY": key} if (key := os.environ.get(KEY_VARIABLE)) else {}


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
