"""How answers leave: errors with their status, bodies within the time of a request, event streams
that end with their client.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel

import gloss.errors as errors
from gloss.errors import ConfigError, EngineError, GlossError, ServerBusyError, ServerError
from gloss.serve.reader import PartMissing
from gloss.serve.scheduler import ShuttingDown
from gloss.serve.telemetry import Telemetry
from gloss.serve.v1_models import ErrorFrame

Answer = TypeVar("Answer")
DONE = "data: [DONE]\n\n"
CLIENT_LEFT = 499


class TooLarge(ConfigError):
    """An answer or a request beyond the server's bounds; the status is 413."""


class TimeIsUp(ServerError):
    """A request took longer than the server works on one; the status is 504."""


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
    return JSONResponse(
        {"detail": str(error), "kind": kind_of(error)},
        status_code=status or status_of(error),
        headers=headers,
    )


def handle_errors(app: FastAPI, telemetry: Telemetry) -> None:
    """Turns errors into answers: a user's into one line, a wrong body into its list without what
    was sent.
    """

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

    app.add_exception_handler(GlossError, gloss_error)
    app.add_exception_handler(RequestValidationError, wrong_body)


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
        raise _time_is_up(timeout_s)
    finally:
        for one in (task, gone):
            one.cancel()
        with contextlib.suppress(asyncio.CancelledError, GlossError):
            await task


async def _client_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def event_stream(
    frames: AsyncIterator[BaseModel], timeout_s: float, telemetry: Telemetry
) -> StreamingResponse:
    """Frames as server-sent events, closed by [DONE], or by a frame with the error."""

    async def events() -> AsyncIterator[str]:
        try:
            async with asyncio.timeout(timeout_s), contextlib.aclosing(frames) as open_frames:  # type: ignore[type-var]
                async for frame in open_frames:
                    yield f"data: {frame.model_dump_json()}\n\n"
            yield DONE
        except TimeoutError:
            yield _error_event(_time_is_up(timeout_s), telemetry)
        except GlossError as error:
            yield _error_event(error, telemetry)

    return StreamingResponse(
        events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


def _error_event(error: GlossError, telemetry: Telemetry) -> str:
    telemetry.failures.labels(kind_of(error)).inc()
    frame = ErrorFrame(error=str(error), kind=kind_of(error), status=status_of(error))
    return f"data: {frame.model_dump_json()}\n\n"


def _time_is_up(timeout_s: float) -> TimeIsUp:
    return TimeIsUp(
        "the request took too long",
        expected=f"at most {timeout_s:g} s",
        remedy="Ask for fewer positions or samples",
    )
