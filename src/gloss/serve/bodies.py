"""Bodies of requests: taken in before anything else is done, within a time, a size, and a sum over
all requests."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gloss.errors import ConfigError, ServerBusyError
from gloss.nla import TooLarge
from gloss.serve.limits import Limits
from gloss.serve.replies import error_response

_SMALL_BYTES = 2**20


class BodyTooSlow(ConfigError):
    """A body that did not come in time; the status is 408."""


class _ClientLeft(Exception):
    """The connection ended before the body did."""


class Bodies:
    """ASGI middleware. ``limits.max_body_bytes`` holds for the paths of ``files``; every other body
    is JSON of at most ``json_bounds``, bytes and commas."""

    def __init__(
        self, app: ASGIApp, *, limits: Limits, json_bounds: tuple[int, int], files: frozenset[str]
    ) -> None:
        self.app, self._limits, self._files = app, limits, files
        self._json_bytes, self._json_commas = json_bounds
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses, or passes on a request whose body is all there."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        held: list[int] = []
        try:
            body = await self._body(scope, receive, held)
            await self.app(scope, _replayed(body, receive), send)
        except _ClientLeft:
            return
        except (BodyTooSlow, TooLarge, ServerBusyError) as error:
            status = 408 if isinstance(error, BodyTooSlow) else None
            await error_response(error, status)(scope, receive, send)
        finally:
            self._held -= sum(held)

    async def _body(self, scope: Scope, receive: Receive, held: list[int]) -> bytes:
        is_file = scope["path"] in self._files
        most = self._limits.max_body_bytes
        most = most if is_file else min(most, self._json_bytes)
        self._take_on(_length(scope), most, held)
        chunks, size = list[bytes](), 0
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _ClientLeft
                    chunks.append(message.get("body", b""))
                    size, more = size + len(chunks[-1]), message.get("more_body", False)
                    self._take_on(size, most, held)
        except TimeoutError:
            what, expected = "the body did not come in time", f"{self._limits.body_timeout_s:g} s"
            raise BodyTooSlow(what, expected=f"at most {expected}") from None
        body = b"".join(chunks)
        if not is_file and (commas := body.count(b",")) > self._json_commas:
            raise TooLarge(
                "too many values in one body",
                expected=f"at most {self._json_commas} commas",
                found=commas,
                remedy="Ask in parts, or send activations as base64",
            )
        return body

    def _take_on(self, size: int, most: int, held: list[int]) -> None:
        """Counts what is held of a body from now on. Raises: TooLarge, ServerBusyError."""
        if size > most:
            raise TooLarge("the body is too large", expected=f"at most {most} bytes", found=size)
        more = size - sum(held)
        if size <= _SMALL_BYTES or more <= 0:
            return
        if self._held + more > self._limits.max_held_bytes:
            raise ServerBusyError("too many large bodies at once", remedy="Ask again later")
        held.append(more)
        self._held += more


def _length(scope: Scope) -> int:
    """What the headers say of the body's length; 0 where they do not."""
    length = Headers(scope=scope).get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < 20 else 0


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body in one message, then what the connection says."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay
