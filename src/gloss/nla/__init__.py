"""Read, rebuild, score and steer with a trained NLA."""

from typing import TYPE_CHECKING

from gloss.lazy import lazy_package

if TYPE_CHECKING:
    from gloss.nla.nla import NLA
    from gloss.nla.results import Continuation, Explanations, Score, Steering, TokenExplanation
    from gloss.text.positions import parse_positions

__all__ = [
    "NLA",
    "Continuation",
    "Explanations",
    "Score",
    "Steering",
    "TokenExplanation",
    "parse_positions",
]

lazy_package(__name__)
