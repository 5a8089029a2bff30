"""Joint RL step on given rollouts: policy, reference, reward and AR step, against a plain
implementation on full sequences.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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
from benchmarks.cases.av_step import full_embeddings
from gloss.contract import wrap_explanation
from gloss.engines import Rollout
from gloss.models import direction_mse, right_pad
from gloss.train import JointConfig, OptimizerConfig
from gloss.train.grpo import group_advantages, policy_loss
from gloss.train.joint_step import Learner, joint_step

GROUP = 8
TOLERANCE = {"float32": 2e-4, "bfloat16": 5e-2}


@dataclass
class _KeepGradients:
    """Stands in for an optimizer: keeps the gradients it is given."""

    module: nn.Module
    skipped: int = 0
    kept: Tensor = field(default_factory=lambda: torch.empty(0))

    def step(self, _step: int, **_: object) -> float:
        """Takes the gradients away."""
        self.kept = gradients_of(self.module)
        return 0.0


@dataclass(frozen=True)
class _GivenRollouts:
    """An engine that returns what was written before: generation is another case."""

    rollouts: list[Rollout]

    def generate(self, _activations: Tensor, **_settings: Any) -> list[Rollout]:
        """The rollouts, whatever is asked."""
        return self.rollouts


def prepare(folder_of: FolderOf, workload: Workload, dtype: Dtype) -> Prepared:
    """``rows`` prompts with 8 responses each, up to ``tokens`` long; optimizer steps included on
    both sides.
    """
    learner = _learner(folder_of, workload, dtype)
    av = learner.av
    lengths = models.mixed_lengths(workload.rows * GROUP, workload.tokens - 8, workload.tokens // 3)
    texts = [wrap_explanation(models.text_of(length, seed)) for seed, length in enumerate(lengths)]
    rows = [[*av.tokenizer.encode(text, add_special_tokens=False), av.stop_id] for text in texts]
    rollouts = [Rollout(tuple(ids), av.decode(ids), finished=True) for ids in rows]
    learner.engine = _GivenRollouts(rollouts)  # type: ignore[assignment]
    activations = models.activations(workload.rows, workload.model.d_model)

    def ours() -> None:
        joint_step(learner, activations, 1.0, 0)

    def alternative() -> None:
        plain_step(learner, activations, rollouts, workload.batch, dtype)

    def check() -> None:
        optimizers = learner.av_optimizer, learner.ar_optimizer
        av_gradients, ar_gradients = _KeepGradients(av.model), _KeepGradients(learner.ar)
        learner.av_optimizer, learner.ar_optimizer = av_gradients, ar_gradients  # type: ignore[assignment]
        ours()
        mine = av_gradients.kept, ar_gradients.kept
        alternative()
        learner.av_optimizer, learner.ar_optimizer = optimizers
        require_close("AR gradients", mine[1], ar_gradients.kept, tolerance=TOLERANCE[dtype])
        require_close("AV gradients", mine[0], av_gradients.kept, tolerance=TOLERANCE[dtype])

    prompt = len(av.prefix_ids) + len(av.tail_ids)
    policy = sum(prompt + len(row) for row in rows)
    read = sum(len(row) for row in learner.ar.encode([r.explanation.text for r in rollouts]))  # type: ignore[union-attr]
    return Prepared(ours, alternative, check, tokens=policy + read)


def plain_step(
    learner: Learner, activations: Tensor, rollouts: list[Rollout], batch: int, dtype: Dtype
) -> None:
    """The same update as an ordinary implementation writes it: every model on full, padded
    sequences, in rollout order.
    """
    config, av, ar = learner.config, learner.av, learner.ar
    vectors = activations.repeat_interleave(config.group_size, dim=0)
    prompts = ar.encode([rollout.explanation.text for rollout in rollouts])  # type: ignore[union-attr]
    chunks = [slice(first, first + batch) for first in range(0, len(rollouts), batch)]

    def reconstruct(rows: slice) -> Tensor:
        ids, mask = right_pad(prompts[rows], ar.pad_id)
        hidden = ar.backbone(
            input_ids=ids, attention_mask=mask.long(), use_cache=False
        ).last_hidden_state
        return ar.head(hidden[torch.arange(len(ids)), mask.sum(dim=1) - 1])

    with autocast(dtype):
        with torch.no_grad():
            rewards = torch.cat(
                [-direction_mse(reconstruct(rows), vectors[rows]) for rows in chunks]
            )
        for rows in chunks:
            (direction_mse(reconstruct(rows), vectors[rows]).sum() / len(rollouts)).backward()
        advantages = group_advantages(rewards.view(-1, config.group_size), normalize=True).flatten()
        total = sum(len(rollout.token_ids) for rollout in rollouts)
        for rows in chunks:
            ids, mask = right_pad([rollout.token_ids for rollout in rollouts[rows]], av.pad_id)
            with torch.no_grad():
                reference = _full_logprobs(learner.reference, vectors[rows], ids, mask)
            logprobs = _full_logprobs(av, vectors[rows], ids, mask)
            per_token = advantages[rows].unsqueeze(1).expand_as(mask)[mask]
            (
                policy_loss(logprobs, reference, per_token, kl_weight=config.kl_weight).sum()
                / total
            ).backward()
    learner.ar_optimizer.step(0)
    learner.av_optimizer.step(0)


def _full_logprobs(av: Any, vectors: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    embedded, prompt = full_embeddings(av, vectors, ids)
    padding = torch.cat([torch.ones(len(ids), prompt, dtype=torch.long), mask.long()], dim=1)
    output = av.model(
        inputs_embeds=embedded,
        attention_mask=padding,
        logits_to_keep=ids.shape[1] + 1,
        use_cache=False,
    )
    logits = output.logits[:, :-1][mask]
    return -nn.functional.cross_entropy(logits.float(), ids[mask], reduction="none")


def _learner(folder_of: FolderOf, workload: Workload, dtype: Dtype) -> Learner:
    folder = folder_of(workload.model)
    optimizer = OptimizerConfig(lr=1e-6)
    config = JointConfig(
        steps=1000,
        prompts_per_step=workload.rows,
        group_size=GROUP,
        av=optimizer,
        ar=optimizer,
        compute_dtype=dtype,
        micro_batch_size=workload.batch,
    )
    av = models.verbalizer(folder, workload.prefix, models.TRAINING_ATTENTION)
    learner = Learner(config, av, models.reconstructor(folder, attention=models.TRAINING_ATTENTION))
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in av.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=1e-3)
    return learner


CASE = Case(
    name="grpo-step",
    alternative=(
        "full padded sequences in rollout order; reward and AR step as forwards of their own"
    ),
    target={"float32": 1.5, "bfloat16": 1.5},
    prepare=prepare,
    full=Workload(models.ModelShape(), rows=16, tokens=110, prefix=100, batch=32),
    quick=Workload(models.ModelShape(num_blocks=3), rows=2, tokens=80, prefix=100, batch=8),
    tiny=Workload(models.TINY, rows=2, tokens=24, prefix=30, batch=5),
)
