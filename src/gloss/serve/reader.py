"""What clients ask of one NLA, as work for the scheduler."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gloss.contract import CLOSE_TAG, OPEN_TAG, Explanation
from gloss.engines import Rollout, RowRequest
from gloss.errors import ActivationError, CheckpointError, GlossError
from gloss.models import cosine, direction_mse
from gloss.nla import NLA, Score, parse_positions
from gloss.seeds import row_seed
from gloss.serve.interop_models import TextRequest
from gloss.serve.lane import RowTicket
from gloss.serve.scheduler import Scheduler
from gloss.serve.sources import read_source
from gloss.serve.tickets import Ticket
from gloss.text.tokens import ReadText


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How explanations are drawn. ``seed`` None draws one: every request says something else,
    unless it is greedy. ``seeds`` are the rows' own.
    """

    temperature: float
    max_new_tokens: int
    seed: int | None = None
    samples: int = 1
    seeds: Sequence[int] | None = None


@dataclass(frozen=True)
class Written:
    """What a row says: ``text`` so far, and in the end the explanation (None if none could be
    extracted) and its score.
    """

    index: int
    text: str
    rollout: Rollout | None = None
    score: Score | None = None

    @property
    def explanation(self) -> str | None:
        """The explanation of a finished row."""
        if self.rollout is None:
            return None
        found = self.rollout.explanation
        return found.text if isinstance(found, Explanation) else None


class Reader:
    """One NLA behind the scheduler; ``missing`` says which parts could not be loaded and why."""

    def __init__(
        self, name: str, nla: NLA, scheduler: Scheduler, missing: dict[str, GlossError]
    ) -> None:
        self.name, self.nla, self.scheduler, self.missing = name, nla, scheduler, missing

    def require(self, *parts: str) -> None:
        """Raises CheckpointError if one of ``av``, ``ar``, ``target`` is not loaded; its remedy
        says how to load it.
        """
        for part in parts:
            if part in self.missing:
                raise PartMissing(
                    f"the {part if part == 'target' else part.upper()} is not loaded",
                    where=self.name,
                    found=self.missing[part].what,
                    remedy=(
                        f"Start the server with --{'target' if part == 'target' else 'nla'}"
                        " naming one"
                    ),
                )

    def read(self, request: TextRequest) -> ReadText:
        """The tokens of a request's text. Raises: as ``read_source``."""
        self.require("target")
        return read_source(self.nla, request)

    async def activations(self, read: ReadText, positions: Sequence[int] | None = None) -> Tensor:
        """Raw activations of a text's tokens, or of some; [n, d_model]."""
        vectors = await self.scheduler.read(self.name, [token.token_id for token in read.tokens])
        return vectors if positions is None else vectors[list(positions)]

    def positions(self, wanted: str | int | Sequence[int] | None, read: ReadText) -> list[int]:
        """Positions as a request names them; none or an empty list means all. Raises:
        PositionError.
        """
        return parse_positions(
            "all" if wanted is None or wanted == [] else wanted, len(read.tokens)
        )

    def vectors(self, rows: Sequence[Sequence[float]]) -> Tensor:
        """Activations of a request, [n, d_model]. Raises: ActivationError for another width."""
        width = self.nla.sidecar.d_model
        for row in rows:
            if len(row) != width:
                raise ActivationError("wrong activation width", expected=width, found=len(row))
        return torch.tensor(rows, dtype=torch.float32).reshape(-1, width)

    def explain(
        self, vectors: Tensor, sampling: Sampling, *, partial: bool = False, score: bool = True
    ) -> AsyncIterator[Written]:
        """Explains activations [n, d_model]; row i · samples + s is sample s of activation i.
        Partial texts come where asked for.

        Rows are told as they finish, scored where there is an AR. Leaving the iterator stops the
        writing.
        Raises: at once ServerBusyError, ActivationError, CheckpointError.
        """
        self.require("av")
        if not len(vectors):
            return _nothing()  # a ticket without rows would never be told that it is finished
        ticket = self.scheduler.explain(
            self.name, self._requests(vectors, sampling), partial=partial
        )
        return self._told(ticket, vectors, sampling.samples if score else None)

    async def _told(
        self, ticket: RowTicket, vectors: Tensor, samples: int | None
    ) -> AsyncIterator[Written]:
        try:
            async for events in ticket.batches():
                newest = {event.index: event for event in events if event.rollout is None}
                finished = [event for event in events if event.rollout is not None]
                for index in newest.keys() - {event.index for event in finished}:
                    yield Written(index, shown_so_far(newest[index].text))
                written = [Written(event.index, event.text, event.rollout) for event in finished]
                for one, score in zip(
                    written, await self._scores(written, vectors, samples), strict=True
                ):
                    yield Written(one.index, one.text, one.rollout, score)
        finally:
            self.scheduler.leave(ticket)

    async def explanations(
        self, vectors: Tensor, sampling: Sampling, *, score: bool = True
    ) -> list[Written]:
        """All rows of ``explain``, in order."""
        written = [one async for one in self.explain(vectors, sampling, score=score)]
        return sorted(written, key=lambda one: one.index)

    def go_on(
        self, token_ids: Sequence[int], *, temperature: float, max_new_tokens: int
    ) -> AsyncIterator[int]:
        """New token ids by which the target goes on with a text. Leaving the iterator stops it.
        Raises: at once ServerBusyError.
        """
        self.require("target")
        seed = secrets.randbits(63)
        ticket = self.scheduler.go_on(
            self.name, token_ids, temperature=temperature, seed=seed, max_new_tokens=max_new_tokens
        )
        return self._new_ids(ticket)

    async def _new_ids(self, ticket: Ticket[int]) -> AsyncIterator[int]:
        try:
            async for token_ids in ticket.batches():
                for token_id in token_ids:
                    yield token_id
        finally:
            self.scheduler.stop(ticket)

    async def score(self, texts: Sequence[str], vectors: Tensor) -> list[Score]:
        """How well each text rebuilds its activation; n texts and [n, d_model]."""
        self.require("ar")
        rebuilt = await self.scheduler.reconstruct(self.name, texts)
        errors = direction_mse(rebuilt, vectors).tolist()
        return [
            Score(direction_mse=error, cosine=cosine(error), fve=self.nla.fve(error))
            for error in errors
        ]

    async def _scores(
        self, written: Sequence[Written], vectors: Tensor, samples: int | None
    ) -> Sequence[Score | None]:
        texts = {i: one.explanation for i, one in enumerate(written) if one.explanation is not None}
        if samples is None or not texts or "ar" in self.missing:
            return [None] * len(written)
        rows = [written[i].index // samples for i in texts]
        found = await self.score([str(text) for text in texts.values()], vectors[rows])
        scores = dict(zip(texts, found, strict=True))
        return [scores.get(i) for i in range(len(written))]

    def _requests(self, vectors: Tensor, sampling: Sampling) -> list[RowRequest]:
        base = secrets.randbits(64) if sampling.seed is None else sampling.seed
        length = min(sampling.max_new_tokens, self.scheduler.limits.max_new_tokens)
        seeds = sampling.seeds or [row_seed(base, row) for row in range(len(vectors))]
        return [
            RowRequest(vector, sampling.temperature, length, seed + sample)
            for vector, seed in zip(vectors, seeds, strict=True)
            for sample in range(sampling.samples)
        ]


class PartMissing(CheckpointError):
    """A part of the NLA that a request needs is not loaded; the answer is 503."""


def shown_so_far(response: str) -> str:
    """The explanation as far as it is written: without its tags, or the beginning of one, and
    without half a character.
    """
    _, opened, inside = response.partition(OPEN_TAG)
    shown = inside if opened else "" if OPEN_TAG.startswith(response.lstrip()) else response
    shown, closed, _ = shown.partition(CLOSE_TAG)
    if not closed:
        cut = next(
            (n for n in range(len(CLOSE_TAG) - 1, 0, -1) if shown.endswith(CLOSE_TAG[:n])), 0
        )
        shown = shown[: len(shown) - cut]
    return shown.rstrip("\ufffd").strip()


async def _nothing() -> AsyncIterator[Written]:
    written: tuple[Written, ...] = ()
    for one in written:
        yield one
