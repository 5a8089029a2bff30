"""The reward of an explanation: how well the live AR rebuilds the activation from it."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from gloss.models import ORTHOGONAL_MSE

Reward = Literal["neg_mse", "neg_log_mse"]
MSE_FLOOR = 1e-4


def failed_reward(reward: Reward) -> float:
    """What an explanation that could not be extracted earns: that of an orthogonal vector."""
    return -ORTHOGONAL_MSE if reward == "neg_mse" else -math.log(ORTHOGONAL_MSE)


def explanation_rewards(
    errors: Tensor, extracted: Tensor, num_tokens: Tensor, *, reward: Reward, length_penalty: float
) -> Tensor:
    """Reward of every rollout; [n] each → [n].

    ``errors`` is the direction MSE (anything where not ``extracted``, NaN too)."""
    value = -errors if reward == "neg_mse" else -errors.clamp_min(MSE_FLOOR).log()
    value = torch.where(extracted, value, torch.full_like(value, failed_reward(reward)))
    return value - length_penalty * num_tokens
