"""A client of a Gloss server with the methods of a local NLA, sync and async.

What is asked and how an answer is read stands once, in ``Asks``; the two clients only send it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, Unpack, cast

import httpx2
from torch import Tensor

import gloss.errors as errors
from gloss.errors import AccessError, ConfigError, GlossError, ServerBusyError, ServerError
from gloss.nla.remote.asking import (
    Answer,
    Ask,
    Asks,
    CompareOptions,
    ContinueOptions,
    ExplainOptions,
    Messages,
    SearchOptions,
    Side,
    SteerOptions,
    TrustOptions,
)
from gloss.nla.results import Explanations, Score, Steering

_BUSY = (429, 503)
_RETRIES, _BACKOFF_S, _LONGEST_BACKOFF_S = 4, 0.25, 2.0
_KIND_OF_STATUS: dict[int, type[GlossError]] = {
    401: AccessError,
    403: AccessError,
    429: ServerBusyError,
}


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Where a server is and how long to try.

    ``timeout_s``: silence after which a request has failed. ``max_wait_s``: how long one request
    waits in all for a busy server, or for one to come back that has answered before. A server that
    never answered is tried again four times, after 0.25, 0.5, 1 and 2 seconds. Asking twice does no
    harm: answers depend on the request alone."""

    url: str
    secret: str | None = None
    timeout_s: float = 300.0
    max_wait_s: float = 60.0

    def __post_init__(self) -> None:
        """Raises ConfigError for what is not the URL of a web server."""
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(
                "not the address of a server", expected="http://host:port", found=repr(self.url)
            )

    def options(self) -> dict[str, Any]:
        """Arguments of an HTTP client; proxies of the environment are not used."""
        headers = {} if self.secret is None else {"X-SECRET-KEY": self.secret}
        return {
            "base_url": self.url,
            "headers": headers,
            "timeout": self.timeout_s,
            "trust_env": False,
        }

    def attempts(
        self, ask: Ask[Answer], *, known: bool
    ) -> Generator[float | None, httpx2.Response | httpx2.TransportError, Answer]:
        """The course of one request: yields None to have it sent and is sent the outcome, yields
        seconds to wait.

        ``known`` says that the server has answered before.

        Returns the answer. Raises: GlossError of the server's own kind; ServerError,
        ServerBusyError, AccessError."""
        waited, broken = 0.0, 0
        while True:
            outcome = yield None
            if isinstance(outcome, httpx2.TransportError):
                given_up = waited >= self.max_wait_s if known else broken == _RETRIES
                if given_up or isinstance(outcome, httpx2.ReadTimeout | httpx2.UnsupportedProtocol):
                    raise self._unreachable(outcome)
                delay = min(_BACKOFF_S * 2**broken, _LONGEST_BACKOFF_S)
                broken, waited = broken + 1, waited + delay
                yield delay
                continue
            asked = _asked_delay(outcome)
            if asked is None or waited + asked > self.max_wait_s:
                return self._read(ask, outcome)
            waited += asked
            yield asked

    def _read(self, ask: Ask[Answer], response: httpx2.Response) -> Answer:
        if not response.is_success:
            raise self._refusal(response)
        try:
            return ask.read(response.json())
        except (ValueError, KeyError, TypeError) as error:
            raise ServerError(
                "not the answer of a Gloss server",
                where=self.url + ask.path,
                found=response.text[:80],
            ) from error

    def _refusal(self, response: httpx2.Response) -> GlossError:
        try:
            answer = response.json()
        except ValueError:
            answer = {}
        detail = answer.get("detail") if isinstance(answer, dict) else None
        if isinstance(detail, list):
            detail = "; ".join(
                f"{'.'.join(map(str, one.get('loc', [])[1:]))}: {one.get('msg')}" for one in detail
            )
        line = detail or f"the server answers with HTTP {response.status_code}"
        kind = getattr(errors, str(answer.get("kind")) if isinstance(answer, dict) else "", None)
        if not (
            isinstance(kind, type)
            and issubclass(kind, GlossError)
            and kind is not errors.MissingExtraError
        ):
            default = ServerError if response.status_code >= 500 else ConfigError
            kind = _KIND_OF_STATUS.get(response.status_code, default)
        return kind(line, where=self.url)

    def _unreachable(self, fault: httpx2.TransportError) -> ServerError:
        late = isinstance(fault, httpx2.TimeoutException)
        return ServerError(
            "the server does not answer in time" if late else "no server can be reached",
            where=self.url,
            found=str(fault) or type(fault).__name__,
            remedy="Look at its log and load, or allow more time"
            if late
            else "Start one with: gloss serve --nla …",
        )


def _asked_delay(response: httpx2.Response) -> float | None:
    """How long a busy server asks to wait, in seconds; None if its answer is final."""
    asked = response.headers.get("retry-after", "")
    return float(asked) if response.status_code in _BUSY and asked.isdigit() else None


class RemoteNLA:
    """An NLA that a Gloss server holds, with the methods of a local one; a context manager.

    Every method raises, beside the errors of the local one: ServerError, ServerBusyError,
    AccessError."""

    def __init__(self, connection: Connection, nla: str | None = None) -> None:
        self.connection, self._asks, self._known = connection, Asks(nla), False
        self._client = httpx2.Client(**connection.options())

    def _send(self, ask: Ask[Answer]) -> Answer:
        course = self.connection.attempts(ask, known=self._known)
        try:
            wait_s = next(course)
            while True:
                if wait_s is not None:
                    time.sleep(wait_s)
                    wait_s = next(course)
                    continue
                wait_s = course.send(self._outcome(ask))
        except StopIteration as end:
            self._known, answer = True, end.value
            return cast(Answer, answer)

    def _outcome(self, ask: Ask[Any]) -> httpx2.Response | httpx2.TransportError:
        try:
            return self._client.request(
                "GET" if ask.body is None else "POST", ask.path, json=ask.body
            )
        except httpx2.TransportError as fault:
            return fault

    def nlas(self) -> list[dict[str, Any]]:
        """The NLAs that the server holds, the default one first."""
        return self._send(self._asks.nlas())

    def tokens(self, source: str | Messages) -> tuple[list[int], list[str]]:
        """As ``NLA.tokens``, for a chat too."""
        return self._send(self._asks.tokens(source))

    def activations(self, source: str | Messages) -> Tensor:
        """As ``NLA.activations``; [tokens, d_model]."""
        return self._send(self._asks.activations(source))

    def explain(
        self, source: str | Messages | Tensor, **options: Unpack[ExplainOptions]
    ) -> Explanations:
        """As ``NLA.explain``, with its positions, samples, temperature, seed and score."""
        return self._send(self._asks.explain(source, options))

    def reconstruct(self, explanations: str | Sequence[str]) -> Tensor:
        """As ``NLA.reconstruct``; [n, d_model]."""
        return self._send(self._asks.reconstruct(explanations))

    def score(self, explanations: Sequence[str], activations: Tensor) -> list[Score]:
        """As ``NLA.score``."""
        return self._send(self._asks.score(explanations, activations))

    def steer(self, source: str | Messages, **options: Unpack[SteerOptions]) -> Steering:
        """As ``NLA.steer``, and the continuations of an unrelated edit."""
        return self._send(self._asks.steer(source, options))

    def trust(self, source: str | Messages, **options: Unpack[TrustOptions]) -> dict[str, Any]:
        """Controls, samples, neighbours and claims of one explanation, as ``POST /v1/trust``
        answers.
        """
        return self._send(self._asks.trust(source, options))

    def compare(
        self, first: Side, second: Side, **options: Unpack[CompareOptions]
    ) -> dict[str, Any]:
        """Both sides explained and what is between them (first − second), as ``POST /v1/compare``
        answers.
        """
        return self._send(self._asks.compare(first, second, options))

    def search(
        self, texts: Sequence[str | None], query: str, **options: Unpack[SearchOptions]
    ) -> dict[str, Any]:
        """Which texts hold words or match a pattern, and where, as ``POST /v1/search`` answers."""
        return self._send(self._asks.search(texts, query, options))

    def continuation(self, source: str | Messages, **options: Unpack[ContinueOptions]) -> str:
        """What the target writes behind a text or a chat; greedy unless a temperature is given."""
        return self._send(self._asks.continuation(source, options))

    def runs(self) -> list[dict[str, Any]]:
        """The run folders that the server shows, the newest first."""
        return self._send(self._asks.runs())

    def run(self, run_id: str) -> dict[str, Any]:
        """Metrics, samples and results of one run, as far as they are written."""
        return self._send(self._asks.run(run_id))

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncRemoteNLA:
    """As ``RemoteNLA``, for programs with an event loop; an async context manager."""

    def __init__(self, connection: Connection, nla: str | None = None) -> None:
        self.connection, self._asks, self._known = connection, Asks(nla), False
        self._client = httpx2.AsyncClient(**connection.options())

    async def _send(self, ask: Ask[Answer]) -> Answer:
        course = self.connection.attempts(ask, known=self._known)
        try:
            wait_s = next(course)
            while True:
                if wait_s is not None:
                    await asyncio.sleep(wait_s)
                    wait_s = next(course)
                    continue
                wait_s = course.send(await self._outcome(ask))
        except StopIteration as end:
            self._known, answer = True, end.value
            return cast(Answer, answer)

    async def _outcome(self, ask: Ask[Any]) -> httpx2.Response | httpx2.TransportError:
        try:
            return await self._client.request(
                "GET" if ask.body is None else "POST", ask.path, json=ask.body
            )
        except httpx2.TransportError as fault:
            return fault

    async def nlas(self) -> list[dict[str, Any]]:
        """See ``RemoteNLA.nlas``."""
        return await self._send(self._asks.nlas())

    async def tokens(self, source: str | Messages) -> tuple[list[int], list[str]]:
        """See ``RemoteNLA.tokens``."""
        return await self._send(self._asks.tokens(source))

    async def activations(self, source: str | Messages) -> Tensor:
        """See ``RemoteNLA.activations``."""
        return await self._send(self._asks.activations(source))

    async def explain(
        self, source: str | Messages | Tensor, **options: Unpack[ExplainOptions]
    ) -> Explanations:
        """See ``RemoteNLA.explain``."""
        return await self._send(self._asks.explain(source, options))

    async def reconstruct(self, explanations: str | Sequence[str]) -> Tensor:
        """See ``RemoteNLA.reconstruct``."""
        return await self._send(self._asks.reconstruct(explanations))

    async def score(self, explanations: Sequence[str], activations: Tensor) -> list[Score]:
        """See ``RemoteNLA.score``."""
        return await self._send(self._asks.score(explanations, activations))

    async def steer(self, source: str | Messages, **options: Unpack[SteerOptions]) -> Steering:
        """See ``RemoteNLA.steer``."""
        return await self._send(self._asks.steer(source, options))

    async def trust(
        self, source: str | Messages, **options: Unpack[TrustOptions]
    ) -> dict[str, Any]:
        """See ``RemoteNLA.trust``."""
        return await self._send(self._asks.trust(source, options))

    async def compare(
        self, first: Side, second: Side, **options: Unpack[CompareOptions]
    ) -> dict[str, Any]:
        """See ``RemoteNLA.compare``."""
        return await self._send(self._asks.compare(first, second, options))

    async def search(
        self, texts: Sequence[str | None], query: str, **options: Unpack[SearchOptions]
    ) -> dict[str, Any]:
        """See ``RemoteNLA.search``."""
        return await self._send(self._asks.search(texts, query, options))

    async def continuation(self, source: str | Messages, **options: Unpack[ContinueOptions]) -> str:
        """See ``RemoteNLA.continuation``."""
        return await self._send(self._asks.continuation(source, options))

    async def runs(self) -> list[dict[str, Any]]:
        """See ``RemoteNLA.runs``."""
        return await self._send(self._asks.runs())

    async def run(self, run_id: str) -> dict[str, Any]:
        """See ``RemoteNLA.run``."""
        return await self._send(self._asks.run(run_id))

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
