"""Compute a prompt's shared beginning once and run only what differs behind it.

Every prompt of an AV (and of an AR) begins with the same tokens. Their keys and values are computed
once with batch 1 and expanded; gradients flow through them and equal those of the full computation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gloss.target_model import check_positions

CHUNK_TOKENS = 256
"""What one more forward pass costs, in tokens: small matrix products run slower."""


class SharedPrefix:
    """Keys and values of ``token_ids`` under ``backbone``, computed once; usable for batches of any
    size.

    Sliding-window blocks keep every key too (the mask knows the window): a cache cut to the window
    forgets its positions when it is expanded."""

    def __init__(self, backbone: Any, token_ids: Sequence[int]) -> None:
        from transformers import DynamicCache

        self.num_tokens = len(token_ids)
        self.keys_values: list[tuple[Tensor, Tensor]] = []
        if token_ids:
            cache: Any = DynamicCache()
            check_positions(backbone, self.num_tokens)
            ids = torch.tensor([list(token_ids)], device=backbone.device)
            backbone(input_ids=ids, past_key_values=cache, use_cache=True)
            self.keys_values = [(layer.keys, layer.values) for layer in cache.layers]

    def expand(self, batch: int) -> Any:
        """A fresh Transformers cache that holds the prefix for ``batch`` rows without a copy."""
        from transformers import DynamicCache

        cache: Any = DynamicCache()
        for index, (keys, values) in enumerate(self.keys_values):
            cache.update(keys[:, :, :0], values[:, :, :0], index)
            cache.layers[index].keys = keys.expand(batch, -1, -1, -1)
            cache.layers[index].values = values.expand(batch, -1, -1, -1)
        return cache


class GatheringPrefix(SharedPrefix):
    """A prefix for several backward passes, whose gradients gather in it until ``pass_on``."""

    def __init__(self, backbone: Any, token_ids: Sequence[int]) -> None:
        super().__init__(backbone, token_ids)
        self._computed = [state for pair in self.keys_values for state in pair]
        self._leaves = [
            state.detach().float().requires_grad_(state.requires_grad) for state in self._computed
        ]
        read = [
            leaf.to(state.dtype) for leaf, state in zip(self._leaves, self._computed, strict=True)
        ]
        self.keys_values = list(zip(read[::2], read[1::2], strict=True))

    def pass_on(self) -> None:
        """Sends the gathered gradients through the prefix to the backbone's parameters; call it
        once, at the end."""
        reached = [
            (state, leaf.grad.to(state.dtype))
            for state, leaf in zip(self._computed, self._leaves, strict=True)
            if leaf.grad is not None
        ]
        if reached:
            torch.autograd.backward([state for state, _ in reached], [grad for _, grad in reached])


def hidden_after_prefix(backbone: Any, prefix: SharedPrefix, embeddings: Tensor) -> Tensor:
    """Last hidden states of right-padded rows that follow the prefix; [n, tokens, d] → [n, tokens,
    d].

    No padding mask is needed: attention is causal and the padding stands behind every real token.
    """
    tokens = embeddings.shape[1]
    check_positions(backbone, prefix.num_tokens + tokens)
    positions = torch.arange(
        prefix.num_tokens, prefix.num_tokens + tokens, device=embeddings.device
    )
    output = backbone(
        inputs_embeds=embeddings,
        position_ids=positions.unsqueeze(0),
        past_key_values=prefix.expand(len(embeddings)) if prefix.num_tokens else None,
        use_cache=prefix.num_tokens > 0,
    )
    hidden: Tensor = output.last_hidden_state
    return hidden


def right_pad(
    rows: Sequence[Sequence[int]], pad_id: int, device: Any = None
) -> tuple[Tensor, Tensor]:
    """Rows of token ids right-padded: ids [n, tokens] and a bool mask of the real ones."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *([pad_id] * (width - len(row)))] for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return ids, torch.arange(width, device=device).unsqueeze(0) < lengths.unsqueeze(1)


def common_prefix_length(rows: Sequence[Sequence[int]]) -> int:
    """How many first tokens all rows share, leaving at least one token of every row behind it."""
    ordered = sorted(list(row) for row in rows)
    first, last = ordered[0], ordered[-1]
    limit = min(len(row) for row in rows) - 1
    return next((i for i in range(limit) if first[i] != last[i]), limit)


def length_chunks(lengths: Sequence[int], max_rows: int) -> list[list[int]]:
    """Row indices sorted by length, in chunks of at most ``max_rows``: little is padding."""
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    return [order[start : start + max_rows] for start in range(0, len(order), max_rows)]


def fitted_chunks(
    lengths: Sequence[int], max_rows: int, *, max_tokens: int | None = None
) -> list[list[int]]:
    """Row indices sorted by length and cut where it costs least: padding on one side, the cost of a
    chunk on the other.

    A chunk costs its padded tokens and CHUNK_TOKENS more; the cuts are the best of all. At most
    ``max_rows`` rows and, unless one row alone is longer, ``max_tokens`` padded tokens stand in a
    chunk."""
    order = np.argsort(np.asarray(lengths, dtype=np.int64), kind="stable")
    widths = np.asarray(lengths, dtype=np.float64)[order]
    best, cut_at = np.zeros(len(order) + 1), np.zeros(len(order) + 1, dtype=np.int64)
    for end in range(1, len(order) + 1):
        rows = (
            max_rows
            if max_tokens is None
            else min(max_rows, max(1, int(max_tokens // max(widths[end - 1], 1))))
        )
        starts = np.arange(max(0, end - rows), end)
        costs = best[starts] + (end - starts) * widths[end - 1] + CHUNK_TOKENS
        chosen = int(costs.argmin())
        best[end], cut_at[end] = costs[chosen], starts[chosen]
    chunks, end = [], len(order)
    while end:
        chunks.append(order[cut_at[end] : end].tolist())
        end = int(cut_at[end])
    return chunks[::-1]
