"""Read, rebuild, score and steer with a trained NLA."""

from gloss.nla.positions import parse_positions
from gloss.nla.reader import NLA
from gloss.nla.results import Continuation, Explanations, Score, Steering, TokenExplanation

__all__ = ["NLA", "Continuation", "Explanations", "Score", "Steering", "TokenExplanation", "parse_positions"]
