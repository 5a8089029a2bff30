"""Tells one set of weights from another."""

from __future__ import annotations

import hashlib

from torch import nn


def weights_fingerprint(model: nn.Module) -> str:
    """Sixteen hexadecimal digits from the shapes and a few values of every parameter."""
    digest = hashlib.blake2b(digest_size=8)
    for name, parameter in model.named_parameters():
        flat = parameter.detach().reshape(-1)
        sample = flat[:: max(1, len(flat) // 4)][:4].float().cpu().numpy()
        digest.update(f"{name} {tuple(parameter.shape)}".encode() + sample.tobytes())
    return digest.hexdigest()
