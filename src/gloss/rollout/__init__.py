"""Engines that generate explanations for activations."""

from gloss.rollout.engine import Rollout, RolloutEngine
from gloss.rollout.local import LocalEngine

__all__ = ["LocalEngine", "Rollout", "RolloutEngine"]
