"""One optimizer step, the same for every loop: schedule, clipping and the guard against non-finite gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from gloss.errors import TrainingError
from gloss.train.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, step: int, total_steps: int) -> float:
    """Rate of ``step`` (0-based): linear warm-up, then cosine to the final fraction."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps)
    floor = config.final_lr_fraction
    return config.lr * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


class GuardedOptimizer:
    """AdamW that skips and counts steps whose gradient norm is not finite.

    ``skipped`` counts them; more than ``max_skipped_steps`` raise TrainingError.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], config: OptimizerConfig, total_steps: int) -> None:
        self.config, self.total_steps, self.skipped = config, total_steps, 0
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.adamw = torch.optim.AdamW(
            self.parameters, lr=config.lr, betas=(0.9, config.beta2), weight_decay=config.weight_decay, fused=True
        )

    def step(self, step: int) -> float:
        """Applies the accumulated gradients as step ``step`` and clears them; returns the gradient norm before clipping.

        Raises: TrainingError after too many non-finite gradients.
        """
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm))
        if math.isfinite(norm):
            for group in self.adamw.param_groups:
                group["lr"] = learning_rate(self.config, step, self.total_steps)
            self.adamw.step()
        else:
            self.skipped += 1
            if self.skipped > self.config.max_skipped_steps:
                raise TrainingError(
                    f"{self.skipped} steps had a non-finite gradient, the last at step {step}",
                    expected=f"at most {self.config.max_skipped_steps}",
                    remedy="Lower the learning rate or check the activations of this batch",
                )
        self.adamw.zero_grad(set_to_none=True)
        return norm
