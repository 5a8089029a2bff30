"""The rows of one model that clients wait for: which joins the batch next, who gets which event,
and what is written once for several."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, Generic, TypeVar

from gloss.engines import (
    DecodingBatch,
    NewToken,
    Rollout,
    RowBatch,
    RowRequest,
    TextRequest,
    open_batch,
)
from gloss.nla import NLA
from gloss.nla.executor import RowEvent
from gloss.serve.limits import Limits
from gloss.serve.shared_work import WorkCache
from gloss.serve.telemetry import Telemetry

Event = TypeVar("Event")
Request = TypeVar("Request")


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


Subscriber = tuple[PendingRequest[Any], int]
"""A client's request, and which of its rows this one is."""


@dataclass(eq=False)
class _Row(Generic[Request]):
    """One row to write, for all requests that are the same."""

    key: object
    request: Request
    subscribers: list[Subscriber]
    number: int | None = None
    token_ids: list[int] = field(default_factory=list)


class ModelQueue(ABC, Generic[Request]):
    """The queue and the running batch of one model. ``lock`` guards all but the batch, which only
    the worker touches."""

    def __init__(
        self,
        name: str,
        nla: NLA,
        *,
        limits: Limits,
        cache: WorkCache,
        lock: threading.Lock,
        telemetry: Telemetry,
    ) -> None:
        self.name, self.nla, self.limits = name, nla, limits
        self._cache, self._lock, self._telemetry = cache, lock, telemetry
        self._batch: RowBatch[Request] | None = None
        self._waiting: OrderedDict[PendingRequest[Any], deque[_Row[Request]]] = OrderedDict()
        self._known: dict[object, _Row[Request]] = {}
        self._running: dict[int, _Row[Request]] = {}
        self._aborted: list[int] = []
        self._unfinished: dict[PendingRequest[Any], int] = {}
        self._next_number = 0

    @property
    def num_waiting(self) -> int:
        """Rows that wait."""
        return sum(len(rows) for rows in self._waiting.values())

    @property
    def num_running(self) -> int:
        """Rows that are being written."""
        return len(self._running)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to write or to abort."""
        return not (self._waiting or self._running or self._aborted)

    def enqueue(self, pending: PendingRequest[Any], requests: Sequence[Request]) -> None:
        """Takes on rows; what is in the cache is answered at once. Call under the lock, in the
        event loop."""
        if not requests:
            pending.put(None)
            return
        self._unfinished[pending] = len(requests)
        for index, request in enumerate(requests):
            key = self._key(request)
            if (event := self._cached(key, index)) is not None:
                pending.put(event)
                if self._is_last(pending):
                    pending.put(None)
            elif (row := self._known.get(key)) is not None:
                self._telemetry.shared.labels("explanation").inc()
                row.subscribers.append((pending, index))
            else:
                row = self._known[key] = _Row(key, request, [(pending, index)])
                self._waiting.setdefault(pending, deque()).append(row)

    def abort(self, pending: PendingRequest[Any]) -> None:
        """Forgets a request: rows that nobody else waits for are written no further. Call under the
        lock."""
        if self._unfinished.pop(pending, None) is None:
            return
        waiting = self._waiting.pop(pending, ())
        for row in list(self._known.values()):
            row.subscribers = [one for one in row.subscribers if one[0] is not pending]
            if row.subscribers:
                continue
            del self._known[row.key]
            self._telemetry.abandoned.inc()
            if row.number is not None:
                del self._running[row.number]
                self._aborted.append(row.number)
        for row in waiting:
            if row.subscribers:
                self._waiting.setdefault(row.subscribers[0][0], deque()).append(row)

    def advance(self, events: EventQueue, *, admits: bool) -> int:
        """Aborts rows, perhaps admits some, writes one token of each; how many rows it finished.
        Only in the worker."""
        with self._lock:
            aborted, self._aborted = self._aborted, []
            if not (aborted or self._waiting or self._running):
                return 0
        batch = self._batch = self._batch or self._new_batch()
        batch.abort(aborted)
        if admits:
            with self._lock:
                self._admit(batch)
        new = batch.step()
        with self._lock:
            written = [
                (row, token, list(row.subscribers))
                for token in new
                if (row := self._running.get(token.key)) is not None
            ]
            for row, token, _ in written:
                self._take(row, token)
        for row, token, subscribers in written:
            self._emit(row, token, subscribers, events)
        return sum(token.rollout is not None for token in new)

    def fail(self, error: BaseException, events: EventQueue) -> None:
        """Ends all rows with an error and starts anew. Only in the worker."""
        with self._lock:
            unfinished = list(self._unfinished)
            for held in (self._waiting, self._known, self._running, self._unfinished):
                held.clear()
            self._aborted, batch, self._batch = [], self._batch, None
        if batch is not None:
            batch.close()
        for pending in unfinished:
            events.put(pending, error)

    def _admit(self, batch: RowBatch[Request]) -> None:
        """Fills the batch, one row of each request in turn."""
        for _ in range(batch.room):
            if not self._waiting:
                return
            pending, rows = self._waiting.popitem(last=False)
            row = rows.popleft()
            if rows:
                self._waiting[pending] = rows
            row.number, self._next_number = self._next_number, self._next_number + 1
            self._running[row.number] = row
            batch.add(row.number, row.request)

    def _take(self, row: _Row[Request], token: NewToken) -> None:
        row.token_ids.append(token.token_id)
        if token.rollout is not None:
            del self._running[token.key], self._known[row.key]

    def _emit(
        self,
        row: _Row[Request],
        token: NewToken,
        subscribers: Sequence[Subscriber],
        events: EventQueue,
    ) -> None:
        for pending, index in subscribers:
            if pending.streaming or token.rollout is not None:
                events.put(pending, self._event(index, row, token))
            if token.rollout is not None:
                with self._lock:
                    is_last = self._is_last(pending)
                if is_last:
                    events.put(pending, None)

    def _is_last(self, pending: PendingRequest[Any]) -> bool:
        """Counts a finished row of a request; whether it was the last."""
        if pending not in self._unfinished:
            return False
        self._unfinished[pending] -= 1
        if self._unfinished[pending]:
            return False
        del self._unfinished[pending]
        return True

    @abstractmethod
    def _new_batch(self) -> RowBatch[Request]: ...

    @abstractmethod
    def _key(self, request: Request) -> object:
        """Equal for requests that are written once for all."""

    @abstractmethod
    def _event(self, index: int, row: _Row[Request], token: NewToken) -> Any:
        """What a subscriber hears of a row's new token."""

    def _cached(self, _key: object, _index: int) -> Any:
        """The event of a row that was written before, if it is cached."""
        return None


class ExplanationQueue(ModelQueue[RowRequest]):
    """Rows of an AV: the same row is written once, and not again while the cache holds it."""

    def _key(self, request: RowRequest) -> bytes:
        """A greedy row has no seed."""
        seed = request.seed if request.temperature else 0
        settings = f"{self.name}\0{request.temperature}\0{request.max_new_tokens}\0{seed}\0"
        digest = blake2b(settings.encode(), digest_size=16)
        digest.update(request.activation.contiguous().numpy().tobytes())
        return digest.digest()

    def _cached(self, key: Any, index: int) -> RowEvent | None:
        rollout = self._cache.get(key)
        if not isinstance(rollout, Rollout):
            return None
        self._telemetry.shared.labels("explanation").inc()
        return RowEvent(index, rollout.text, rollout)

    def _new_batch(self) -> RowBatch[RowRequest]:
        return open_batch(self.nla.engine, max_rows=self.limits.max_batch_rows)

    def _take(self, row: _Row[RowRequest], token: NewToken) -> None:
        super()._take(row, token)
        if token.rollout is None:
            self._telemetry.tokens.inc()
            return
        self._telemetry.tokens.inc(1 + len(token.rollout.token_ids) - len(row.token_ids))
        self._telemetry.explanations.inc()
        self._cache.put(row.key, token.rollout)  # type: ignore[arg-type]

    def _event(self, index: int, row: _Row[RowRequest], token: NewToken) -> RowEvent:
        if token.rollout is not None:
            return RowEvent(index, token.rollout.text, token.rollout)
        return RowEvent(index, self.nla.av.decode(row.token_ids))


class ContinuationQueue(ModelQueue[TextRequest]):
    """Texts that the target continues, steered or not; each is written for itself."""

    def _new_batch(self) -> RowBatch[TextRequest]:
        return DecodingBatch(self.nla.target, max_rows=self.limits.max_completions)

    def _key(self, request: TextRequest) -> TextRequest:
        return request

    def _event(self, index: int, _row: _Row[TextRequest], token: NewToken) -> NewToken:
        return replace(token, key=index)
