"""Steering: change the residual stream at one token and layer, and let the target model go on from
there.

h ← h + α‖h‖ Δ/‖Δ‖ with Δ = AR(edited) − AR(original). Source: NLA paper, steering.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gloss.errors import ActivationError, PositionError
from gloss.target_model import Target, edit_residual


def steering_offset(activation: Tensor, direction: Tensor, alpha: float) -> Tensor:
    """α‖h‖ Δ/‖Δ‖; [d] and [d] → [d].

    Raises: ActivationError if the direction is zero or not finite, as when an edit changes nothing.
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


@dataclass(frozen=True)
class SteeredRun:
    """How the target goes on under one edit: new token ids, cut at the stop token, and
    probabilities [vocabulary] of the first.
    """

    token_ids: list[int]
    next_probabilities: Tensor


def steered_continuations(
    target: Target,
    input_ids: Sequence[int],
    *,
    layer: int,
    position: int,
    offsets: Tensor,
    max_new_tokens: int,
) -> list[list[int]]:
    """Greedy continuations of one text, each with another offset added at ``position`` and block
    ``layer``.

    Shapes: offsets [n, d_model]; a row of zeros gives the unchanged model. Returns n lists of new
    token ids, cut at the stop token.
    Raises: PositionError if the text has no such token.
    """
    runs = steered_runs(
        target,
        input_ids,
        layer=layer,
        positions=[position],
        offsets=offsets.unsqueeze(1),
        max_new_tokens=max_new_tokens,
    )
    return [run.token_ids for run in runs]


@torch.inference_mode()
def steered_runs(
    target: Target,
    input_ids: Sequence[int],
    *,
    layer: int,
    positions: Sequence[int],
    offsets: Tensor,
    max_new_tokens: int,
) -> list[SteeredRun]:
    """As ``steered_continuations``, with an offset of its own at each of several positions; offsets
    [n, positions, d_model].
    """
    from transformers import DynamicCache

    for position in positions:
        if not 0 <= position < len(input_ids):
            raise PositionError(
                "no such token", expected=f"position 0 to {len(input_ids) - 1}", found=position
            )
    model: Any = target.model
    ids = torch.tensor([list(input_ids)], device=model.device).expand(len(offsets), -1)

    def add(hidden: Tensor) -> Tensor:
        edited = hidden.clone()
        edited[:, list(positions)] += offsets.to(hidden)
        return edited

    cache = DynamicCache(config=model.config)
    with edit_residual(model, layer, add):
        logits = model(
            input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1
        ).logits[:, -1]
    probabilities = logits.float().softmax(dim=-1).cpu()
    steps = [logits.argmax(dim=-1)]
    for _ in range(max_new_tokens - 1):
        logits = model(
            input_ids=steps[-1].unsqueeze(1), past_key_values=cache, use_cache=True
        ).logits[:, -1]
        steps.append(logits.argmax(dim=-1))
    stop = target.tokenizer.eos_token_id
    rows = torch.stack(steps, dim=1).tolist()
    cut = [row[: row.index(stop)] if stop in row else row for row in rows]
    return [SteeredRun(row, probabilities[i]) for i, row in enumerate(cut)]
