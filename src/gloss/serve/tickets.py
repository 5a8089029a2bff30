"""How the thread that owns the models tells the event loop what came of a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from gloss.engines import Rollout

Event = TypeVar("Event")


@dataclass(frozen=True)
class RowEvent:
    """What a row says so far, or in the end: ``index`` is the request's own, ``rollout`` is None
    until the row is finished.
    """

    index: int
    text: str
    rollout: Rollout | None


class Ticket(Generic[Event]):
    """A client's claim on work under way; ``partial`` says that it wants to hear before the end."""

    def __init__(self, *, partial: bool) -> None:
        self.partial = partial
        self._queue: asyncio.Queue[Event | BaseException | None] = asyncio.Queue()

    def put(self, event: Event | BaseException | None) -> None:
        """Tells the client something; an error or None is the last. Only in the event loop."""
        self._queue.put_nowait(event)

    async def batches(self) -> AsyncIterator[list[Event]]:
        """Events as they come, all that have gathered since the last time together.

        Raises: the error that ended the work.
        """
        while True:
            gathered = [await self._queue.get()]
            while not self._queue.empty():
                gathered.append(self._queue.get_nowait())
            events: list[Event] = []
            for event in gathered:
                if event is None or isinstance(event, BaseException):
                    if events:
                        yield events
                    if event is not None:
                        raise event
                    return
                events.append(event)
            yield events


class Outbox:
    """Gathers what a step has to tell and hands it to the event loop in one go."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._letters: list[tuple[Ticket[object], object]] = []

    def add(self, ticket: Ticket[Event], event: Event | BaseException | None) -> None:
        """Something to tell."""
        self._letters.append((ticket, event))  # type: ignore[arg-type]

    def send(self) -> None:
        """Hands it over."""
        if self._letters:
            letters, self._letters = self._letters, []
            self._loop.call_soon_threadsafe(_deliver, letters)


def _deliver(letters: Sequence[tuple[Ticket[object], object]]) -> None:
    for ticket, event in letters:
        ticket.put(event)
