"""The explanations of one NLA that clients wait for: who gets the next free row, who hears what,
what was said before.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from gloss.engines import (
    DecodingBatch,
    NewToken,
    RemoteBatch,
    RemoteEngine,
    Rollout,
    RowBatch,
    RowRequest,
)
from gloss.nla import NLA
from gloss.serve.cache import BoundedCache
from gloss.serve.limits import Limits
from gloss.serve.telemetry import Telemetry
from gloss.serve.tickets import Outbox, RowEvent, Ticket

RowTicket = Ticket[RowEvent]


@dataclass(eq=False)
class _Work:
    """One explanation to write, for everybody who asked for the same."""

    key: bytes
    request: RowRequest
    listeners: list[tuple[RowTicket, int]]
    number: int | None = None
    token_ids: list[int] = field(default_factory=list)


def row_key(lane: str, request: RowRequest) -> bytes:
    """Tells a request from every other one; a greedy row has no seed."""
    seed = request.seed if request.temperature else 0
    digest = blake2b(
        f"{lane}\0{request.temperature}\0{request.max_new_tokens}\0{seed}\0".encode(),
        digest_size=16,
    )
    digest.update(request.activation.contiguous().numpy().tobytes())
    return digest.digest()


class Lane:
    """The queue and the running batch of one NLA. ``lock`` guards all but ``engine``, which only
    the worker touches.
    """

    def __init__(
        self,
        name: str,
        nla: NLA,
        *,
        limits: Limits,
        cache: BoundedCache[object],
        lock: threading.Lock,
        telemetry: Telemetry,
    ) -> None:
        self.name, self.nla, self.limits = name, nla, limits
        self._cache, self._lock, self._telemetry = cache, lock, telemetry
        self._engine: RowBatch[RowRequest] | None = None
        self._waiting: OrderedDict[RowTicket, deque[_Work]] = OrderedDict()
        self._known: dict[bytes, _Work] = {}
        self._running: dict[int, _Work] = {}
        self._abandoned: list[int] = []
        self._pending: dict[RowTicket, int] = {}
        self._next_number = 0

    @property
    def num_waiting(self) -> int:
        """Rows that wait."""
        return sum(len(works) for works in self._waiting.values())

    @property
    def num_running(self) -> int:
        """Rows that are being written."""
        return len(self._running)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to write or to drop."""
        return not (self._waiting or self._running or self._abandoned)

    def enqueue(self, ticket: RowTicket, requests: Sequence[RowRequest]) -> None:
        """Takes on rows; what is known is told at once. Call under the lock, in the event loop."""
        self._pending[ticket] = len(requests)
        for index, request in enumerate(requests):
            key = row_key(self.name, request)
            kept = self._cache.get(key)
            if isinstance(kept, Rollout):
                self._telemetry.shared.labels("explanation").inc()
                ticket.put(RowEvent(index, kept.text, kept))
                if self._one_less(ticket):
                    ticket.put(None)
            elif (work := self._known.get(key)) is not None:
                self._telemetry.shared.labels("explanation").inc()
                work.listeners.append((ticket, index))
            else:
                work = self._known[key] = _Work(key, request, [(ticket, index)])
                self._waiting.setdefault(ticket, deque()).append(work)

    def leave(self, ticket: RowTicket) -> None:
        """Forgets a client: rows that nobody else waits for are written no further. Call under the
        lock.
        """
        self._pending.pop(ticket, None)
        for work in self._waiting.pop(ticket, ()):
            work.listeners = [listener for listener in work.listeners if listener[0] is not ticket]
            if work.listeners:
                self._waiting.setdefault(work.listeners[0][0], deque()).append(work)
            else:
                self._forget(work)
        for work in list(self._known.values()):
            work.listeners = [listener for listener in work.listeners if listener[0] is not ticket]
            if not work.listeners and work.number is not None:
                self._forget(work)
                del self._running[work.number]
                self._abandoned.append(work.number)

    def advance(self, outbox: Outbox, *, admits: bool) -> int:
        """Drops who left, perhaps admits who waits, writes one token of every row; how many rows it
        finished. Only in the worker.
        """
        with self._lock:
            gone, self._abandoned = self._abandoned, []
            if not (gone or self._waiting or self._running):
                return 0
        engine = self._engine = self._engine or self._new_engine()
        engine.abort(gone)
        if admits:
            with self._lock:
                self._admit(engine)
        new = engine.step()
        with self._lock:
            told = [
                (work, token, list(work.listeners))
                for token in new
                if (work := self._heard(token)) is not None
            ]
        for work, token, listeners in told:
            self._tell(work, token, listeners, outbox)
        return sum(token.rollout is not None for token in new)

    def _new_engine(self) -> RowBatch[RowRequest]:
        rows = self.limits.max_batch_rows
        engine = self.nla.engine
        if isinstance(engine, RemoteEngine):
            return RemoteBatch(engine, max_rows=rows)
        return DecodingBatch(self.nla.av, max_rows=rows)

    def fail(self, error: BaseException, outbox: Outbox) -> None:
        """Ends all rows with an error and starts anew. Only in the worker."""
        with self._lock:
            tickets = list(self._pending)
            self._waiting.clear()
            self._known.clear()
            self._running.clear()
            self._pending.clear()
            self._abandoned, engine, self._engine = [], self._engine, None
        if engine is not None:
            engine.close()
        for ticket in tickets:
            outbox.add(ticket, error)

    def _admit(self, engine: RowBatch[RowRequest]) -> None:
        """Fills free rows, one client's after the other's in turn."""
        for _ in range(engine.room):
            if not self._waiting:
                return
            ticket, works = self._waiting.popitem(last=False)
            work = works.popleft()
            if works:
                self._waiting[ticket] = works
            work.number, self._next_number = self._next_number, self._next_number + 1
            self._running[work.number] = work
            engine.add(work.number, work.request)

    def _heard(self, token: NewToken) -> _Work | None:
        """The work that a token belongs to, None if its clients left during the step."""
        work = self._running.get(token.key)
        if work is None:
            return None
        written = len(work.token_ids)
        work.token_ids.append(token.token_id)
        self._telemetry.tokens.inc(
            1 if token.rollout is None else len(token.rollout.token_ids) - written
        )
        if token.rollout is not None:
            del self._running[token.key]
            self._forget(work)
            self._cache.put(
                work.key,
                token.rollout,
                8 * len(token.rollout.token_ids) + 4 * len(token.rollout.text),
            )
            self._telemetry.explanations.inc()
        return work

    def _tell(
        self, work: _Work, token: NewToken, listeners: list[tuple[RowTicket, int]], outbox: Outbox
    ) -> None:
        if token.rollout is None:
            curious = [listener for listener in listeners if listener[0].partial]
            text = self.nla.av.decode(work.token_ids) if curious else ""
            for ticket, index in curious:
                outbox.add(ticket, RowEvent(index, text, None))
            return
        for ticket, index in listeners:
            outbox.add(ticket, RowEvent(index, token.rollout.text, token.rollout))
            with self._lock:
                last = self._one_less(ticket)
            if last:
                outbox.add(ticket, None)

    def _one_less(self, ticket: RowTicket) -> bool:
        """Counts a finished row of a ticket; whether it was the last."""
        if ticket not in self._pending:
            return False
        self._pending[ticket] -= 1
        if self._pending[ticket]:
            return False
        del self._pending[ticket]
        return True

    def _forget(self, work: _Work) -> None:
        del self._known[work.key]
        if not work.listeners:
            self._telemetry.abandoned.inc()
