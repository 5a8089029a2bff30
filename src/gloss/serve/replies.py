"""How answers are sent: errors with their status, bodies within the time of a request, event
streams that end with their client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.requests import ClientDisconnect

import gloss.errors as errors
from gloss.errors import CheckpointError, EngineError, GlossError, ServerBusyError, ServerError
from gloss.nla import TooLarge
from gloss.serve.json_text import answer_bytes, json_bytes
from gloss.serve.scheduler import ShuttingDown
from gloss.serve.telemetry import Telemetry

Answer = TypeVar("Answer")
CLIENT_LEFT = 499


class PartMissing(CheckpointError):
    """A part of the NLA that a request needs is not loaded; the answer is 503."""


class TimeIsUp(ServerError):
    """A request took longer than the server works on one; the status is 504."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(
            "the request took too long",
            expected=f"at most {timeout_s:g} s",
            remedy="Ask for fewer positions or samples",
        )


@dataclass(frozen=True)
class ErrorFrame:
    """An error behind the beginning of a stream; the last frame."""

    error: str
    kind: str
    status: int


_STATUS: tuple[tuple[type[GlossError], int], ...] = (
    (PartMissing, 503),
    (EngineError, 503),
    (ShuttingDown, 503),
    (ServerBusyError, 429),
    (TimeIsUp, 504),
    (ServerError, 500),
    (TooLarge, 413),
    (GlossError, 400),
)


def status_of(error: GlossError) -> int:
    """The HTTP status of an error."""
    return next(status for kind, status in _STATUS if isinstance(error, kind))


def kind_of(error: GlossError) -> str:
    """The name under which a client finds the error's class in ``gloss.errors``."""
    return next(kind.__name__ for kind in type(error).__mro__ if hasattr(errors, kind.__name__))


def error_response(error: GlossError, status: int | None = None) -> JSONResponse:
    """One line, the error's class, and when to ask again."""
    headers = {}
    if isinstance(error, ServerBusyError):
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    content = {"detail": str(error), "kind": kind_of(error)}
    return JSONResponse(content, status_code=status or status_of(error), headers=headers)


def handle_errors(app: FastAPI, telemetry: Telemetry) -> None:
    """Turns errors into answers: a user's into one line, a wrong body into its list without what
    was sent."""

    def gloss_error(_request: Request, error: Exception) -> Response:
        assert isinstance(error, GlossError)
        telemetry.failures.labels(kind_of(error)).inc()
        return error_response(error)

    def wrong_body(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        telemetry.failures.labels("ValidationError").inc()
        found = [{key: one[key] for key in ("loc", "msg", "type")} for one in error.errors()[:20]]
        kind = request.headers.get("content-type", "none")
        if found[0]["loc"] == ("body",) and "json" not in kind:
            found[0]["msg"] = (
                f"not read as JSON: expected Content-Type: application/json, found {kind[:80]}"
            )
        return JSONResponse({"detail": found}, status_code=422)

    def client_left(_request: Request, _error: Exception) -> Response:
        return Response(status_code=CLIENT_LEFT)

    app.add_exception_handler(GlossError, gloss_error)
    app.add_exception_handler(ClientDisconnect, client_left)
    app.add_exception_handler(RequestValidationError, wrong_body)


def json_response(found: Any, wrap: Callable[[Any], Any] | None = None) -> Response:
    """An answer, wrapped, as JSON."""
    answer = found if wrap is None else wrap(found)
    return Response(answer_bytes(answer), media_type="application/json")


async def within_time(
    request: Request, work: Coroutine[Any, Any, Answer], timeout_s: float
) -> Answer | Response:
    """The answer, unless the client leaves first, which stops the work.

    Raises: TimeIsUp.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_client_gone(request))
    try:
        await asyncio.wait({task, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            return Response(status_code=CLIENT_LEFT)
        raise TimeIsUp(timeout_s)
    finally:
        for one in (task, gone):
            one.cancel()
        with contextlib.suppress(asyncio.CancelledError, GlossError):
            await task


async def _client_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def event_stream(
    frames: AsyncIterator[Any], timeout_s: float, telemetry: Telemetry
) -> EventSourceResponse:
    """Frames as server-sent events, closed by [DONE], or by a frame with the error.

    An error before the first frame is raised here, so that it has a status of its own.
    """
    first = await anext(frames)

    async def events() -> AsyncIterator[bytes]:
        try:
            async with asyncio.timeout(timeout_s), contextlib.aclosing(frames) as rest:  # type: ignore[type-var]
                yield _event(first)
                async for frame in rest:
                    yield _event(frame)
            yield format_sse_event(data_str="[DONE]")
        except TimeoutError:
            yield _error_event(TimeIsUp(timeout_s), telemetry)
        except GlossError as error:
            yield _error_event(error, telemetry)

    return EventSourceResponse(events(), headers={"X-Accel-Buffering": "no"})


def _event(frame: Any) -> bytes:
    return format_sse_event(data_str=json_bytes(frame).decode())


def _error_event(error: GlossError, telemetry: Telemetry) -> bytes:
    telemetry.failures.labels(kind_of(error)).inc()
    return _event(ErrorFrame(error=str(error), kind=kind_of(error), status=status_of(error)))
