"""Which number format matrix products run in; weights and optimizer stay in their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn

ComputeDtype = Literal["auto", "float32", "bfloat16"]


def has_fast_bfloat16(device: str = "cpu") -> bool:
    """Whether the device multiplies bfloat16 matrices natively."""
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def autocast(compute_dtype: ComputeDtype, device: str = "cpu") -> AbstractContextManager[object]:
    """Runs matrix products in bfloat16 while active, if asked for, or if ``auto`` and the device
    has them natively."""
    import torch

    enabled = compute_dtype == "bfloat16" or (compute_dtype == "auto" and has_fast_bfloat16(device))
    return torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=enabled)


@contextmanager
def linear_weights_cast_once(module: nn.Module) -> Iterator[None]:
    """While active under autocast, linear layers hold their weights in its format; it would cast
    them at every call otherwise.

    For passes without gradients. Weights that another kind of layer shares (tied embeddings) stay
    as they are. Without autocast nothing happens."""
    import torch
    from torch import nn

    device = next(module.parameters()).device.type
    if not torch.is_autocast_enabled(device):
        yield
        return
    dtype = torch.get_autocast_dtype(device)
    linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    shared = {
        id(parameter)
        for layer in module.modules()
        if not isinstance(layer, nn.Linear)
        for parameter in layer.parameters(recurse=False)
    }
    replaced = []
    try:
        for layer in linear:
            for name, parameter in list(layer.named_parameters(recurse=False)):
                if id(parameter) not in shared and parameter.dtype == torch.float32:
                    replaced.append((layer, name, parameter))
                    layer._parameters[name] = nn.Parameter(
                        parameter.detach().to(dtype), requires_grad=False
                    )
        yield
    finally:
        for layer, name, parameter in replaced:
            layer._parameters[name] = parameter
