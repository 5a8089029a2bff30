"""Two activations side by side, and their difference explained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gloss.errors import ActivationError
from gloss.models import cosine, direction_mse
from gloss.nla.explaining import text_of
from gloss.nla.request import Sampling, Text
from gloss.nla.results import ComparedSide, Comparison, Score
from gloss.nla.selection import is_text
from gloss.text.positions import parse_positions

if TYPE_CHECKING:
    from gloss.nla.questions import Questions


@dataclass(frozen=True)
class Side:
    """One side of a comparison: an activation [d_model], or a token of a text or a chat.

    ``questions`` are those to the NLA that reads and explains it; by default the one that is asked.
    """

    source: Text | Tensor
    position: int = -1
    questions: Questions | None = None


Compared = Text | Tensor | tuple[Text, int] | Side


async def compare(
    self: Questions,
    first: Compared,
    second: Compared,
    *,
    temperature: float | None = None,
    max_new_tokens: int | None = None,
    seed: int = 0,
) -> Comparison:
    """Two activations side by side, and their difference (first − second) explained.

    A side is an activation [d_model], or a text or a chat, whose last token is meant, or one with a
    position.
    Raises: ActivationError if their widths differ; PositionError, CorpusError.
    """
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    (one, side_one), (two, side_two) = [
        await _explained(self, side, sampling) for side in (first, second)
    ]
    width = self.nla.sidecar.d_model
    if one.shape != two.shape or len(one) != width:
        raise ActivationError(
            "activations of different widths", expected=width, found=[len(one), len(two)]
        )
    difference = one - two
    text = score = None
    if bool(difference.any()):
        text, score = await _words(self, difference, 0, sampling)
    return Comparison(
        text=text,
        norm=float(difference.double().norm()),
        similarity=float(cosine(direction_mse(one, two))),
        fve=score.fve if score else None,
        cosine=score.cosine if score else None,
        sides=(side_one, side_two),
    )


async def _explained(
    asked: Questions, side: Compared, sampling: Sampling
) -> tuple[Tensor, ComparedSide]:
    side = _side(side)
    questions = asked if side.questions is None else side.questions
    position: int | None = None
    token: str | None = None
    if not is_text(side.source):
        vectors = questions.nla.checked(side.source)
        if len(vectors) != 1:
            raise ActivationError(
                "a side of a comparison is one activation", expected=1, found=len(vectors)
            )
        vector = vectors[0]
    else:
        read = questions.read(side.source)
        (position,) = parse_positions(side.position, len(read.tokens))
        token = read.tokens[position].token
        vector = (await questions.executor.activations(read.token_ids))[position]
    text, score = await _words(questions, vector, position or 0, sampling)
    fve = score.fve if score else None
    return vector, ComparedSide(position, token, float(vector.double().norm()), text, fve)


def _side(side: Any) -> Side:
    if isinstance(side, Side):
        return side
    if isinstance(side, tuple) and len(side) == 2 and isinstance(side[1], int):
        return Side(*side)
    return Side(side)


async def _words(
    questions: Questions, vector: Tensor, row: int, sampling: Sampling
) -> tuple[str | None, Score | None]:
    (rollout,) = await questions.rollouts(torch.unsqueeze(vector, 0), sampling, [row])
    text = text_of(rollout)
    if text is None or not questions.has_ar:
        return text, None
    (score,) = await questions.scores([text], vector.unsqueeze(0))
    return text, score
