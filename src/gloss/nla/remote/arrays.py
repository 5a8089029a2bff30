"""Activations as they travel: base64 of little-endian float32, exact and compact."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gloss.errors import ActivationError


def encode_array(vectors: Tensor) -> dict[str, object]:
    """``activations`` and ``shape`` of vectors [n, d]."""
    rows = vectors.detach().cpu().float().contiguous().numpy().astype("<f4")
    return {
        "activations": base64.b64encode(rows.tobytes()).decode(),
        "shape": [int(n) for n in rows.shape],
    }


def decode_array(data: str, shape: Sequence[int] | None) -> Tensor:
    """Vectors [n, d] from base64.

    Raises: ActivationError if it is not base64 of as many numbers as the shape says.
    """
    if shape is None or len(shape) != 2 or min(shape) < 1:
        raise ActivationError(
            "base64 activations need their shape", expected="[n, d_model]", found=shape
        )
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ActivationError("the activations are not base64", found=str(error)) from error
    if len(raw) != 4 * shape[0] * shape[1]:
        raise ActivationError(
            "activations and shape do not match",
            expected=f"{4 * shape[0] * shape[1]} bytes",
            found=f"{len(raw)}",
        )
    return torch.from_numpy(np.frombuffer(raw, dtype="<f4").astype(np.float32).reshape(*shape))
