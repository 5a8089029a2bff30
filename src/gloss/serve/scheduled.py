"""Questions whose models run whenever the scheduler comes to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

from torch import Tensor

from gloss.engines import NewToken, RowRequest, TextRequest
from gloss.nla.executor import RowEvent
from gloss.serve.pending import PendingRequest
from gloss.serve.scheduler import Scheduler

Event = TypeVar("Event")


class ScheduledExecutor:
    """The ``Executor`` of one of a scheduler's NLAs.

    Every method raises ServerBusyError at once if the work is not taken on.
    """

    def __init__(self, scheduler: Scheduler, nla: str, prompt: str | None = None) -> None:
        self._scheduler, self._nla, self._prompt = scheduler, nla, prompt

    async def activations(self, token_ids: Sequence[int]) -> Tensor:
        """See ``Executor``."""
        return await self._scheduler.read(self._nla, token_ids)

    async def reconstruct(self, texts: Sequence[str]) -> Tensor:
        """See ``Executor``."""
        return await self._scheduler.reconstruct(self._nla, texts)

    def explanations(
        self, rows: Sequence[RowRequest], *, partial: bool = False
    ) -> AsyncIterator[Sequence[RowEvent]]:
        """See ``Executor``."""
        pending = self._scheduler.explain(self._nla, rows, prompt=self._prompt, streaming=partial)
        return self._events(pending)

    def continuations(self, rows: Sequence[TextRequest]) -> AsyncIterator[Sequence[NewToken]]:
        """See ``Executor``."""
        return self._events(self._scheduler.continue_texts(self._nla, rows))

    def with_prompt(self, prompt: str) -> ScheduledExecutor:
        """See ``Executor``."""
        return ScheduledExecutor(self._scheduler, self._nla, prompt)

    async def _events(self, pending: PendingRequest[Event]) -> AsyncIterator[Sequence[Event]]:
        try:
            async for events in pending.batches():
                yield events
        finally:
            self._scheduler.abort(pending)
