"""AV training step: the prompt's shared beginning once per step, against every sequence in full."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks import models
from benchmarks.case import (
    Case,
    Dtype,
    FolderOf,
    Prepared,
    Workload,
    autocast,
    gradients_of,
    require_close,
)
from gloss.models import ActivationVerbalizer
from gloss.models import autocast as gloss_autocast
from gloss.models.injection import inject
from gloss.train import OptimizerConfig
from gloss.train.optimization import GuardedOptimizer
from gloss.train.sft import av_sft_loss

TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}


def full_embeddings(
    av: ActivationVerbalizer, activations: Tensor, responses: Tensor
) -> tuple[Tensor, int]:
    """Embeddings of whole sequences, prompt with injected activation and response; and the prompt's
    length.
    """
    prompt = torch.tensor([*av.prefix_ids, *av.tail_ids]).expand(len(activations), -1)
    embedded = inject(
        av.embedding(prompt),
        prompt,
        activations,
        marker=av.marker,
        injection_scale=av.sidecar.injection_scale,
    )
    return torch.cat([embedded, av.embedding(responses)], dim=1), prompt.shape[1]


def prepare(folder_of: FolderOf, workload: Workload, dtype: Dtype) -> Prepared:
    """``tokens`` of tail and response behind ``prefix`` shared ones; optimizer step included on
    both sides.
    """
    av = models.verbalizer(folder_of(workload.model), workload.prefix, models.TRAINING_ATTENTION)
    av.model.requires_grad_(True).train()
    optimizer = GuardedOptimizer(av.model, OptimizerConfig(lr=1e-6), total_steps=1000)
    length = workload.tokens - len(av.tail_ids)
    drawn = torch.randint(
        10, 900, (workload.rows, length), generator=torch.Generator().manual_seed(2)
    )
    activations = models.activations(workload.rows, workload.model.d_model)

    def ours() -> None:
        with gloss_autocast(dtype):
            for first in range(0, workload.rows, workload.batch):
                rows = slice(first, first + workload.batch)
                av_sft_loss(av, activations[rows], drawn[rows].tolist(), drawn.numel()).backward()

    def alternative() -> None:
        with autocast(dtype):
            for first in range(0, workload.rows, workload.batch):
                rows = slice(first, first + workload.batch)
                embedded, start = full_embeddings(av, activations[rows], drawn[rows])
                logits = av.model(
                    inputs_embeds=embedded, logits_to_keep=length + 1, use_cache=False
                ).logits[:, :-1]
                assert start + length == embedded.shape[1]
                loss = nn.functional.cross_entropy(
                    logits.float().flatten(0, 1), drawn[rows].flatten(), reduction="sum"
                )
                (loss / drawn.numel()).backward()

    def check() -> None:
        ours()
        mine = gradients_of(av.model)
        alternative()
        require_close("gradients", mine, gradients_of(av.model), tolerance=TOLERANCE[dtype])

    return Prepared(
        ours=lambda: (ours(), optimizer.step(0)),
        alternative=lambda: (alternative(), optimizer.step(0)),
        check=check,
        tokens=workload.rows * (workload.prefix + workload.tokens),
    )


CASE = Case(
    name="av-step",
    alternative="full sequences, logits at response positions only",
    target={"float32": 1.35, "bfloat16": 1.35},
    prepare=prepare,
    full=Workload(models.ModelShape(), rows=16, tokens=147, prefix=100, batch=16),
    quick=Workload(models.ModelShape(num_blocks=4), rows=8, tokens=147, prefix=100, batch=8),
    tiny=Workload(models.TINY, rows=5, tokens=20, prefix=30, batch=5),
)
