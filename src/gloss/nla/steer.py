"""Steering by an edited explanation: a sweep of strengths, controls, next-token probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gloss.engines import ResidualEdit, Rollout, TextRequest
from gloss.errors import ActivationError, ConfigError
from gloss.models import steering_offset
from gloss.nla import boundary
from gloss.nla.request import Positions, Sampling, Text
from gloss.nla.results import Continuation, NextToken, NextTokens, Steering
from gloss.nla.selection import bare_rows
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
    max_new_tokens: int = 24,
    top_tokens: int = 10,
    seed: int = 0,
) -> Steering:
    """The target's greedy continuations when the activations of tokens are moved along an edit of
    an explanation: h + α‖h‖Δ/‖Δ‖, Δ = AR(edited) − AR(original).

    The explanation is ``original``, or the AV's greedy one of the last of ``positions``; it becomes
    ``edited``, or in it ``edit`` = (old, new) is replaced. Beside the edit stand a random direction
    and an ``unrelated`` edit (before, after), by default between explanations of two other tokens.
    ``top_tokens`` next tokens are shown with their probabilities.
    Raises: PositionError, CorpusError; ConfigError if the edit cannot be made; ActivationError if
    it changes nothing.
    """
    self.require("ar", "target")
    edit, unrelated = boundary.pair("edit", edit), boundary.pair("unrelated", unrelated)
    edited, original = (boundary.text_or_none("explanation", one) for one in (edited, original))
    alphas, seed = _strengths(alphas), boundary.seed_of(seed)
    max_new_tokens = boundary.whole("max_new_tokens", max_new_tokens, least=1)
    (top_tokens,) = boundary.counts(top_tokens=top_tokens)
    read = await self.read(source)
    sites = parse_positions(positions, len(read.tokens))
    vectors = await self.executor.activations(read.token_ids)
    if original is None:
        (original,) = await _greedy(self, vectors, sites[-1:])
    original, edited = _edit(original, edit, edited)
    unrelated = unrelated or await _unrelated(self, vectors, sites)
    directions = await _directions(self, (original, edited), unrelated, seed)
    moved = vectors[sites]
    offsets = [torch.zeros_like(moved)]
    for direction, alpha in product(directions.values(), alphas):
        offsets.append(torch.stack([steering_offset(h, direction, alpha) for h in moved]))
    edits = [ResidualEdit(self.nla.layer, sites, offset) for offset in offsets]
    requests = [TextRequest(read.token_ids, 0.0, max_new_tokens, 0, edit) for edit in edits]
    rollouts, probabilities = await _continued(self, requests)
    runs = [("none", 0.0), *product(directions, alphas)]
    return Steering(
        positions=tuple(sites),
        token=read.tokens[sites[-1]].token,
        original=original,
        edited=edited,
        continuations=tuple(
            Continuation(*run, rollout.text) for run, rollout in zip(runs, rollouts, strict=True)
        ),
        next=tuple(
            NextTokens(alpha, _next_tokens(self, probabilities[0], after, top_tokens))
            for (name, alpha), after in zip(runs, probabilities, strict=True)
            if name == "edit"
        ),
    )


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
