"""How the thread that owns the models hands the events of a request to the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Generic, TypeVar

Event = TypeVar("Event")


class PendingRequest(Generic[Event]):
    """A client's request under way; one that is ``streaming`` wants events before the end too."""

    def __init__(self, *, streaming: bool) -> None:
        self.streaming = streaming
        self._events: asyncio.Queue[Event | BaseException | None] = asyncio.Queue()

    def put(self, event: Event | BaseException | None) -> None:
        """Adds an event; an error or None is the last. Only in the event loop."""
        self._events.put_nowait(event)

    async def batches(self) -> AsyncIterator[list[Event]]:
        """Events as they come, all that have gathered since the last time together.

        Raises: the error that ended the work.
        """
        while True:
            gathered = [await self._events.get()]
            while not self._events.empty():
                gathered.append(self._events.get_nowait())
            last = gathered[-1]
            events = [e for e in gathered if not (e is None or isinstance(e, BaseException))]
            if events:
                yield events
            if isinstance(last, BaseException):
                raise last
            if last is None:
                return


class EventQueue:
    """Gathers the events of a step and hands them to the event loop in one go."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._events: list[tuple[PendingRequest[object], object]] = []

    def put(self, request: PendingRequest[Event], event: Event | BaseException | None) -> None:
        """Adds an event, an error or the end of a request."""
        self._events.append((request, event))  # type: ignore[arg-type]

    def flush(self) -> None:
        """Hands them over."""
        if self._events:
            events, self._events = self._events, []
            self._loop.call_soon_threadsafe(_deliver, events)


def _deliver(events: Sequence[tuple[PendingRequest[object], object]]) -> None:
    for request, event in events:
        request.put(event)
