"""One thread owns the models and works for all clients: rows step together, readings and
reconstructions go in batches in between."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from gloss.engines import NewToken, RowRequest, TextRequest
from gloss.errors import GlossError, ServerBusyError, ServerError
from gloss.models.injection import injection_rows
from gloss.nla import NLA
from gloss.nla.executor import RowEvent
from gloss.serve.limits import Limits
from gloss.serve.model_queue import (
    ContinuationQueue,
    EventQueue,
    ExplanationQueue,
    ModelQueue,
    PendingRequest,
)
from gloss.serve.shared_work import WorkCache, read_texts, reconstruct_groups
from gloss.serve.side_thread import SideThread
from gloss.serve.telemetry import Telemetry
from gloss.target_model import check_positions

Answer = TypeVar("Answer")
log = logging.getLogger("gloss.serve")
_TEXTS_PER_TURN, _READ_TOKENS_PER_TURN = 256, 8192
_LONGEST_RETRY_S = 30
_GATHERED_TURNS, _CROWD_ROWS = 4, 8
"""With so many rows under way, what joins them and what is read or reconstructed beside them is
gathered for so many steps."""


class ShuttingDown(ServerBusyError):
    """The server takes on nothing more."""

    def __init__(self) -> None:
        super().__init__("the server is shutting down", remedy="Ask again when it is back")


class _Pace:
    """Rows finished a second, lately."""

    def __init__(self) -> None:
        self.per_s, self._count, self._since = 1.0, 0, time.monotonic()

    def count(self, finished: int) -> None:
        """Counts finished rows; the pace is renewed about every second."""
        self._count += finished
        elapsed = time.monotonic() - self._since
        if elapsed >= 1.0 and self._count:
            self.per_s, self._count, self._since = self._count / elapsed, 0, time.monotonic()


@dataclass(frozen=True, eq=False)
class _Job:
    """Texts of one NLA to be read or reconstructed; ``size`` is what they count against a turn."""

    nla: str
    payload: Any
    size: int
    future: Future[Tensor]


class Scheduler:
    """Takes work from the event loop and does it in its own thread; everything public is called in
    the event loop.

    Raises everywhere: ServerBusyError if the queue is full or the server is shutting down.
    """

    def __init__(self, nlas: Mapping[str, NLA], *, limits: Limits, telemetry: Telemetry) -> None:
        self.nlas, self.limits, self.telemetry = nlas, limits, telemetry
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._cache = WorkCache(limits.cache_bytes, telemetry)
        self._shared: dict[str, Any] = {
            "limits": limits,
            "cache": self._cache,
            "lock": self._lock,
            "telemetry": telemetry,
        }
        self.explanations = {n: ExplanationQueue(n, nla, **self._shared) for n, nla in nlas.items()}
        self.continuations = {
            n: ContinuationQueue(n, nla, **self._shared) for n, nla in nlas.items()
        }
        self.readings, self.reconstructions = deque[_Job](), deque[_Job]()
        self.reader = SideThread("gloss-reader", limits.max_queued_jobs)
        self.writer = SideThread("gloss-writer", limits.max_queued_rows)
        self._closing, self._deadline = False, math.inf
        self._pace = _Pace()
        self._thread: threading.Thread | None = None

    @property
    def is_ready(self) -> bool:
        """Whether work is taken on."""
        return self._thread is not None and self._thread.is_alive() and self._deadline == math.inf

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts the thread; its events go to ``loop``."""
        self._events = EventQueue(loop)
        self.reader.start()
        self.writer.start()
        self._thread = threading.Thread(target=self._work, name="gloss-models", daemon=True)
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Work goes on for so many seconds, for requests that are under way; what is left fails."""
        with self._wake:
            self._deadline = min(self._deadline, time.monotonic() + seconds)

    def close(self) -> None:
        """Refuses new work, finishes what can be finished in the time of grace, fails the rest.
        Blocks; not in the event loop."""
        self.stop(self.limits.grace_s)
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(timeout=max(0.0, self._deadline - time.monotonic()) + 1.0)

    def enqueue(
        self, find: Callable[[], ModelQueue[Any]], rows: Sequence[Any], *, streaming: bool
    ) -> AsyncIterator[Sequence[Any]]:
        """Has rows written by the queue that ``find`` gives; their events, in groups as they come.
        Rows are taken on at once, and aborted when the iterator is closed."""
        pending: PendingRequest[Any] = PendingRequest(streaming=streaming)
        with self._wake:
            waiting = self._num_waiting
            most = self.limits.max_queued_rows
            self._refuse_if(bool(waiting) and waiting + len(rows) > most, waiting)
            queue = find()
            queue.enqueue(pending, rows)
            self._wake.notify()
        return self._events_of(pending, queue)

    async def _events_of(
        self, pending: PendingRequest[Any], queue: ModelQueue[Any]
    ) -> AsyncIterator[Sequence[Any]]:
        try:
            async for events in pending.batches():
                yield events
        finally:
            with self._wake:
                queue.abort(pending)
                self._wake.notify()

    async def submit(self, jobs: deque[_Job], nla: str, payload: Sequence[Any]) -> Tensor:
        """The vectors of a text to be read, or of texts to be reconstructed."""
        job = _Job(nla, tuple(payload), len(payload), Future())
        with self._wake:
            self._refuse_if(self._num_jobs >= self.limits.max_queued_jobs, self._num_jobs)
            jobs.append(job)
            self._wake.notify()
        return await asyncio.wrap_future(job.future)

    def explanation_queue(self, key: str, nla: NLA) -> ExplanationQueue:
        """The queue of an NLA, or of one with a prompt of its own. Call under the lock."""
        if key not in self.explanations:
            self.explanations[key] = ExplanationQueue(key, nla, **self._shared)
        return self.explanations[key]

    def _refuse_if(self, full: bool, waiting: int) -> None:
        if self._closing or time.monotonic() > self._deadline:
            raise ShuttingDown
        if full:
            error = ServerBusyError(
                "the queue is full",
                found=f"{waiting} waiting",
                remedy="Ask again later, or for less at once",
            )
            error.retry_after_s = min(_LONGEST_RETRY_S, max(1.0, waiting / self._pace.per_s))
            raise error

    @property
    def _queues(self) -> list[ModelQueue[Any]]:
        return [*self.explanations.values(), *self.continuations.values()]

    @property
    def _num_jobs(self) -> int:
        return len(self.readings) + len(self.reconstructions)

    @property
    def _num_waiting(self) -> int:
        return sum(queue.num_waiting for queue in self._queues)

    @property
    def _num_running(self) -> int:
        return sum(queue.num_running for queue in self._queues)

    @property
    def _is_idle(self) -> bool:
        return not self._num_jobs and all(queue.is_idle for queue in self._queues)

    # ---- in the thread that owns the models

    def _work(self) -> None:
        turn = 0
        while self._wait_for_work():
            gathering = turn % _GATHERED_TURNS != 0 and self._num_running >= _CROWD_ROWS
            for queue in self._queues:
                self._advance(queue, admits=not gathering)
            if not gathering:
                self._do_jobs(self.readings, _READ_TOKENS_PER_TURN, read_texts)
                self._do_jobs(self.reconstructions, _TEXTS_PER_TURN, reconstruct_groups)
            turn += 1
            self._events.flush()
            self._tidy_up()
        self._fail_everything(ShuttingDown())
        self._events.flush()

    def _wait_for_work(self) -> bool:
        """Waits until there is something to do; False when the server is closed and nothing is
        left, or time is up."""
        with self._wake:
            while self._is_idle and not self._closing:
                self._wake.wait()
            is_over = self._closing and self._is_idle
            return not is_over and time.monotonic() <= self._deadline

    def _advance(self, queue: ModelQueue[Any], *, admits: bool) -> None:
        try:
            self._pace.count(queue.advance(self._events, admits=admits))
        except Exception as error:  # the thread must outlive it
            queue.fail(self._failure(error), self._events)

    def _do_jobs(
        self,
        jobs: deque[_Job],
        most: int,
        work_out: Callable[[NLA, str, Sequence[Any], WorkCache], Sequence[Tensor]],
    ) -> None:
        taken = self._taken(jobs, most)
        for nla in dict.fromkeys(job.nla for job in taken):
            mine = [job for job in taken if job.nla == nla]
            try:
                found = work_out(self.nlas[nla], nla, [job.payload for job in mine], self._cache)
                for job, vectors in zip(mine, found, strict=True):
                    job.future.set_result(vectors)
            except Exception as error:  # the thread must outlive it
                for job in mine:
                    if not job.future.done():
                        job.future.set_exception(self._failure(error))

    def _taken(self, jobs: deque[_Job], most: int) -> list[_Job]:
        """The jobs of one turn: the first, and as many more as fit; those that nobody waits for are
        left out."""
        taken: list[_Job] = []
        size = 0
        with self._lock:
            while jobs and (not taken or size + jobs[0].size <= most):
                job = jobs.popleft()
                if job.future.set_running_or_notify_cancel():
                    taken.append(job)
                    size += job.size
        return taken

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
        for queue in self._queues:
            queue.fail(error, self._events)
        for jobs in (self.readings, self.reconstructions):
            for job in self._taken(jobs, sum(job.size for job in jobs)):
                job.future.set_exception(error)

    def _tidy_up(self) -> None:
        with self._lock:
            for key in self.explanations.keys() - self.nlas.keys():
                if self.explanations[key].is_idle:
                    del self.explanations[key]
            self.telemetry.queued_rows.set(self._num_waiting)
            self.telemetry.batch_rows.set(self._num_running)
            self.telemetry.queued_jobs.set(self._num_jobs)
            self.telemetry.cache_bytes.set(self._cache.num_bytes)


class ScheduledExecutor:
    """The ``Executor`` of one of a scheduler's NLAs.

    Every method raises ServerBusyError at once if the work is not taken on.
    """

    def __init__(self, scheduler: Scheduler, name: str, prompt: str | None = None) -> None:
        self._scheduler, self._name, self._nla = scheduler, name, scheduler.nlas[name]
        self._key = name if prompt is None else f"{name}\0{prompt}"
        if prompt is not None:
            self._nla = self._nla.with_prompt(prompt)

    async def aside(self, function: Callable[[], Answer]) -> Answer:
        """See ``Executor``."""
        return await self._scheduler.reader.run(function)

    async def activations(self, token_ids: Sequence[int]) -> Tensor:
        """See ``Executor``."""
        return await self._scheduler.submit(self._scheduler.readings, self._name, token_ids)

    async def reconstruct(self, texts: Sequence[str]) -> Tensor:
        """See ``Executor``."""
        if not texts:
            return torch.empty(0, self._nla.sidecar.d_model)
        return await self._scheduler.submit(self._scheduler.reconstructions, self._name, texts)

    def explanations(
        self, rows: Sequence[RowRequest], *, partial: bool = False
    ) -> AsyncIterator[Sequence[RowEvent]]:
        """See ``Executor``."""
        if rows:
            injection_rows(torch.stack([row.activation for row in rows]), 1.0)
        scheduler, key, nla = self._scheduler, self._key, self._nla
        return scheduler.enqueue(
            lambda: scheduler.explanation_queue(key, nla), rows, streaming=partial
        )

    def continuations(self, rows: Sequence[TextRequest]) -> AsyncIterator[Sequence[NewToken]]:
        """See ``Executor``."""
        for row in rows:
            check_positions(self._nla.target.model, len(row.token_ids) + row.max_new_tokens)
        queue = self._scheduler.continuations[self._name]
        return self._scheduler.enqueue(lambda: queue, rows, streaming=True)

    def with_prompt(self, prompt: str) -> ScheduledExecutor:
        """See ``Executor``."""
        return ScheduledExecutor(self._scheduler, self._name, prompt)
