"""Which attention kernel short passes run with on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

SHORT_ROW = 160
"""Rows of at most so many tokens are short; measured in docs/decisions/0009-speed.md."""


@contextmanager
def kernel_for_short_rows(backbone: Any, num_tokens: int) -> Iterator[bool]:
    """While active, short rows of ``num_tokens`` run with the eager attention, where that is
    faster; yields whether it is used.

    PyTorch's fused kernel, the default, takes 1.3 to 2.3 times as long on them in bfloat16 on a
    CPU, and is faster everywhere else. Results differ by rounding. Another kernel that was asked
    for stays, and so does every kernel where gradients are on."""
    config = backbone.config
    if not (
        config._attn_implementation == "sdpa"
        and num_tokens <= SHORT_ROW
        and backbone.dtype == torch.bfloat16
        and backbone.device.type == "cpu"
        and not torch.is_grad_enabled()
    ):
        yield False
        return
    config._attn_implementation = "eager"
    try:
        yield True
    finally:
        config._attn_implementation = "sdpa"
