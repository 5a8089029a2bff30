"""One thread owns the models and works for all clients: rows step together, readings and scores go
in batches, the rest in between.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gloss.engines import RowRequest
from gloss.errors import GlossError, ServerBusyError, ServerError
from gloss.models.injection import injection_rows
from gloss.nla import NLA
from gloss.serve.batches import Kept, read_many, reconstruct_many
from gloss.serve.cache import BoundedCache
from gloss.serve.continuation import Continuation
from gloss.serve.lane import Lane, RowTicket
from gloss.serve.limits import Limits
from gloss.serve.telemetry import Telemetry
from gloss.serve.tickets import Outbox, Ticket

log = logging.getLogger("gloss.serve")
_SCORES_PER_TURN, _READ_TOKENS_PER_TURN = 256, 8192
_LONGEST_RETRY_S = 30
_GATHERED_TURNS, _CROWD_ROWS = 4, 8
"""With so many rows under way, what joins them and what is read or scored beside them is gathered
for so many steps.
"""


class ShuttingDown(ServerBusyError):
    """The server takes on nothing more."""


def shutting_down() -> ShuttingDown:
    """The error for those who ask a server that is going away."""
    return ShuttingDown("the server is shutting down", remedy="Ask again when it is back")


class _Pace:
    """Explanations finished a second, lately."""

    def __init__(self) -> None:
        self.per_s, self._count, self._since = 1.0, 0, time.monotonic()

    def count(self, finished: int) -> None:
        """Counts finished explanations; the pace is renewed about every second."""
        self._count += finished
        elapsed = time.monotonic() - self._since
        if elapsed >= 1.0 and self._count:
            self.per_s, self._count, self._since = self._count / elapsed, 0, time.monotonic()


@dataclass(frozen=True, eq=False)
class Job:
    """A piece of work other than writing; ``size`` is what it counts against its batch."""

    lane: Lane
    payload: Any
    size: int
    future: Future[Any]


class Scheduler:
    """Takes work from the event loop and does it in its own thread; everything public is called in
    the event loop.

    Raises everywhere: ServerBusyError if the queue is full or the server is shutting down.
    """

    def __init__(self, nlas: Mapping[str, NLA], *, limits: Limits, telemetry: Telemetry) -> None:
        self.limits, self.telemetry = limits, telemetry
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._cache: BoundedCache[object] = BoundedCache(limits.cache_bytes)
        self.lanes = {
            name: Lane(
                name, nla, limits=limits, cache=self._cache, lock=self._lock, telemetry=telemetry
            )
            for name, nla in nlas.items()
        }
        self._reads: deque[Job] = deque()
        self._scores: deque[Job] = deque()
        self._calls: deque[Job] = deque()
        self._continuations: dict[Ticket[int], Continuation] = {}
        self._closing, self._deadline = False, math.inf
        self._pace = _Pace()
        self._thread: threading.Thread | None = None

    @property
    def is_ready(self) -> bool:
        """Whether work is taken on."""
        return self._thread is not None and self._thread.is_alive() and not self._closing

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts the thread; what it has to tell goes to ``loop``."""
        self._outbox = Outbox(loop)
        self._thread = threading.Thread(target=self._work, name="gloss-models", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Refuses new work, finishes what can be finished in the time of grace, fails the rest.
        Blocks; not in the event loop.
        """
        with self._wake:
            self._closing, self._deadline = True, time.monotonic() + self.limits.grace_s
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(timeout=self.limits.grace_s + 5.0)

    def explain(self, lane: str, requests: Sequence[RowRequest], *, partial: bool) -> RowTicket:
        """Has explanations written. The ticket tells of each row; give it back with ``leave``.

        Raises: ActivationError for a vector without direction.
        """
        if requests:
            injection_rows(torch.stack([r.activation for r in requests]), 1.0)
        ticket = RowTicket(partial=partial)
        with self._wake:
            waiting = sum(lane.num_waiting for lane in self.lanes.values())
            self._refuse_if(
                bool(waiting) and waiting + len(requests) > self.limits.max_queued_rows, waiting
            )
            self.lanes[lane].enqueue(ticket, requests)
            self._wake.notify()
        return ticket

    def leave(self, ticket: RowTicket) -> None:
        """Gives a ticket back, whether or not it is finished."""
        with self._wake:
            for lane in self.lanes.values():
                lane.leave(ticket)
            self._wake.notify()

    async def read(self, lane: str, token_ids: Sequence[int]) -> Tensor:
        """Raw activations of every token; [tokens, d_model]."""
        result: Tensor = await self._submit(self._reads, lane, tuple(token_ids), len(token_ids))
        return result

    async def reconstruct(self, lane: str, texts: Sequence[str]) -> Tensor:
        """What the AR reads in texts; [n, d_model]."""
        if not texts:
            return torch.empty(0, self.lanes[lane].nla.sidecar.d_model)
        result: Tensor = await self._submit(self._scores, lane, tuple(texts), len(texts))
        return result

    async def call(self, lane: str, function: Callable[[], Any]) -> Any:
        """Runs something in the thread that owns the models, between two steps."""
        return await self._submit(self._calls, lane, function, 1)

    def go_on(self, lane: str, token_ids: Sequence[int], **options: Any) -> Ticket[int]:
        """Has the target go on with a text, see ``Continuation``; the ticket tells the new token
        ids. Give it back with ``stop``.
        """
        ticket: Ticket[int] = Ticket(partial=True)
        continuation = Continuation(self.lanes[lane].nla.target, token_ids, **options)
        with self._wake:
            self._refuse_if(
                len(self._continuations) >= self.limits.max_completions, len(self._continuations)
            )
            self._continuations[ticket] = continuation
            self._wake.notify()
        return ticket

    def stop(self, ticket: Ticket[int]) -> None:
        """Gives the ticket of a continuation back."""
        with self._lock:
            self._continuations.pop(ticket, None)

    async def _submit(self, queue: deque[Job], lane: str, payload: Any, size: int) -> Any:
        job = Job(self.lanes[lane], payload, size, Future())
        with self._wake:
            self._refuse_if(self._num_jobs >= self.limits.max_queued_jobs, self._num_jobs)
            queue.append(job)
            self._wake.notify()
        return await asyncio.wrap_future(job.future)

    @property
    def _num_jobs(self) -> int:
        return len(self._reads) + len(self._scores) + len(self._calls)

    def _refuse_if(self, full: bool, waiting: int) -> None:
        if self._closing:
            raise shutting_down()
        if full:
            error = ServerBusyError(
                "the queue is full",
                found=f"{waiting} waiting",
                remedy="Ask again later, or for less at once",
            )
            error.retry_after_s = min(_LONGEST_RETRY_S, max(1.0, waiting / self._pace.per_s))
            raise error

    # ---- in the thread that owns the models

    def _work(self) -> None:
        turn = 0
        while self._wait_for_work():
            gathering = turn % _GATHERED_TURNS != 0 and self._num_running >= _CROWD_ROWS
            for lane in self.lanes.values():
                self._advance(lane, admits=not gathering)
            if not gathering:
                self._do_jobs(self._taken(self._reads, _READ_TOKENS_PER_TURN), self._read_batch)
                self._do_jobs(self._taken(self._scores, _SCORES_PER_TURN), self._score_batch)
                self._do_jobs(self._taken(self._calls, 1), self._call)
            self._continue_texts()
            turn += 1
            self._outbox.send()
            self._measure()
        self._fail_everything(shutting_down())
        self._outbox.send()

    def _wait_for_work(self) -> bool:
        """Waits until there is something to do; False when the server is closed and nothing is
        left, or time is up.
        """
        with self._wake:
            while self._is_idle and not self._closing:
                self._wake.wait()
            return not (self._closing and (self._is_idle or time.monotonic() > self._deadline))

    @property
    def _is_idle(self) -> bool:
        return not (self._num_jobs or self._continuations) and all(
            lane.is_idle for lane in self.lanes.values()
        )

    @property
    def _num_running(self) -> int:
        return sum(lane.num_running for lane in self.lanes.values())

    def _advance(self, lane: Lane, *, admits: bool) -> None:
        try:
            self._pace.count(lane.advance(self._outbox, admits=admits))
        except Exception as error:  # the thread must outlive it
            lane.fail(self._failure(error), self._outbox)

    def _taken(self, queue: deque[Job], most: int) -> list[Job]:
        """The jobs of one batch: the first, and as many more as fit; those that nobody waits for
        are left out.
        """
        taken: list[Job] = []
        size = 0
        with self._lock:
            while queue and (not taken or size + queue[0].size <= most):
                job = queue.popleft()
                if job.future.set_running_or_notify_cancel():
                    taken.append(job)
                    size += job.size
        return taken

    def _do_jobs(
        self, jobs: Sequence[Job], do: Callable[[Lane, Sequence[Job]], Sequence[Any]]
    ) -> None:
        for lane in dict.fromkeys(job.lane for job in jobs):
            mine = [job for job in jobs if job.lane is lane]
            try:
                for job, result in zip(mine, do(lane, mine), strict=True):
                    job.future.set_result(result)
            except Exception as error:  # the thread must outlive it
                for job in mine:
                    if not job.future.done():
                        job.future.set_exception(self._failure(error))

    def _read_batch(self, lane: Lane, jobs: Sequence[Job]) -> list[Tensor]:
        return read_many(lane.nla, [job.payload for job in jobs], self._kept(lane))

    def _score_batch(self, lane: Lane, jobs: Sequence[Job]) -> list[Tensor]:
        return reconstruct_many(lane.nla, [job.payload for job in jobs], self._kept(lane))

    def _kept(self, lane: Lane) -> Kept:
        return Kept(lane.name, self._cache, self._lock, self.telemetry)

    def _call(self, _lane: Lane, jobs: Sequence[Job]) -> list[Any]:
        return [job.payload() for job in jobs]

    def _continue_texts(self) -> None:
        with self._lock:
            active = list(self._continuations.items())
        for ticket, continuation in active:
            try:
                token = continuation.step()
            except Exception as error:  # the thread must outlive it
                self._end(ticket, self._failure(error))
                continue
            if token is None:
                self._end(ticket, None)
            else:
                self._outbox.add(ticket, token)

    def _end(self, ticket: Ticket[int], error: GlossError | None) -> None:
        self.stop(ticket)
        self._outbox.add(ticket, error)

    def _failure(self, error: Exception) -> GlossError:
        """The error as a client sees it; one that is not a user's is logged."""
        if isinstance(error, GlossError):
            return error
        log.error("work failed", exc_info=error)
        self.telemetry.failures.labels(type(error).__name__).inc()
        return ServerError(
            "the server failed at this", found=type(error).__name__, remedy="See the server's log"
        )

    def _fail_everything(self, error: GlossError) -> None:
        for lane in self.lanes.values():
            lane.fail(error, self._outbox)
        with self._lock:
            left = [*self._reads, *self._scores, *self._calls]
            self._reads.clear()
            self._scores.clear()
            self._calls.clear()
            tickets = list(self._continuations)
            self._continuations.clear()
        for job in left:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(error)
        for ticket in tickets:
            self._outbox.add(ticket, error)

    def _measure(self) -> None:
        with self._lock:
            self.telemetry.queued_rows.set(sum(lane.num_waiting for lane in self.lanes.values()))
            self.telemetry.batch_rows.set(sum(lane.num_running for lane in self.lanes.values()))
            self.telemetry.queued_jobs.set(self._num_jobs)
            self.telemetry.cache_bytes.set(self._cache.num_bytes)
