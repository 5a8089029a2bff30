"""What runs the models for a question: in this process at once, or when a scheduler comes to it.

A question is a coroutine over an ``Executor``. The one of this process never waits, so that
``run_now`` drives a question to its end without an event loop.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor

from gloss.engines import (
    DecodingBatch,
    NewToken,
    Rollout,
    RowBatch,
    RowRequest,
    TextRequest,
    open_batch,
)
from gloss.models.injection import injection_rows
from gloss.target_model import capture_activations

if TYPE_CHECKING:
    from gloss.nla.nla import NLA

Answer = TypeVar("Answer")
Request = TypeVar("Request")


@dataclass(frozen=True)
class RowEvent:
    """What the AV has written for row ``index`` so far; ``rollout`` where it is finished."""

    index: int
    text: str
    rollout: Rollout | None = None


class Executor(Protocol):
    """Runs the models of one NLA for questions; what comes back does not depend on what else runs.

    Rows are accepted or refused when a method is called; closing an iterator aborts its rows.
    """

    async def aside(self, function: Callable[[], Answer]) -> Answer:
        """What a function returns that asks no model but may take its time."""
        ...

    async def activations(self, token_ids: Sequence[int]) -> Tensor:
        """Raw activations of all tokens of a text; [tokens, d_model]."""
        ...

    def explanations(
        self, rows: Sequence[RowRequest], *, partial: bool = False
    ) -> AsyncIterator[Sequence[RowEvent]]:
        """What the AV writes for rows, in groups as it comes; unfinished texts only if ``partial``.

        Raises: ActivationError for an activation without direction.
        """
        ...

    async def reconstruct(self, texts: Sequence[str]) -> Tensor:
        """What the AR reads in texts; [n, d_model]."""
        ...

    def continuations(self, rows: Sequence[TextRequest]) -> AsyncIterator[Sequence[NewToken]]:
        """The tokens with which the target continues texts, as they come; keys are row indices."""
        ...

    def with_prompt(self, prompt: str) -> Executor:
        """As ``NLA.with_prompt``."""
        ...


class LocalExecutor:
    """Runs the models in this process, at most ``max_rows`` side by side; it never waits."""

    def __init__(self, nla: NLA, *, max_rows: int = 256) -> None:
        self.nla, self.max_rows = nla, max_rows

    async def aside(self, function: Callable[[], Answer]) -> Answer:
        """See ``Executor``."""
        return function()

    async def activations(self, token_ids: Sequence[int]) -> Tensor:
        """See ``Executor``."""
        model = self.nla.target.model
        with torch.inference_mode():
            ids = torch.tensor([list(token_ids)], device=model.device)
            return capture_activations(model, ids, None, self.nla.layer)[0].float().cpu()

    async def reconstruct(self, texts: Sequence[str]) -> Tensor:
        """See ``Executor``."""
        return self.nla.ar.reconstruct(texts)

    def with_prompt(self, prompt: str) -> LocalExecutor:
        """See ``Executor``."""
        return LocalExecutor(self.nla.with_prompt(prompt), max_rows=self.max_rows)

    def explanations(
        self, rows: Sequence[RowRequest], *, partial: bool = False
    ) -> AsyncIterator[Sequence[RowEvent]]:
        """See ``Executor``; without ``partial`` all come together in the end, to be scored so."""
        if rows:
            injection_rows(torch.stack([row.activation for row in rows]), 1.0)
        return self._explanations(rows, partial=partial)

    async def _explanations(
        self, rows: Sequence[RowRequest], *, partial: bool
    ) -> AsyncIterator[Sequence[RowEvent]]:
        written = defaultdict[int, list[int]](list)
        finished: list[RowEvent] = []
        for new in _steps(open_batch(self.nla.engine, max_rows=self.max_rows), rows):
            parts = []
            for token in new:
                written[token.key].append(token.token_id)
                if token.rollout is not None:
                    finished.append(RowEvent(token.key, token.rollout.text, token.rollout))
                elif partial:
                    parts.append(RowEvent(token.key, self.nla.av.decode(written[token.key])))
            if partial:
                yield [*parts, *finished]
                finished = []
        if finished:
            yield finished

    async def continuations(self, rows: Sequence[TextRequest]) -> AsyncIterator[Sequence[NewToken]]:
        """See ``Executor``."""
        for new in _steps(DecodingBatch(self.nla.target, max_rows=self.max_rows), rows):
            yield new


def _steps(batch: RowBatch[Request], rows: Sequence[Request]) -> Iterator[list[NewToken]]:
    """What a batch writes for rows, step by step; a row joins as soon as there is room."""
    waiting = list(enumerate(rows))[::-1]
    try:
        while waiting or batch.num_rows:
            for _ in range(min(len(waiting), batch.room)):
                batch.add(*waiting.pop())
            yield batch.step()
    finally:
        batch.close()


def run_now(question: Coroutine[Any, Any, Answer]) -> Answer:
    """The answer of a question whose executor never waits."""
    try:
        question.send(None)
    except StopIteration as end:
        answer: Answer = end.value
        return answer
    finally:
        question.close()
    raise RuntimeError("this executor waits: await the question in an event loop")
