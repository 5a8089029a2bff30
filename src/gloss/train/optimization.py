"""One optimizer step for every loop: schedule, clipping and the guard against NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gloss.errors import TrainingError
from gloss.train.config import OptimizerConfig

NAMED_ROWS = 8


def learning_rate(config: OptimizerConfig, step: int, total_steps: int) -> float:
    """Rate of ``step`` (0-based): linear warm-up, then cosine to the final fraction."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps)
    floor = config.final_lr_fraction
    return config.lr * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


class GuardedOptimizer:
    """AdamW, or Muon for the blocks' matrices; counts and skips steps that are not finite."""

    def __init__(self, module: nn.Module, config: OptimizerConfig, total_steps: int) -> None:
        self.config, self.total_steps, self.skipped = config, total_steps, 0
        self.parameters = [
            parameter for parameter in module.parameters() if parameter.requires_grad
        ]
        blocks = _block_matrices(module) if config.algorithm == "muon" else set()
        matrices = [p for p in self.parameters if p in blocks]
        others = [p for p in self.parameters if p not in blocks]
        decay = config.weight_decay
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                others, lr=config.lr, betas=(0.9, config.beta2), weight_decay=decay, fused=True
            )
        ]
        if matrices:
            self._parts.append(
                torch.optim.Muon(
                    matrices, lr=config.lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw"
                )
            )

    def step(self, step: int, *, loss: float = 0.0, rows: Sequence[int] = ()) -> float:
        """Applies and clears the gradients as step ``step``; returns their norm before clipping.

        Raises: TrainingError after too many skipped steps, naming ``rows`` of the dataset."""
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm))
        if math.isfinite(norm) and math.isfinite(loss):
            for part in self._parts:
                for group in part.param_groups:
                    group["lr"] = learning_rate(self.config, step, self.total_steps)
                part.step()
        else:
            self._skip(step, "loss" if not math.isfinite(loss) else "gradient", rows)
        for parameter in self.parameters:
            parameter.grad = None
        return norm

    def _skip(self, step: int, what: str, rows: Sequence[int]) -> None:
        self.skipped += 1
        if self.skipped > self.config.max_skipped_steps:
            named = ", ".join(str(int(row)) for row in rows[:NAMED_ROWS]) + (
                " …" if len(rows) > NAMED_ROWS else ""
            )
            raise TrainingError(
                f"{self.skipped} steps were skipped for a loss or gradient that is not finite, the"
                f" last at step {step}",
                expected=f"at most {self.config.max_skipped_steps}",
                found=f"a {what} of NaN or infinity"
                + (f" on dataset rows {named}" if named else ""),
                remedy="Lower the learning rate or look at these rows",
            )

    def moments(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """The optimizer's state of one parameter, by name; empty before its first step."""
        return {
            name: value
            for part in self._parts
            for name, value in part.state.get(parameter, {}).items()
        }

    def restore(self, parameter: nn.Parameter, moments: dict[str, Tensor]) -> None:
        """Puts a saved state of one parameter back."""
        for part in self._parts:
            if any(parameter is owned for group in part.param_groups for owned in group["params"]):
                part.state[parameter] = {
                    name: moment.to(parameter.device) for name, moment in moments.items()
                }


def _block_matrices(module: nn.Module) -> set[Tensor]:
    return {
        layer.weight
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and ".layers." in f".{name}."
    }
