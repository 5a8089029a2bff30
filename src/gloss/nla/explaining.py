"""Activations put into words: how responses are drawn, and what becomes of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from gloss.contract import CLOSE_TAG, OPEN_TAG, Explanation
from gloss.engines import Rollout, RowRequest
from gloss.nla.executor import RowEvent
from gloss.nla.request import Sampling
from gloss.nla.results import FAILED, NO_DIRECTION, ExplainPart, Score, TokenExplanation
from gloss.nla.selection import Chosen
from gloss.seeds import row_seed

if TYPE_CHECKING:
    from gloss.nla.questions import Questions


class Explaining:
    """One question's activations under way: draw ``d`` of the ``i``-th usable activation is row
    ``i · draws + d`` of the executor.
    """

    def __init__(self, questions: Questions, chosen: Chosen, sampling: Sampling) -> None:
        self.nla, self.questions = questions.nla, questions
        self.chosen, self.sampling, self.draws = chosen, sampling, sampling.num_draws
        good = torch.isfinite(chosen.vectors).all(dim=1) & (chosen.vectors != 0).any(dim=1)
        self.usable: list[int] = good.nonzero().flatten().tolist()
        self._flags = [self._flags_of(i) for i in range(len(chosen.vectors))]

    def begin(self, *, partial: bool) -> AsyncIterator[Sequence[RowEvent]]:
        """Hands the rows to the executor. Raises: as it does."""
        wanted = self.sampling.max_new_tokens
        wanted = self.nla.max_new_tokens if wanted is None else wanted
        longest = self.questions.bounds.max_new_tokens
        temperature, seed = self.sampling.applied_temperature, self.sampling.seed
        requests = [
            RowRequest(
                self.chosen.vectors[i],
                temperature,
                wanted if longest is None else min(wanted, longest),
                row_seed(seed, self.chosen.seed_rows[i], draw),
            )
            for i in self.usable
            for draw in range(self.draws)
        ]
        executor, prompt = self.questions.executor, self.sampling.prompt
        if prompt is not None:
            executor = executor.with_prompt(prompt)
        return executor.explanations(requests, partial=partial and self.sampling.best_of == 1)

    async def rollouts(self) -> list[Rollout]:
        """All responses; greedy ones once for each of the samples."""
        found: dict[int, Rollout] = {}
        async for events in self.begin(partial=False):
            found |= {one.index: one.rollout for one in events if one.rollout is not None}
        repeats = 1 if self.draws > 1 else self.sampling.samples
        return [found[index] for index in sorted(found) for _ in range(repeats)]

    async def events(
        self, groups: AsyncIterator[Sequence[RowEvent]]
    ) -> AsyncIterator[ExplainPart | TokenExplanation]:
        """Explanations as they are finished, scored where they are to be; parts where they come."""
        for i in set(range(len(self.chosen.vectors))) - set(self.usable):
            yield self._without_direction(i)
        drawn: dict[int, dict[int, tuple[Rollout, Score | None]]] = {i: {} for i in self.usable}
        async for group in groups:
            finished = {one.index: one.rollout for one in group if one.rollout is not None}
            for index, text in {one.index: one.text for one in group}.items():
                if index not in finished:
                    yield self._part(index, text)
            for index, scored in zip(finished, await self._scored(finished), strict=True):
                i, draw = self.usable[index // self.draws], index % self.draws
                drawn[i][draw] = scored
                for one in self._finished(i, draw, drawn[i]):
                    yield one

    async def _scored(self, finished: dict[int, Rollout]) -> list[tuple[Rollout, Score | None]]:
        asked = self.sampling.score
        wanted = (
            self.questions.has_ar if asked is None else asked and "ar" not in self.questions.missing
        )
        texts = {index: text_of(rollout) for index, rollout in finished.items()}
        known = [index for index, text in texts.items() if text is not None]
        scores: dict[int, Score] = {}
        if known and (wanted or self.sampling.best_of > 1):
            vectors = self.chosen.vectors[[self.usable[index // self.draws] for index in known]]
            found = await self.questions.scores([str(texts[index]) for index in known], vectors)
            scores = dict(zip(known, found, strict=True))
        return [(rollout, scores.get(index)) for index, rollout in finished.items()]

    def _finished(
        self, i: int, draw: int, drawn: dict[int, tuple[Rollout, Score | None]]
    ) -> Iterator[TokenExplanation]:
        """The explanations that are complete now that this draw is there: of each ``best_of`` the
        one with the least error, one without explanation only where all are.
        """
        if self.draws == 1:
            for sample in range(self.sampling.samples):
                yield self._explanation(i, sample, *drawn[draw])
            return
        best_of = self.sampling.best_of
        group = range(draw // best_of * best_of, (draw // best_of + 1) * best_of)
        if all(one in drawn for one in group):
            best = min(group, key=lambda one: _error(drawn[one][1]))
            yield self._explanation(i, draw // best_of, *drawn[best])

    def _explanation(
        self, i: int, sample: int, rollout: Rollout, score: Score | None
    ) -> TokenExplanation:
        vector, text = self.chosen.vectors[i], text_of(rollout)
        known = {**self.chosen.known[i]}
        known["flags"] = (*self._flags[i], *((FAILED,) if text is None else ()))
        return TokenExplanation(
            **known,
            sample=sample,
            text=text,
            response=rollout.text,
            fve=score.fve if score else None,
            baseline=self.nla.mean_direction_fve(vector),
            cosine=score.cosine if score else None,
            direction_mse=score.direction_mse if score else None,
            norm=float(vector.double().norm()),
        )

    def _without_direction(self, i: int) -> TokenExplanation:
        known = {**self.chosen.known[i]}
        known["flags"] = (*known.get("flags", ()), NO_DIRECTION)
        norm = float(self.chosen.vectors[i].double().norm())
        return TokenExplanation(**known, text=None, response="", norm=norm)

    def _flags_of(self, i: int) -> tuple[str, ...]:
        known = self.chosen.known[i]
        position = None if self.chosen.bare else known.get("position")
        own = self.nla.flags(known.get("token_id"), position, self.chosen.vectors[i])
        return tuple(dict.fromkeys((*own, *known.get("flags", ()))))

    def _part(self, index: int, text: str) -> ExplainPart:
        known, sample = self.chosen.known[self.usable[index // self.draws]], index % self.draws
        return ExplainPart(known.get("position"), sample, shown_so_far(text))


def text_of(rollout: Rollout) -> str | None:
    """The explanation of a response; None where none could be extracted."""
    found = rollout.explanation
    return found.text if isinstance(found, Explanation) else None


def shown_so_far(response: str) -> str:
    """The explanation as far as it is written: without its tags, or the beginning of one, and
    without half a character.
    """
    _, opened, inside = response.partition(OPEN_TAG)
    shown = inside if opened else "" if OPEN_TAG.startswith(response.lstrip()) else response
    shown, closed, _ = shown.partition(CLOSE_TAG)
    if not closed:
        lengths = range(len(CLOSE_TAG) - 1, 0, -1)
        cut = next((n for n in lengths if shown.endswith(CLOSE_TAG[:n])), 0)
        shown = shown[: len(shown) - cut]
    return shown.rstrip("\ufffd").strip()


def _error(score: Score | None) -> float:
    return float("inf") if score is None else score.direction_mse
