"""What a benchmark case is: two ways to the same result, a check that it is the same, and the work
that it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from benchmarks.models import ModelShape

Dtype = Literal["float32", "bfloat16"]
FolderOf = Callable[[ModelShape], Path]


class NotEqualError(Exception):
    """The two sides of a case do not give the same result, so their times say nothing."""


@dataclass(frozen=True)
class Workload:
    """How much a case does.

    ``rows`` are activations, explanations or documents; ``tokens`` stand in each of them (in the
    longest, where lengths are mixed), behind ``prefix`` tokens that all share; at most ``batch``
    rows run side by side."""

    model: ModelShape
    rows: int
    tokens: int
    prefix: int = 0
    batch: int = 64


@dataclass(frozen=True)
class Prepared:
    """Both sides of a case, ready to run again and again.

    ``check`` raises NotEqualError unless they agree; ``tokens`` are the real tokens (no padding,
    each row's prompt counted) that one run of either side deals with."""

    ours: Callable[[], object]
    alternative: Callable[[], object]
    check: Callable[[], None]
    tokens: int

    def side(self, name: str) -> Callable[[], object]:
        """The function of ``ours`` or ``alternative``."""
        return {"ours": self.ours, "alternative": self.alternative}[name]


@dataclass(frozen=True)
class Case:
    """One comparison. ``target`` is the least ratio alternative / ours that Gloss promises, for the
    dtypes that it is run in.

    ``memory_target`` is the same for the peak memory above what the process held before.
    ``alternative`` says in words what Gloss is compared with; ``growth`` names the Workload fields
    that plots vary."""

    name: str
    alternative: str
    target: Mapping[Dtype, float]
    prepare: Callable[[FolderOf, Workload, Dtype], Prepared]
    full: Workload
    quick: Workload
    tiny: Workload
    growth: tuple[str, ...] = ("tokens", "batch", "rows")
    memory_target: float | None = None


def autocast(dtype: Dtype) -> AbstractContextManager[object]:
    """PyTorch's own mixed precision, for the plain side of a training case."""
    return torch.autocast("cpu", dtype=torch.bfloat16) if dtype == "bfloat16" else nullcontext()


def require_close(what: str, ours: Tensor, other: Tensor, *, tolerance: float) -> None:
    """Raises NotEqualError if the tensors differ by more than ``tolerance`` of the other's norm."""
    if ours.shape != other.shape:
        raise NotEqualError(f"{what}: shapes {tuple(ours.shape)} and {tuple(other.shape)}")
    difference = float(
        (ours.double() - other.double()).norm() / other.double().norm().clamp_min(1e-30)
    )
    if not difference <= tolerance:
        raise NotEqualError(
            f"{what} differ by {difference:.1e} of their norm, allowed {tolerance:.0e}"
        )


def gradients_of(module: torch.nn.Module) -> Tensor:
    """All gradients of a module in one vector; clears them."""
    parts = [
        p.grad.flatten() if p.grad is not None else torch.zeros(p.numel())
        for p in module.parameters()
    ]
    for parameter in module.parameters():
        parameter.grad = None
    return torch.cat(parts)
