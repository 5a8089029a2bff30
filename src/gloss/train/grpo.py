"""Group-relative policy optimisation, for one update per batch: pure functions from numbers to
losses.

Every rollout batch is used for exactly one gradient step, so the importance ratio is 1 and needs
neither old log-probabilities nor clipping; its gradient is that of A · log p.
Source: GRPO, arXiv 2402.03300; the k3 estimator, joschu.net/blog/kl-approx.html.
"""

from __future__ import annotations

import torch
from torch import Tensor


def group_advantages(rewards: Tensor, *, normalize: bool) -> Tensor:
    """Rewards minus their group's mean, over its deviation if ``normalize``; [prompts, group]."""
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / (rewards.std(dim=1, keepdim=True) + 1e-4) if normalize else centred


def k3_divergence(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Unbiased, non-negative estimate of KL(policy ‖ reference) per sampled token; [tokens]."""
    log_ratio = reference_logprobs - logprobs
    return log_ratio.exp() - log_ratio - 1


def policy_loss(
    logprobs: Tensor, reference_logprobs: Tensor, advantages: Tensor, *, kl_weight: float
) -> Tensor:
    """GRPO loss per token; its gradient at ratio 1 is −A ∇log p + β ∇k3; [tokens] → [tokens]."""
    ratio = torch.exp(logprobs - logprobs.detach())
    return -advantages * ratio + kl_weight * k3_divergence(logprobs, reference_logprobs)
