"""Steering by an edited explanation: a sweep of strengths, controls, next-token probabilities, and
how often the words that the edit brought in are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gloss.engines import ResidualEdit, Rollout, TextRequest
from gloss.errors import ActivationError, ConfigError
from gloss.models import steering_offset
from gloss.nla import boundary
from gloss.nla.request import Positions, Sampling, Text
from gloss.nla.selection import bare_rows
from gloss.nla.steering_rates import new_words, rates_of, verdict
from gloss.nla.steering_result import Continuation, NextToken, NextTokens, Steering
from gloss.seeds import row_seed
from gloss.text.positions import parse_positions

if TYPE_CHECKING:
    from gloss.nla.questions import Questions

MIN_ALPHA, MAX_ALPHA = 1e-3, 100.0


Pair = tuple[str, str]


async def steer(
    self: Questions,
    source: Text,
    *,
    positions: Positions = -1,
    edit: tuple[str, str] | None = None,
    edited: str | None = None,
    original: str | None = None,
    unrelated: tuple[str, str] | None = None,
    alphas: Sequence[float] = (0.5, 1.0, 2.0),
    wanted: str | None = None,
    samples: int = 8,
    max_new_tokens: int = 24,
    top_tokens: int = 10,
    seed: int = 0,
) -> Steering:
    """The target's continuations when the activations of tokens are moved along an edit of an
    explanation: h + α‖h‖Δ/‖Δ‖, Δ = AR(edited) − AR(original).

    The explanation is ``original``, or the AV's greedy one of the last of ``positions``; it becomes
    ``edited``, or in it ``edit`` = (old, new) is replaced. Beside the edit stand a random
    direction, an ``unrelated`` edit (before, after), by default between explanations of two other
    tokens, and the same edit ``elsewhere`` in the text. Continuations are greedy; ``samples`` more
    at T = 1 tell how often the ``wanted`` words, by default those that the edit brought in, are
    written. ``top_tokens`` next tokens are shown with their probabilities.
    Raises: PositionError, CorpusError; ConfigError if the edit cannot be made; ActivationError if
    it changes nothing.
    """
    self.require("ar", "target")
    edit, unrelated = boundary.pair("edit", edit), boundary.pair("unrelated", unrelated)
    edited, original = (boundary.text_or_none("explanation", one) for one in (edited, original))
    alphas, seed = _strengths(alphas), boundary.seed_of(seed)
    max_new_tokens = boundary.whole("max_new_tokens", max_new_tokens, least=1)
    top_tokens, samples = boundary.counts(top_tokens=top_tokens, samples=samples)
    wanted = boundary.text_or_none("wanted", wanted)
    read = await self.read(source)
    sites = parse_positions(positions, len(read.tokens))
    vectors = await self.executor.activations(read.token_ids)
    if original is None:
        (original,) = await _greedy(self, vectors, sites[-1:])
    original, edited = _edit(original, edit, edited)
    unrelated = unrelated or await _unrelated(self, vectors, sites)
    directions = await _directions(self, (original, edited), unrelated, seed)
    wanted = new_words(original, edited) if wanted is None else wanted
    runs = [_Run("none", 0.0), *_runs(self, directions, alphas, vectors, sites)]
    draws = samples if wanted else 0
    written = await _write(self, read.token_ids, runs, draws, max_new_tokens, seed)
    return Steering(
        positions=tuple(sites),
        token=read.tokens[sites[-1]].token,
        original=original,
        edited=edited,
        **_outcome(self, dict(zip(runs, written, strict=True)), wanted, draws, top_tokens),
    )


@dataclass(frozen=True, eq=False)
class _Run:
    """What is done to the activations, by name and strength."""

    name: str
    alpha: float
    edit: ResidualEdit | None = None


@dataclass(frozen=True)
class _Written:
    """What the target writes: greedily, sampled, and its next token's probabilities
    [vocabulary]."""

    greedy: str
    sampled: Sequence[str]
    next: Tensor


def _outcome(
    questions: Questions, written: dict[_Run, _Written], wanted: str, draws: int, top_tokens: int
) -> dict[str, Any]:
    """What a ``Steering`` says of the runs, the first of which edits nothing."""
    before = next(iter(written.values())).next
    drawn = {(run.name, run.alpha): one.sampled for run, one in written.items()}
    rates = rates_of(wanted, drawn) if draws else ()
    return {
        "continuations": tuple(
            Continuation(run.name, run.alpha, one.greedy) for run, one in written.items()
        ),
        "next": tuple(
            NextTokens(run.alpha, _next_tokens(questions, before, one.next, top_tokens))
            for run, one in written.items()
            if run.name == "edit"
        ),
        "wanted": wanted,
        "rates": rates,
        "verdict": verdict(wanted, rates),
    }


async def _write(
    questions: Questions,
    token_ids: Sequence[int],
    runs: Sequence[_Run],
    samples: int,
    max_new_tokens: int,
    seed: int,
) -> list[_Written]:
    """Every run's greedy continuation and its samples at T = 1."""
    requests = [
        TextRequest(token_ids, float(draw > 0), max_new_tokens, row_seed(seed, i, draw), run.edit)
        for i, run in enumerate(runs)
        for draw in range(1 + samples)
    ]
    rollouts, probabilities = await _continued(questions, requests)
    texts = [rollout.text for rollout in rollouts]
    starts = range(0, len(requests), 1 + samples)
    return [_Written(texts[i], texts[i + 1 : i + 1 + samples], probabilities[i]) for i in starts]


def _runs(
    questions: Questions,
    directions: dict[str, Tensor],
    alphas: Sequence[float],
    vectors: Tensor,
    sites: Sequence[int],
) -> list[_Run]:
    """Every direction with every strength, and the edit's at a token that was not asked for."""
    layer, others = questions.nla.layer, [p for p in range(1, len(vectors)) if p not in sites]
    places = [(name, direction, list(sites)) for name, direction in directions.items()]
    if others:
        places.append(("elsewhere", directions["edit"], [others[len(others) // 2]]))
    return [
        _Run(name, alpha, ResidualEdit(layer, where, _offsets(vectors[where], direction, alpha)))
        for name, direction, where in places
        for alpha in alphas
    ]


def _offsets(activations: Tensor, direction: Tensor, alpha: float) -> Tensor:
    """Of every activation [n, d_model] what moves it along a direction."""
    return torch.stack([steering_offset(h, direction, alpha) for h in activations])


def _strengths(alphas: Any) -> list[float]:
    """The strengths. Raises: ConfigError for one that says nothing: not finite, beyond any use."""
    found = boundary.finite_numbers("alphas", alphas)
    for alpha in found:
        if alpha != 0 and not MIN_ALPHA <= abs(alpha) <= MAX_ALPHA:
            expected = f"0, or {MIN_ALPHA:g} to {MAX_ALPHA:g} of either sign"
            raise ConfigError("alpha", expected=expected, found=alpha)
    return found


def _edit(original: str | None, edit: Pair | None, edited: str | None) -> Pair:
    """The explanation before and after the edit."""
    if original is None:
        remedy = "Choose another token, or give one yourself"
        raise ConfigError("no explanation could be extracted here", remedy=remedy)
    if (edited is None) == (edit is None):
        raise ConfigError("which edit?", expected="either edited or edit", found="both or neither")
    if edit is not None:
        old, new = edit
        if not old or old not in original:
            raise ConfigError(
                "the explanation does not hold the words to edit",
                expected=repr(old),
                found=repr(original),
                remedy="Edit words that stand in the explanation, or give one yourself",
            )
        edited = original.replace(old, new)
    assert edited is not None
    if edited == original:
        what = "there is no direction to steer along"
        raise ActivationError(what, expected="an edit that changes the explanation")
    return original, edited


async def _directions(
    questions: Questions, edit: Pair, unrelated: Pair | None, seed: int
) -> dict[str, Tensor]:
    """Directions [d_model]: the edit's, a random one, that of an unrelated edit if there is one."""
    rebuilt = await questions.executor.reconstruct([*edit, *(unrelated or ())])
    random = torch.randn(rebuilt.shape[1], generator=torch.Generator().manual_seed(seed))
    directions = {"edit": rebuilt[1] - rebuilt[0], "random": random}
    if unrelated is not None and bool((rebuilt[3] - rebuilt[2]).any()):
        directions["unrelated"] = rebuilt[3] - rebuilt[2]
    return directions


async def _unrelated(
    questions: Questions, vectors: Tensor, positions: Sequence[int]
) -> Pair | None:
    """Different explanations of two other tokens, if there are: a third and two into the text."""
    others = [p for p in range(1, len(vectors)) if p not in positions]
    if len(others) < 2 or not questions.has_av:
        return None
    sites = [others[len(others) // 3], others[2 * len(others) // 3]]
    before, after = await _greedy(questions, vectors, sites)
    return None if before is None or after is None or before == after else (before, after)


async def _greedy(
    questions: Questions, vectors: Tensor, positions: Sequence[int]
) -> list[str | None]:
    chosen = bare_rows(vectors[list(positions)], positions)
    found = await questions.explain_chosen(chosen, Sampling(temperature=0.0, score=False))
    return [one.text for one in found]


async def _continued(
    questions: Questions, requests: Sequence[TextRequest]
) -> tuple[list[Rollout], list[Tensor]]:
    """Each text's continuation, and the probabilities [vocabulary] of its first token."""
    rollouts: dict[int, Rollout] = {}
    probabilities: dict[int, Tensor] = {}
    async for group in questions.executor.continuations(requests):
        for event in group:
            if event.next_probabilities is not None:
                probabilities[event.key] = event.next_probabilities
            if event.rollout is not None:
                rollouts[event.key] = event.rollout
    return [rollouts[i] for i in sorted(rollouts)], [probabilities[i] for i in sorted(rollouts)]


def _next_tokens(
    questions: Questions, before: Tensor, after: Tensor, count: int
) -> tuple[NextToken, ...]:
    """The likeliest next tokens without the edit and with it."""
    likely = torch.maximum(before, after).topk(min(count, len(before))).indices.tolist()
    decode = questions.nla.target.tokenizer.decode
    return tuple(
        NextToken(token=decode([i]), token_id=i, before=float(before[i]), after=float(after[i]))
        for i in likely
    )
