"""Read, rebuild, score and steer with a trained NLA."""

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
