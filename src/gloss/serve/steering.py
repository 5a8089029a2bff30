"""Steering over the scheduler: several tokens at once, a sweep of strengths, controls, next-token
probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gloss.engines import DecodingBatch, NewToken, ResidualEdit, TextRequest
from gloss.errors import ActivationError, ConfigError
from gloss.models import steering_offset
from gloss.serve import v1_checking_models as m
from gloss.serve.reader import Reader, Sampling
from gloss.text.tokens import ReadText

Edit = tuple[str, float, Tensor]
"""What moves the activations: its name, α, and offsets [positions, d_model]."""


async def steer(reader: Reader, read: ReadText, body: m.SteerIn) -> m.SteerOut:
    """The target's continuations under an edit of an explanation, and under controls.

    Raises: PositionError; ConfigError if the edit cannot be made; ActivationError if it changes
    nothing."""
    reader.require("ar", "target")
    positions = reader.positions(body.positions, read)
    vectors = await reader.activations(read)
    original, edited = await _texts(reader, vectors, positions[-1], body)
    directions = await _directions(reader, vectors, positions, body, original, edited)
    moved = vectors[positions]
    edits: list[Edit] = [("none", 0.0, torch.zeros_like(moved))]
    for name, direction in directions.items():
        edits += [(name, alpha, _offsets(moved, direction, alpha)) for alpha in body.alphas]
    ids = [token.token_id for token in read.tokens]
    nla = reader.nla

    def work() -> list[tuple[NewToken, str]]:
        batch = DecodingBatch(nla.target, max_rows=len(edits))
        for key, (_, _, offsets) in enumerate(edits):
            edit = ResidualEdit(nla.layer, positions, offsets)
            batch.add(key, TextRequest(ids, 0.0, body.max_new_tokens, 0, edit))
        first = new = batch.step()
        texts: dict[int, str] = {}
        while new:
            texts |= {token.key: token.rollout.text for token in new if token.rollout is not None}
            new = batch.step()
        return [(token, texts[token.key]) for token in first]

    runs: list[tuple[NewToken, str]] = await reader.scheduler.call(reader.name, work)
    plain = runs[0][0]
    named = list(zip(edits, runs, strict=True))
    return m.SteerOut(
        positions=positions,
        token=read.tokens[positions[-1]].token,
        original=original,
        edited=edited,
        continuations=[
            m.ContinuationOut(edit=name, alpha=alpha, text=text)
            for (name, alpha, _), (_, text) in named
        ],
        next=[
            m.NextTokens(alpha=alpha, tokens=_next_tokens(reader, plain, first, body.top_tokens))
            for (name, alpha, _), (first, _) in named
            if name == "edit"
        ],
    )


async def _texts(reader: Reader, vectors: Tensor, site: int, body: m.SteerIn) -> tuple[str, str]:
    """The explanation before and after the edit."""
    original = (
        body.original if body.original is not None else (await _greedy(reader, vectors, [site]))[0]
    )
    if original is None:
        raise ConfigError(
            "no explanation could be extracted here",
            remedy="Choose another token, or give one yourself",
        )
    if (body.edited is None) == (body.edit is None):
        raise ConfigError("which edit?", expected="either edited or edit", found="both or neither")
    if body.edited is not None:
        edited = body.edited
    else:
        assert body.edit is not None
        old, new = body.edit
        if not old or old not in original:
            raise ConfigError(
                "the explanation does not hold the words to edit",
                expected=repr(old),
                found=repr(original),
            )
        edited = original.replace(old, new)
    if edited == original:
        raise ActivationError(
            "there is no direction to steer along", expected="an edit that changes the explanation"
        )
    return original, edited


async def _directions(
    reader: Reader,
    vectors: Tensor,
    positions: Sequence[int],
    body: m.SteerIn,
    original: str,
    edited: str,
) -> dict[str, Tensor]:
    """The edit's direction [d_model], a random one, and that of an unrelated edit where there is
    one.
    """
    unrelated = body.unrelated or await _unrelated(reader, vectors, positions)
    texts = [original, edited, *(unrelated or ())]
    rebuilt = await reader.scheduler.reconstruct(reader.name, texts)
    generator = torch.Generator().manual_seed(body.seed)
    directions = {
        "edit": rebuilt[1] - rebuilt[0],
        "random": torch.randn(vectors.shape[1], generator=generator),
    }
    if unrelated is not None and bool((rebuilt[3] - rebuilt[2]).any()):
        directions["unrelated"] = rebuilt[3] - rebuilt[2]
    return directions


async def _unrelated(
    reader: Reader, vectors: Tensor, positions: Sequence[int]
) -> tuple[str, str] | None:
    """Explanations of two other tokens, from the middle and the last third of the text; None if
    they are not there or the same.
    """
    others = [p for p in range(1, len(vectors)) if p not in positions]
    if len(others) < 2 or "av" in reader.missing:
        return None
    before, after = await _greedy(
        reader, vectors, [others[len(others) // 3], others[2 * len(others) // 3]]
    )
    return None if before is None or after is None or before == after else (before, after)


async def _greedy(reader: Reader, vectors: Tensor, positions: Sequence[int]) -> list[str | None]:
    sampling = Sampling(temperature=0.0, max_new_tokens=reader.nla.max_new_tokens)
    rows = await reader.explanations(vectors[list(positions)], sampling, score=False)
    return [one.explanation for one in rows]


def _offsets(activations: Tensor, direction: Tensor, alpha: float) -> Tensor:
    return torch.stack(
        [steering_offset(activation, direction, alpha) for activation in activations]
    )


def _next_tokens(
    reader: Reader, plain: NewToken, edited: NewToken, count: int
) -> list[m.NextToken]:
    """The likeliest next tokens without the edit and with it."""
    before, after = plain.next_probabilities, edited.next_probabilities
    assert before is not None
    assert after is not None
    likely = torch.maximum(before, after).topk(min(count, len(before))).indices.tolist()
    decode = reader.nla.target.tokenizer.decode
    return [
        m.NextToken(token=decode([i]), token_id=i, before=float(before[i]), after=float(after[i]))
        for i in likely
    ]
