"""The reward of an explanation: how well the live AR rebuilds the activation from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from gloss.contract import Explanation
from gloss.engines import Rollout
from gloss.models import ORTHOGONAL_MSE, ActivationReconstructor, direction_mse

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


def rebuilt(
    ar: ActivationReconstructor, rollouts: Sequence[Rollout], activations: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The AR's vectors [n, d_model], their direction MSE [n], and which rollouts were extracted.

    The others have a vector of zeros and the direction MSE of an orthogonal one."""
    explanations = [rollout.explanation for rollout in rollouts]
    texts = [each.text for each in explanations if isinstance(each, Explanation)]
    extracted = torch.tensor([isinstance(each, Explanation) for each in explanations])
    vectors = torch.zeros_like(activations, dtype=torch.float32)
    errors = torch.full((len(rollouts),), ORTHOGONAL_MSE)
    if texts:
        vectors[extracted] = ar.reconstruct(texts)
        errors[extracted] = direction_mse(vectors[extracted], activations[extracted])
    return vectors, errors, extracted
