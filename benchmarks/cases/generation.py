"""Greedy generation: the local engine, against ``transformers.generate(inputs_embeds=…)``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks import models
from benchmarks.case import (
    Case,
    Dtype,
    FolderOf,
    NotEqualError,
    Prepared,
    Workload,
    autocast,
    require_close,
)
from benchmarks.cases.av_step import full_embeddings
from gloss.engines import DecodingBatch, LocalEngine, RowRequest
from gloss.models import autocast as gloss_autocast

TOLERANCE = 3e-2
"""Difference of bfloat16 logits, of their norm: rounding turns near ties around, so that tokens
cannot be compared.
"""


class _Recording(DecodingBatch):
    """Keeps the logits of every step, [rows, vocabulary]; no row may end before the others."""

    logits: list[Tensor]

    def _draw(self, logits: Tensor) -> Tensor:
        self.logits = [*getattr(self, "logits", []), logits.float()]
        return super()._draw(logits)


def prepare(folder_of: FolderOf, workload: Workload, dtype: Dtype) -> Prepared:
    """``tokens`` new ones for each row, the stop token switched off: equal work, nothing gained by
    rows that end early.
    """
    av = models.verbalizer(folder_of(workload.model), workload.prefix)
    av.stop_id = -1
    activations = models.activations(workload.rows, workload.model.d_model)
    engine = LocalEngine(av, batch_size=workload.batch)

    def ours() -> list[list[int]]:
        with gloss_autocast(dtype):
            rollouts = engine.generate(
                activations, temperature=0.0, max_new_tokens=workload.tokens, seed=0
            )
        return [list(rollout.token_ids) for rollout in rollouts]

    def alternative() -> list[list[int]]:
        rows: list[list[int]] = []
        with torch.inference_mode(), autocast(dtype):
            for first in range(0, workload.rows, workload.batch):
                picked = activations[first : first + workload.batch]
                embedded, _ = full_embeddings(
                    av, picked, torch.empty(len(picked), 0, dtype=torch.long)
                )
                rows += av.model.generate(
                    inputs_embeds=embedded,
                    attention_mask=torch.ones(embedded.shape[:2], dtype=torch.long),
                    max_new_tokens=workload.tokens,
                    min_new_tokens=workload.tokens,
                    do_sample=False,
                    eos_token_id=None,
                    pad_token_id=av.pad_id,
                ).tolist()
        return rows

    def check() -> None:
        if dtype == "float32" and ours() != alternative():
            raise NotEqualError("greedy tokens differ")
        picked = activations[: workload.batch]
        steps, tokens = _logits_of_steps(av, picked, workload.tokens, dtype)
        with torch.inference_mode(), autocast(dtype):
            embedded, prompt = full_embeddings(av, picked, tokens)
            whole = av.model(inputs_embeds=embedded).logits[:, prompt - 1 : -1].float()
        require_close("logits", steps, whole, tolerance=TOLERANCE)

    prompt = len(av.prefix_ids) + len(av.tail_ids)
    return Prepared(ours, alternative, check, tokens=workload.rows * (prompt + workload.tokens))


def _logits_of_steps(
    av: Any, activations: Tensor, length: int, dtype: Dtype
) -> tuple[Tensor, Tensor]:
    """Logits [rows, tokens, vocabulary] of the decode loop's steps, and the greedy tokens."""
    batch = _Recording(av, max_rows=len(activations))
    for key, activation in enumerate(activations):
        batch.add(key, RowRequest(activation, 0.0, length, 0))
    with gloss_autocast(dtype):
        while batch.num_rows:
            batch.step()
    logits = torch.stack(batch.logits, dim=1)
    return logits, logits.argmax(dim=-1)


CASE = Case(
    name="generation",
    alternative="transformers.generate(inputs_embeds=…), greedy",
    target={"float32": 1.4, "bfloat16": 1.4},
    prepare=prepare,
    full=Workload(models.ModelShape(), rows=64, tokens=64, prefix=100, batch=64),
    quick=Workload(models.ModelShape(num_blocks=4), rows=16, tokens=24, prefix=100, batch=16),
    tiny=Workload(models.TINY, rows=6, tokens=12, prefix=30, batch=4),
)
