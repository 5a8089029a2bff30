"""Connections of clients: how many, how long each may keep the server waiting, and how all end in a
shutdown."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gloss.serve.limits import Limits

BACKLOG = 64
KEEP_ALIVE_S = 30
_MOST, _SPARE_FILES, _KNOWN_OPEN = 1024, 32, 64
_LEAST_BYTES = 32 * 2**10
_BUSY = b'{"detail":"too many connections at once","kind":"ServerBusyError"}'
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_BUSY)
) + _BUSY


def max_connections() -> int:
    """Connections that the process has files for, beside those it has open and some to spare."""
    is_open = _KNOWN_OPEN
    with suppress(OSError):
        is_open = sum(1 for _ in Path("/proc/self/fd").iterdir())
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return _MOST
    return max(8, min(_MOST, most - is_open - BACKLOG - _SPARE_FILES))


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1 with a time for everything that it waits for of a client.

    Of more than ``most`` connections the one goes that has waited longest without a request under
    way; where all have one, the new one is refused."""

    def __init__(self, *args: Any, limits: Limits, most: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._limits, self._most = limits, most
        self._waiting: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._unwritten, self._paused_at = 0, 0.0

    @property
    def is_waiting(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes a connection on, or another's place, or refuses."""
        super().connection_made(transport)
        self.since = self.loop.time()
        self._wait(self._limits.header_timeout_s)
        if len(self.connections) > self._most:
            others: Any = self.connections - {self}
            waiting = [one for one in others if one.is_waiting and not one.transport.is_closing()]
            if waiting:
                min(waiting, key=lambda one: one.since).transport.abort()
            else:
                transport.write(_FULL)
                transport.close()

    def data_received(self, data: bytes) -> None:
        """Reads on; single bytes do not renew the time for the headers."""
        super().data_received(data)
        if not self.is_waiting:
            self._waiting = _cancelled(self._waiting)

    def on_response_complete(self) -> None:
        """Waits for the next request, unless it is there already."""
        self.since = self.loop.time()
        self._wait(KEEP_ALIVE_S + self._limits.header_timeout_s)
        super().on_response_complete()
        if not self.is_waiting:
            self._waiting = _cancelled(self._waiting)

    def pause_writing(self) -> None:
        """Called when a client does not take what is written."""
        super().pause_writing()
        self._paused_at = self.loop.time()
        self._unwritten = self.transport.get_write_buffer_size()
        self._later(self._limits.write_timeout_s)

    def resume_writing(self) -> None:
        """Called when it takes it again."""
        super().resume_writing()
        self._writing = _cancelled(self._writing)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the times."""
        self._waiting, self._writing = _cancelled(self._waiting), _cancelled(self._writing)
        super().connection_lost(exc)

    def _wait(self, seconds: float) -> None:
        _cancelled(self._waiting)
        self._waiting = self.loop.call_later(seconds, self._end_of_waiting)

    def _end_of_waiting(self) -> None:
        if self.flow.write_paused:  # an answer is still being taken, which has its own time
            self._wait(self._limits.write_timeout_s)
        else:
            self.transport.abort()

    def _later(self, seconds: float) -> None:
        _cancelled(self._writing)
        self._writing = self.loop.call_later(seconds, self._check_writing)

    def _check_writing(self) -> None:
        left = self.transport.get_write_buffer_size()
        too_long = self.loop.time() - self._paused_at > self._limits.request_timeout_s
        if too_long or left > self._unwritten - _LEAST_BYTES:
            self.transport.abort()
        else:
            self._unwritten = left
            self._later(self._limits.write_timeout_s)


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Nothing, in place of a timer."""
    if timer is not None:
        timer.cancel()
    return None


class Server(uvicorn.Server):
    """A uvicorn server whose shutdown takes ``grace_s`` in all: ``stop`` is told at once how long
    work under way has; then every connection is ended, as if its client had left."""

    def __init__(
        self, config: uvicorn.Config, *, grace_s: float, stop: Callable[[float], None]
    ) -> None:
        super().__init__(config)
        self._grace_s, self._stop = grace_s, stop

    async def shutdown(self, sockets: Any = None) -> None:
        """See ``uvicorn.Server``."""
        rest = min(1.0, 0.2 * self._grace_s)
        self._stop(self._grace_s - rest)
        leaving = asyncio.get_running_loop().call_later(
            self._grace_s - 0.5 * rest, self._abort_rest
        )
        try:
            await super().shutdown(sockets)
        finally:
            leaving.cancel()
            self._abort_rest()

    def _abort_rest(self) -> None:
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
