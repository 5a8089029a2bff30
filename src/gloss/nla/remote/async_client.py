"""A client of a Gloss server with the methods of an NLA, asynchronous."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import update_wrapper
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar
from urllib.parse import quote

import httpx2
from tenacity import AsyncRetrying

from gloss.engines.retries import Busy, checked
from gloss.nla.questions import Questions
from gloss.nla.remote.answers import (
    ArrayAnswer,
    LoadedNLA,
    NLAsAnswer,
    RunAnswer,
    RunEntry,
    RunsAnswer,
    ScoresAnswer,
)
from gloss.nla.remote.wire import Connection, Question, body_of
from gloss.nla.results import Comparison, Explanations, TextContinuation, Trust
from gloss.nla.steering_result import Steering
from gloss.text.tokens import ReadText

Params = ParamSpec("Params")
Answer = TypeVar("Answer")


def _sent(
    question: Question[Params, Answer], path: str, kind: type[Any], value: str | None = None
) -> Callable[Concatenate[AsyncRemoteNLA, Params], Coroutine[Any, Any, Answer]]:
    """A question as a method that is sent to the server, with its signature and description; its
    answer is of a kind, or the value of that name in it."""

    async def method(
        remote: AsyncRemoteNLA, /, *args: Params.args, **options: Params.kwargs
    ) -> Answer:
        body = body_of(question, remote.nla, *args, **options)
        answer: Any = await remote.send(path, kind, body)
        found: Answer = answer if value is None else getattr(answer, value)
        return found

    return update_wrapper(method, question)


class AsyncRemoteNLA:
    """An NLA that a Gloss server holds, with the methods of a local one; an async context manager.

    ``nla`` names one of several. Every method raises, beside the errors of the local one:
    ServerError, ServerBusyError, AccessError."""

    tokens = _sent(Questions.tokens, "/v1/tokens", ReadText)
    activations = _sent(Questions.activations, "/v1/activations", ArrayAnswer, "vectors")
    explain = _sent(Questions.explain, "/v1/explain", Explanations)
    reconstruct = _sent(Questions.reconstruct, "/v1/reconstruct", ArrayAnswer, "vectors")
    score = _sent(Questions.score, "/v1/score", ScoresAnswer, "scores")
    steer = _sent(Questions.steer, "/v1/steer", Steering)
    trust = _sent(Questions.trust, "/v1/trust", Trust)
    compare = _sent(Questions.compare, "/v1/compare", Comparison)
    continue_text = _sent(Questions.continue_text, "/v1/continue", TextContinuation)

    def __init__(self, connection: Connection, nla: str | None = None) -> None:
        self.connection, self.nla, self._known = connection, nla, False
        self._client = httpx2.AsyncClient(**connection.options())

    async def nlas(self) -> list[LoadedNLA]:
        """The NLAs that the server holds, the default one first."""
        return (await self.send("/v1/nlas", NLAsAnswer)).nlas

    async def runs(self) -> list[RunEntry]:
        """The run folders that the server shows, the newest first."""
        return (await self.send("/v1/runs", RunsAnswer)).runs

    async def run(self, run_id: str) -> RunAnswer:
        """Metrics, samples and results of one run, as far as they are written."""
        return await self.send(f"/v1/runs/{quote(run_id, safe='')}", RunAnswer)

    async def send(
        self, path: str, kind: type[Answer], body: dict[str, Any] | None = None
    ) -> Answer:
        """The answer of a kind to a body, or to a GET without one; sent again while there is hope.

        Raises: GlossError of the server's own kind; ServerError, ServerBusyError, AccessError.
        """
        attempts = AsyncRetrying(**self.connection.retries(known=self._known))
        try:
            response: httpx2.Response = await attempts(self._request, path, body)
        except (Busy, httpx2.TransportError) as fault:
            raise self.connection.error_of(fault) from fault
        self._known = True
        answer: Answer = self.connection.read(response, kind)
        return answer

    async def _request(self, path: str, body: dict[str, Any] | None) -> httpx2.Response:
        method = "GET" if body is None else "POST"
        return checked(await self._client.request(method, path, json=body))

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
