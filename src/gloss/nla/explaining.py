"""Activations put into words: how responses are drawn, and what becomes of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
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

Drawn = tuple[Rollout, Score | None]


class Explaining:
    """One question under way: draw ``d`` of the ``i``-th usable activation is the executor's row
    ``i · draws + d``.

    ``raw`` shows parts as the AV writes them, tags included, and scores a response that is never
    closed as far as it goes."""

    def __init__(
        self, questions: Questions, chosen: Chosen, sampling: Sampling, *, raw: bool = False
    ) -> None:
        self.nla, self.questions, self.raw = questions.nla, questions, raw
        self.chosen, self.sampling, self.draws = chosen, sampling, sampling.num_draws
        good = torch.isfinite(chosen.vectors).all(dim=1) & (chosen.vectors != 0).any(dim=1)
        self.usable: list[int] = good.nonzero().flatten().tolist()
        self._flags = [self._flags_of(i) for i in range(len(chosen.vectors))]

    def begin(self, *, partial: bool) -> AsyncIterator[Sequence[RowEvent]]:
        """Hands the rows to the executor. Raises: as it does."""
        chosen, asked, bound = self.chosen, self.sampling, self.questions.bounds.max_new_tokens
        longest = self.nla.max_new_tokens if asked.max_new_tokens is None else asked.max_new_tokens
        longest = longest if bound is None else min(longest, bound)
        requests = [
            RowRequest(
                chosen.vectors[i],
                asked.applied_temperature,
                longest,
                row_seed(asked.seed, chosen.seed_rows[i], draw),
            )
            for i in self.usable
            for draw in range(self.draws)
        ]
        executor, prompt = self.questions.executor, asked.prompt
        if prompt is not None:
            executor = executor.with_prompt(prompt)
        return executor.explanations(requests, partial=partial and asked.best_of == 1)

    async def events(
        self, groups: AsyncIterator[Sequence[RowEvent]]
    ) -> AsyncIterator[ExplainPart | TokenExplanation]:
        """Explanations as they are finished, scored where they are to be; parts where they come."""
        for i in set(range(len(self.chosen.vectors))) - set(self.usable):
            yield self._without_direction(i)
        drawn: dict[int, Drawn] = {}
        async for group in groups:
            finished = {one.index: one.rollout for one in group if one.rollout is not None}
            for index, text in {one.index: one.text for one in group}.items():
                if index not in finished:
                    yield self._part(index, text)
            scores = await self._scores(finished)
            for index, rollout in finished.items():
                drawn[index] = rollout, scores.get(index)
                for one in self._finished(index, drawn):
                    yield one

    async def _scores(self, finished: dict[int, Rollout]) -> dict[int, Score]:
        questions, wanted = self.questions, self.sampling.score
        wanted = questions.has_ar if wanted is None else wanted and "ar" not in questions.missing
        if not (wanted or self.sampling.best_of > 1):
            return {}
        texts = {i: text_of(one) for i, one in finished.items()}
        if self.raw:
            texts |= {i: written(finished[i].text) for i, text in texts.items() if text is None}
        known = [(i, text) for i, text in texts.items() if text]
        vectors = self.chosen.vectors[[self.usable[index // self.draws] for index, _ in known]]
        scores = await questions.scores([text for _, text in known], vectors)
        return {index: score for (index, _), score in zip(known, scores, strict=True)}

    def _finished(self, index: int, drawn: Mapping[int, Drawn]) -> Iterator[TokenExplanation]:
        """What is complete with this draw: of each ``best_of`` the one with the least error."""
        i, draw = self.usable[index // self.draws], index % self.draws
        if self.draws == 1:
            for sample in range(self.sampling.samples):
                yield self._explanation(i, sample, *drawn[index])
            return
        best_of = self.sampling.best_of
        group = range(index - draw % best_of, index - draw % best_of + best_of)
        if all(one in drawn for one in group):
            best = min(group, key=lambda one: _error(drawn[one][1]))
            yield self._explanation(i, draw // best_of, *drawn[best])

    def _explanation(
        self, i: int, sample: int, rollout: Rollout, score: Score | None
    ) -> TokenExplanation:
        vector, text = self.chosen.vectors[i], text_of(rollout)
        flags = (*self._flags[i], FAILED) if text is None else self._flags[i]
        return TokenExplanation(
            **{**self.chosen.known[i], "flags": flags},
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
        known, norm = self.chosen.known[i], float(self.chosen.vectors[i].double().norm())
        flags = (*known.get("flags", ()), NO_DIRECTION)
        return TokenExplanation(**{**known, "flags": flags}, text=None, response="", norm=norm)

    def _flags_of(self, i: int) -> tuple[str, ...]:
        known = self.chosen.known[i]
        position = None if self.chosen.bare else known.get("position")
        own = self.nla.flags(known.get("token_id"), position, self.chosen.vectors[i])
        return tuple(dict.fromkeys((*own, *known.get("flags", ()))))

    def _part(self, index: int, text: str) -> ExplainPart:
        known = self.chosen.known[self.usable[index // self.draws]]
        shown = text if self.raw else shown_so_far(text)
        return ExplainPart(known.get("position"), index % self.draws, shown)


def text_of(rollout: Rollout) -> str | None:
    """The explanation of a response; None where none could be extracted."""
    found = rollout.explanation
    return found.text if isinstance(found, Explanation) else None


def written(response: str) -> str:
    """What a response says, extracted or not: without tags, as far as it goes."""
    _, opened, inside = response.partition(OPEN_TAG)
    return (inside if opened else response).partition(CLOSE_TAG)[0].strip()


def shown_so_far(response: str) -> str:
    """The explanation as far as it is written, without tags, parts of them and half characters."""
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
