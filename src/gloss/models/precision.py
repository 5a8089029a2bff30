"""Which number format matrix products run in; weights, gradients and optimizer stay in the checkpoint's own format."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import torch

ComputeDtype = Literal["auto", "float32", "bfloat16"]


def has_fast_bfloat16(device: str = "cpu") -> bool:
    """Whether the device multiplies bfloat16 matrices natively."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def autocast(compute_dtype: ComputeDtype, device: str = "cpu") -> AbstractContextManager[object]:
    """Runs matrix products in bfloat16 while active, if asked for, or if ``auto`` and the device has them natively."""
    enabled = compute_dtype == "bfloat16" or (compute_dtype == "auto" and has_fast_bfloat16(device))
    return torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=enabled)
