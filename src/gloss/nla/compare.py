"""Two activations side by side, and their difference explained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsIndex

from torch import Tensor

from gloss.errors import ActivationError
from gloss.models import cosine, direction_mse
from gloss.nla.request import Sampling, Selection, Text
from gloss.nla.results import ComparedSide, Comparison
from gloss.nla.selection import bare_rows, choose, is_text

if TYPE_CHECKING:
    from gloss.nla.questions import Questions


@dataclass(frozen=True)
class Side:
    """One side of a comparison: an activation [d_model], or a token of a text or a chat.

    ``questions`` are those to the NLA that reads it; by default the one that is asked.
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

    A side is an activation [d_model], a text or a chat (its last token), or one with a position.
    Raises: ActivationError if their widths differ; PositionError, CorpusError.
    """
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    one, side_one = await _explained(self, first, sampling)
    two, side_two = await _explained(self, second, sampling)
    width, widths = self.nla.sidecar.d_model, [len(one), len(two)]
    if widths != [width, width]:
        raise ActivationError("activations of different widths", expected=width, found=widths)
    chosen = bare_rows((one - two).unsqueeze(0), [0])
    (found,) = await self.explain_chosen(chosen, sampling)
    return Comparison(
        text=found.text,
        norm=found.norm,
        similarity=float(cosine(direction_mse(one, two))),
        fve=found.fve,
        cosine=found.cosine,
        sides=(side_one, side_two),
    )


async def _explained(
    asked: Questions, side: Compared, sampling: Sampling
) -> tuple[Tensor, ComparedSide]:
    side = _side(side)
    questions = asked if side.questions is None else side.questions
    selection = Selection(positions=side.position) if is_text(side.source) else Selection()
    chosen = await choose(questions, side.source, selection)
    if len(chosen.vectors) != 1:
        what = "a side of a comparison is one activation"
        raise ActivationError(what, expected=1, found=len(chosen.vectors))
    (one,) = await questions.explain_chosen(chosen, sampling)
    position = None if chosen.bare else one.position
    return chosen.vectors[0], ComparedSide(position, one.token, one.norm, one.text, one.fve)


def _side(side: Any) -> Side:
    if isinstance(side, Side):
        return side
    paired = isinstance(side, tuple) and len(side) == 2 and isinstance(side[1], SupportsIndex)
    return Side(*side) if paired else Side(side)
