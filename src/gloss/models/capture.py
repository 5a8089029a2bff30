"""Runs the target over encoded documents: activations at chosen positions, and no more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

Vectors = np.ndarray[Any, np.dtype[np.float32]]

if TYPE_CHECKING:
    from torch import Tensor

    from gloss.target_model import Target


@dataclass(frozen=True)
class ReadJob:
    """What to read of one document: token ids up to the last of ``positions``, all of which lie
    within.

    ``comparable`` are the indices whose norms say what is usual in this document.
    """

    ids: np.ndarray[Any, np.dtype[np.int64]]
    positions: Sequence[int]
    comparable: np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Reading:
    """Of one document: raw activations [positions, d_model], median norm, top next token ids."""

    vectors: Vectors
    median_norm: float
    next_ids: list[list[int]]


def read_all(
    target: Target,
    layer: int,
    jobs: Sequence[ReadJob],
    *,
    batch_tokens: int,
    batch_size: int,
    top_next_tokens: int = 0,
) -> Iterator[tuple[int, Reading]]:
    """Yields (index of the job, its reading), shortest first, in right-padded batches."""
    from gloss.models import fitted_chunks

    lengths = [len(job.ids) for job in jobs]
    for batch in fitted_chunks(lengths, batch_size, max_tokens=batch_tokens):
        yield from zip(
            batch,
            _read_batch(target, layer, [jobs[i] for i in batch], top_next_tokens),
            strict=True,
        )


def _read_batch(
    target: Target, layer: int, jobs: Sequence[ReadJob], top_next_tokens: int
) -> list[Reading]:
    import torch

    device = target.model.device
    width = max(len(job.ids) for job in jobs)
    ids = torch.zeros(len(jobs), width, dtype=torch.long)
    for row, job in enumerate(jobs):
        ids[row, : len(job.ids)] = torch.from_numpy(job.ids)
    rows = torch.tensor([row for row, job in enumerate(jobs) for _ in job.positions], device=device)
    columns = torch.tensor([position for job in jobs for position in job.positions], device=device)
    with torch.inference_mode():
        hidden, next_ids = _forward(target, layer, ids.to(device), rows, columns, top_next_tokens)
        norms = hidden.float().norm(dim=-1).cpu().numpy()
        vectors = hidden[rows, columns].float().cpu().numpy()
    readings, first = [], 0
    for row, job in enumerate(jobs):
        last = first + len(job.positions)
        median = (
            float(np.median(norms[row, job.comparable])) if len(job.comparable) else float("nan")
        )
        readings.append(Reading(vectors[first:last], median, next_ids[first:last]))
        first = last
    return readings


def _forward(
    target: Target, layer: int, ids: Tensor, rows: Tensor, columns: Tensor, top_next_tokens: int
) -> tuple[Tensor, list[list[int]]]:
    """Activations [batch, tokens, d_model] and top next token ids at (row, column); only those need
    the whole model.

    No padding mask is needed: attention is causal, the padding stands on the right and is never
    read."""
    from gloss.target_model import backbone_of, capture_activations, edit_residual, output_logits

    if top_next_tokens == 0:
        return capture_activations(target.model, ids, None, layer), [[] for _ in range(len(rows))]
    captured: list[Tensor] = []

    def keep(hidden: Tensor) -> Tensor:
        captured.append(hidden)
        return hidden

    with edit_residual(target.model, layer, keep):
        final = backbone_of(target.model)(input_ids=ids, use_cache=False).last_hidden_state
    logits = output_logits(target.model, final[rows, columns])
    return captured[0], logits.float().topk(top_next_tokens, dim=-1).indices.tolist()
