"""One optimizer step for every loop: schedule, clipping and the guard against NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

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
        self._module, self.config, self.total_steps, self.skipped = module, config, total_steps, 0
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        blocks = _block_matrices(module) if config.algorithm == "muon" else set()
        matrices = [p for p in self.parameters if p in blocks]
        others = [p for p in self.parameters if p not in blocks]
        shared: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
        betas = (0.9, config.beta2)
        adamw = torch.optim.AdamW(others, betas=betas, fused=True, **shared)
        self._parts: list[torch.optim.Optimizer] = [adamw]
        if matrices:
            muon = torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw", **shared)
            self._parts.append(muon)

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
            named = ", ".join(map(str, rows[:NAMED_ROWS])) + " …" * (len(rows) > NAMED_ROWS)
            place = f" on dataset rows {named}" if named else ""
            raise TrainingError(
                f"{self.skipped} steps were skipped for a loss or gradient that is not finite, the"
                f" last at step {step}",
                expected=f"at most {self.config.max_skipped_steps}",
                found=f"a {what} of NaN or infinity{place}",
                remedy="Lower the learning rate or look at these rows",
            )

    def check_learned(self) -> None:
        """Raises TrainingError if nothing was learned that could be saved: no step was taken, or a
        weight is NaN or infinite."""
        remedy = "Lower the learning rate or look at the data"
        if self.skipped >= self.total_steps:
            raise TrainingError(
                "nothing was learned",
                expected="at least one step",
                found=f"all {self.total_steps} skipped for a loss or gradient that is not finite",
                remedy=remedy,
            )
        for name, parameter in self._module.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                raise TrainingError(
                    f"training ended with weights that cannot be used: {name}",
                    expected="finite values",
                    found="NaN or infinity",
                    remedy=remedy,
                )

    def moments(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """The optimizer's state of one parameter, by name; empty before its first step."""
        states = (part.state.get(parameter, {}) for part in self._parts)
        return {name: value for state in states for name, value in state.items()}

    def restore(self, parameter: nn.Parameter, moments: dict[str, Tensor]) -> None:
        """Puts a saved state of one parameter back."""
        for part in self._parts:
            if any(parameter is owned for group in part.param_groups for owned in group["params"]):
                placed = {name: moment.to(parameter.device) for name, moment in moments.items()}
                part.state[parameter] = placed


def _block_matrices(module: nn.Module) -> set[Tensor]:
    return {
        layer.weight
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and ".layers." in f".{name}."
    }
