"""Greedy generation: the local engine, against ``transformers.generate(inputs_embeds=…)``."""

from __future__ import annotations

from itertools import takewhile
from operator import eq

import torch

from benchmarks import models
from benchmarks.case import Case, Dtype, FolderOf, NotEqualError, Prepared, Workload, autocast
from benchmarks.cases.av_step import full_embeddings
from gloss.engines import LocalEngine
from gloss.models import autocast as gloss_autocast

AGREEMENT = {"float32": 1.0, "bfloat16": 0.6}
"""Share of tokens that must stand before a row's first difference: rounding to bfloat16 turns near
ties around.
"""


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
        agreed = [
            sum(takewhile(bool, map(eq, mine, other)))
            for mine, other in zip(ours(), alternative(), strict=True)
        ]
        share = sum(agreed) / (workload.rows * workload.tokens)
        if share < AGREEMENT[dtype]:
            raise NotEqualError(
                f"greedy tokens: {share:.0%} stand before a difference, expected"
                f" {AGREEMENT[dtype]:.0%}"
            )

    prompt = len(av.prefix_ids) + len(av.tail_ids)
    return Prepared(ours, alternative, check, tokens=workload.rows * (prompt + workload.tokens))


CASE = Case(
    name="generation",
    alternative="transformers.generate(inputs_embeds=…), greedy",
    target={"float32": 1.4, "bfloat16": 1.4},
    prepare=prepare,
    full=Workload(models.ModelShape(), rows=64, tokens=64, prefix=100, batch=64),
    quick=Workload(models.ModelShape(num_blocks=4), rows=16, tokens=24, prefix=100, batch=16),
    tiny=Workload(models.TINY, rows=6, tokens=12, prefix=30, batch=4),
)
