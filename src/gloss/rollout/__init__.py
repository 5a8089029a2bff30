"""Engines that generate explanations for activations."""

from gloss.rollout.engine import Rollout, RolloutEngine
from gloss.rollout.local import LocalEngine
from gloss.rollout.stepping import NewToken, RowRequest, SteppingEngine

__all__ = ["LocalEngine", "NewToken", "Rollout", "RolloutEngine", "RowRequest", "SteppingEngine"]
