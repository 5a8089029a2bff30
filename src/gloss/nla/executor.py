"""What runs the models for a question: in this process at once, or on a server whenever its
scheduler comes to it.

A question is written once, as a coroutine over an ``Executor``. The one of this process never
waits, so that ``run_now`` drives a question to its end without an event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor

from gloss.engines import LocalEngine, Rollout, RowRequest, SteppingEngine
from gloss.engines.local import draw_tokens
from gloss.models.injection import injection_rows
from gloss.target_model import Target, capture_activations, check_positions, edit_residual

if TYPE_CHECKING:
    from gloss.nla.nla import NLA

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class ResidualEdit:
    """What is added to the residual stream of a text: ``offsets`` [positions, d_model] behind block
    ``layer``.
    """

    layer: int
    positions: Sequence[int]
    offsets: Tensor


@dataclass(frozen=True, eq=False)
class TextRequest:
    """A text [token ids] that the target is to continue; temperature 0 is greedy."""

    token_ids: Sequence[int]
    temperature: float
    max_new_tokens: int
    seed: int = 0
    edit: ResidualEdit | None = None


@dataclass(frozen=True)
class RowEvent:
    """What the AV has written for the row of this ``index`` so far; ``rollout`` where it is
    finished.
    """

    index: int
    text: str
    rollout: Rollout | None = None


@dataclass(frozen=True, eq=False)
class TokenEvent:
    """One more token of the continuation of this ``index``; with the last, which may be a stop
    token, comes the whole ``rollout``.

    ``next_probabilities`` [vocabulary] come with the first.
    """

    index: int
    token_id: int
    rollout: Rollout | None = None
    next_probabilities: Tensor | None = None


class Executor(Protocol):
    """Runs the models of one NLA for questions; what comes back does not depend on what else runs.

    Work is accepted or refused when a method is called; an iterator that is closed stops its work.
    """

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

    def continuations(self, rows: Sequence[TextRequest]) -> AsyncIterator[Sequence[TokenEvent]]:
        """The tokens with which the target continues texts, in groups as they come."""
        ...

    def with_prompt(self, prompt: str) -> Executor:
        """An executor whose AV has another prompt, which holds ``<INJECT>`` once.

        Raises: TemplateError; ConfigError where the AV runs elsewhere.
        """
        ...


class LocalExecutor:
    """Runs the models in this process; nothing of it ever waits.

    ``max_rows`` bounds how many rows run side by side.
    """

    def __init__(self, nla: NLA, *, max_rows: int = 256) -> None:
        self.nla, self.max_rows = nla, max_rows

    @torch.inference_mode()
    def _activations(self, token_ids: Sequence[int]) -> Tensor:
        model = self.nla.target.model
        ids = torch.tensor([list(token_ids)], device=model.device)
        return capture_activations(model, ids, None, self.nla.layer)[0].float().cpu()

    async def activations(self, token_ids: Sequence[int]) -> Tensor:
        """See ``Executor``."""
        return self._activations(token_ids)

    async def reconstruct(self, texts: Sequence[str]) -> Tensor:
        """See ``Executor``."""
        return self.nla.ar.reconstruct(list(texts))

    def with_prompt(self, prompt: str) -> LocalExecutor:
        """See ``Executor``."""
        return LocalExecutor(self.nla.with_prompt(prompt), max_rows=self.max_rows)

    def explanations(
        self, rows: Sequence[RowRequest], *, partial: bool = False
    ) -> AsyncIterator[Sequence[RowEvent]]:
        """See ``Executor``."""
        if rows:
            injection_rows(torch.stack([row.activation for row in rows]), 1.0)
        engine = self.nla.engine
        if isinstance(engine, LocalEngine):
            return self._stepwise(engine, rows, partial=partial)
        return self._whole(engine, rows)

    async def _stepwise(
        self, engine: LocalEngine, rows: Sequence[RowRequest], *, partial: bool
    ) -> AsyncIterator[Sequence[RowEvent]]:
        longest = max((row.max_new_tokens for row in rows), default=1)
        batch = SteppingEngine(engine.av, max_rows=self.max_rows, max_new_tokens=longest)
        waiting, written = list(enumerate(rows))[::-1], {i: list[int]() for i in range(len(rows))}
        finished: list[RowEvent] = []
        try:
            while waiting or batch.num_rows:
                for _ in range(min(len(waiting), batch.room)):
                    batch.admit(*waiting.pop())
                events = []
                for token in batch.step():
                    written[token.key].append(token.token_id)
                    if token.rollout is not None:
                        finished.append(RowEvent(token.key, token.rollout.text, token.rollout))
                    elif partial:
                        events.append(RowEvent(token.key, engine.av.decode(written[token.key])))
                if partial:
                    yield [*events, *finished]
                    finished = []
        finally:
            batch.close()
        if finished:
            yield finished

    async def _whole(
        self, engine: Any, rows: Sequence[RowRequest]
    ) -> AsyncIterator[Sequence[RowEvent]]:
        groups: dict[tuple[float, int, int], list[int]] = {}
        for index, row in enumerate(rows):
            seed = row.seed if row.temperature else 0
            groups.setdefault((row.temperature, row.max_new_tokens, seed), []).append(index)
        for (temperature, length, seed), indices in groups.items():
            rollouts = engine.generate(
                torch.stack([rows[i].activation for i in indices]),
                temperature=temperature,
                max_new_tokens=length,
                seed=seed,
            )
            yield [RowEvent(i, r.text, r) for i, r in zip(indices, rollouts, strict=True)]

    async def continuations(
        self, rows: Sequence[TextRequest]
    ) -> AsyncIterator[Sequence[TokenEvent]]:
        """See ``Executor``."""
        for index, row in enumerate(rows):
            yield _continued(self.nla.target, index, row)


@torch.inference_mode()
def _continued(target: Target, index: int, row: TextRequest) -> list[TokenEvent]:
    """One text to its end, a token a step."""
    from transformers import DynamicCache

    check_positions(target.model, len(row.token_ids) + row.max_new_tokens)
    model, cache = target.model, DynamicCache(config=target.model.config)
    generator, stops = torch.Generator().manual_seed(row.seed), _stop_ids(target)
    options = {"past_key_values": cache, "use_cache": True, "logits_to_keep": 1}
    events: list[TokenEvent] = []
    written: list[int] = []

    def add(hidden: Tensor) -> Tensor:
        assert row.edit is not None
        edited = hidden.clone()
        edited[:, list(row.edit.positions)] += row.edit.offsets.to(hidden)
        return edited

    while len(written) < row.max_new_tokens and not (written and written[-1] in stops):
        ids = torch.tensor([written[-1:] or list(row.token_ids)], device=model.device)
        edited = row.edit is not None and not written
        with edit_residual(model, row.edit.layer, add) if edited else nullcontext():  # type: ignore[union-attr]
            logits = model(input_ids=ids, **options).logits[:, -1]
        uniform = torch.rand(1, 1, generator=generator).to(logits.device)
        drawn = draw_tokens(logits, row.temperature or 1.0, uniform)
        probabilities = None if written else logits[0].float().softmax(dim=-1).cpu()
        written.append(int(drawn if row.temperature else logits.argmax()))
        events.append(TokenEvent(index, written[-1], None, probabilities))
    finished = written[-1] in stops
    text = target.tokenizer.decode(written[:-1] if finished else written)
    return [*events[:-1], replace(events[-1], rollout=Rollout(tuple(written), text, finished))]


def _stop_ids(target: Target) -> set[int]:
    recorded = getattr(getattr(target.model, "generation_config", None), "eos_token_id", None)
    others = recorded if isinstance(recorded, (list, tuple)) else [recorded]
    return {int(i) for i in (target.tokenizer.eos_token_id, *others) if i is not None}


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
