"""The geometry of activations: one definition each of normalisation, direction MSE and FVE."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gloss.errors import ActivationError

ORTHOGONAL_MSE = 2.0
"""Direction MSE of two orthogonal vectors; what a failed explanation is charged."""


def scale_to_norm(vectors: Tensor, norm: float) -> Tensor:
    """Rows of ``vectors`` rescaled to the L2 norm ``norm``, in float32; [..., d] → [..., d].

    Each row is first divided by its largest absolute entry, so that tiny and huge rows neither
    vanish nor overflow.
    Raises: ActivationError if a row is zero or not finite.
    """
    rows = vectors.float()
    largest = rows.detach().abs().amax(dim=-1, keepdim=True)
    if not bool(((largest > 0) & torch.isfinite(largest)).all()):
        bad = (~((largest > 0) & torch.isfinite(largest))).flatten().nonzero()[0].item()
        raise ActivationError(
            f"activation row {bad} has no direction",
            expected="finite and not zero",
            found="zero, NaN or infinity",
        )
    rows = rows / largest
    scaled: Tensor = rows * (norm / rows.norm(dim=-1, keepdim=True))
    return scaled


def unit_rms(vectors: Tensor) -> Tensor:
    """Rows at norm √d, the scale at which directions are compared; [..., d] → [..., d].

    Raises: ActivationError if a row is zero or not finite.
    """
    return scale_to_norm(vectors, vectors.shape[-1] ** 0.5)


def direction_mse(predicted: Tensor, target: Tensor) -> Tensor:
    """Squared distance between directions, 2(1 − cos), in [0, 4]; [..., d] and [..., d] → [...].

    Raises: ActivationError if the shapes differ or a row is zero or not finite.
    Source: NLA paper, Method.
    """
    if predicted.shape != target.shape:
        raise ActivationError(
            "predicted and target activations differ in shape",
            expected=tuple(target.shape),
            found=tuple(predicted.shape),
        )
    return (unit_rms(predicted) - unit_rms(target)).square().mean(dim=-1)


def direction_variance(targets: Tensor) -> float:
    """Mean of ‖v̂ − mean(v̂)‖² per element, v̂ at norm √d: the error of predicting the mean; [n, d]
    → scalar.

    Raises: ActivationError if there are fewer than two rows or a row is zero or not finite.
    """
    if targets.ndim != 2 or len(targets) < 2:
        raise ActivationError(
            "variance needs several activations", expected="[n ≥ 2, d]", found=tuple(targets.shape)
        )
    directions = unit_rms(targets).double()
    return float((directions - directions.mean(dim=0)).square().mean())


def mean_direction(targets: Tensor) -> Tensor:
    """Mean of the directions at norm √d: what FVE 0 always predicts; [n, d] → [d] float32.

    Raises: ActivationError if a row is zero or not finite.
    """
    return unit_rms(targets).double().mean(dim=0).float()


def fraction_of_variance_explained(errors: Tensor, variance: float) -> float:
    """FVE = 1 − mean direction MSE / variance; 0 = predicting the mean, 1 = perfect; [n] → scalar.

    Raises: ActivationError if the variance is not positive.
    """
    if not variance > 0:
        raise ActivationError(
            "the activations do not vary", expected="variance > 0", found=variance
        )
    return 1.0 - float(errors.double().mean()) / variance


def steering_offset(activation: Tensor, direction: Tensor, alpha: float) -> Tensor:
    """α‖h‖ Δ/‖Δ‖: what moves an activation h along a direction Δ; [d] and [d] → [d].

    Raises: ActivationError if the direction is zero or not finite, as when an edit changes nothing.
    Source: NLA paper, steering.
    """
    norm = float(direction.norm())
    if not norm > 0 or not bool(torch.isfinite(direction).all()):
        raise ActivationError(
            "there is no direction to steer along",
            expected="an edit that changes the reconstruction",
            found="no change",
        )
    offset: Tensor = alpha * activation.norm() * direction / norm
    return offset


def cosine(errors: Any) -> Any:
    """Cosine similarity of a direction MSE: 1 − MSE / 2."""
    return 1 - errors / 2
