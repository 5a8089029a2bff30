"""One step of joint reinforcement learning, and what takes it: two halves and an engine.

    activations     = next batch
    explanations    = G samples of the AV per activation, T = 1
    vectors         = AR(explanations that could be extracted)             with gradients
    rewards         = −direction MSE (or −log of it); failed extraction: an orthogonal vector's
    AR step         : mean direction MSE on the same explanations
    AV step         : GRPO with the rewards, KL to the AV's SFT start

What samples is an engine: the AV itself in this process, or a server that takes over its weights
before every step. The reward and the AR's regression loss come from the same forward pass: the AR
is the live one, before its update. The two updates are not coupled: no gradient flows from one half
into the other.

Left out: several optimizer steps per batch of rollouts, and with them importance ratios and
clipping."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gloss.contract import Explanation
from gloss.engines import EmbeddedPromptEngine, Engine, LocalEngine, Rollout
from gloss.models import (
    ORTHOGONAL_MSE,
    ActivationReconstructor,
    ActivationVerbalizer,
    GatheringPrefix,
    autocast,
    direction_mse,
    fitted_chunks,
    linear_weights_cast_once,
    right_pad,
    save_av,
)
from gloss.train.batches import step_seed
from gloss.train.config import JointConfig
from gloss.train.grpo import group_advantages, k3_divergence, policy_loss
from gloss.train.optimization import GuardedOptimizer
from gloss.train.rewards import explanation_rewards


@dataclass(frozen=True)
class Batch:
    """One step's rollouts: activations [n·G, d], side by side per prompt, and what they gave."""

    activations: Tensor
    rollouts: list[Rollout]
    texts: list[str]
    extracted: Tensor
    num_tokens: Tensor


class Learner:
    """The two halves, their optimizers, the AV's frozen SFT start, and the engine that samples."""

    def __init__(
        self, config: JointConfig, av: ActivationVerbalizer, ar: ActivationReconstructor
    ) -> None:
        self.config, self.av, self.ar = config, av, ar
        self.reference = ActivationVerbalizer(copy.deepcopy(av.model), av.tokenizer, av.sidecar)
        av.model.requires_grad_(True)
        ar.requires_grad_(True)
        self.engine: Engine = LocalEngine(
            av, batch_size=config.prompts_per_step * config.group_size
        )
        self._weights: Path | None = None
        self._is_current = True
        self.av_optimizer = GuardedOptimizer(av.model, config.av, config.steps)
        self.ar_optimizer = GuardedOptimizer(ar, config.ar, config.steps)

    def sample_with(self, engine: Engine, weights: Path) -> None:
        """Has an engine sample that takes over the AV's weights from the folder ``weights``."""
        self.engine, self._weights, self._is_current = engine, weights, False

    def update_engine(self) -> None:
        """A server takes over the AV's present weights, and is compared with them."""
        if self._weights is None or self._is_current:
            return
        save_av(self.av, self._weights)
        self.engine.load_weights(self._weights)
        if isinstance(self.engine, EmbeddedPromptEngine):
            self.engine.check_weights(self.av)
        self._is_current = True

    def update(self, step: int, reward: float, rows: Sequence[int]) -> tuple[float, float]:
        """One optimizer step of each half; the gradient norms of AV and AR."""
        ar_norm = self.ar_optimizer.step(step, loss=reward, rows=rows)
        av_norm = self.av_optimizer.step(step, loss=reward, rows=rows)
        self._is_current = False
        return av_norm, ar_norm

    @property
    def skipped_steps(self) -> int:
        """Steps of either half that were not finite and left out."""
        return self.av_optimizer.skipped + self.ar_optimizer.skipped

    def sample(self, activations: Tensor, step: int) -> Batch:
        """G explanations of each activation [n, d]."""
        config = self.config
        self.update_engine()
        rollouts = self.engine.generate(
            activations,
            temperature=config.temperature,
            max_new_tokens=config.max_new_tokens,
            seed=step_seed(config.seed, step),
            num_samples=config.group_size,
        )
        explanations = [rollout.explanation for rollout in rollouts]
        return Batch(
            activations=activations.repeat_interleave(config.group_size, dim=0),
            rollouts=rollouts,
            texts=[e.text if isinstance(e, Explanation) else "" for e in explanations],
            extracted=torch.tensor([isinstance(e, Explanation) for e in explanations]),
            num_tokens=torch.tensor([len(rollout.token_ids) for rollout in rollouts]),
        )

    def ar_errors(self, batch: Batch) -> Tensor:
        """Direction MSE [n·G], NaN where none was extracted; leaves the AR's gradients behind.

        NaN everywhere if the AR's output is not finite: then the step is skipped."""
        errors = torch.full((len(batch.texts),), float("nan"))
        kept = batch.extracted.nonzero().squeeze(1).tolist()
        prompts = self.ar.encode([batch.texts[i] for i in kept])
        for chunk in fitted_chunks([len(p) for p in prompts], self.config.micro_batch_size):
            picked = [kept[i] for i in chunk]
            vectors = self.ar.reconstruct_ids([prompts[i] for i in chunk])
            if not bool(torch.isfinite(vectors).all()):
                return torch.full_like(errors, float("nan"))
            part = direction_mse(vectors, batch.activations[picked].to(vectors.device))
            (part.sum() / len(kept)).backward()  # type: ignore[no-untyped-call]
            errors[picked] = part.detach().cpu()
        return errors

    def av_gradients(self, batch: Batch, advantages: Tensor) -> float:
        """Accumulates the gradients of the GRPO loss per token; returns the mean KL per token.

        The policy is what was sampled from: the AV's distribution at the rollouts' temperature."""
        temperature = self.config.temperature
        total, kl_sum = int(batch.num_tokens.sum()), 0.0
        token_ids, chunks = [rollout.token_ids for rollout in batch.rollouts], []
        for chunk in fitted_chunks(batch.num_tokens.tolist(), self.config.micro_batch_size):
            ids, mask = right_pad([token_ids[i] for i in chunk], self.av.pad_id)
            chunks.append((batch.activations[chunk], ids, mask, chunk))
        prefix = GatheringPrefix(self.av.backbone, self.av.prefix_ids)
        with torch.no_grad(), linear_weights_cast_once(self.reference.model):
            reference_prefix = self.reference.shared_prefix()
            references = [
                self.reference.response_logprobs(
                    activations, ids, mask, reference_prefix, temperature=temperature
                )
                for activations, ids, mask, _ in chunks
            ]
        for (activations, ids, mask, chunk), reference in zip(chunks, references, strict=True):
            logprobs = self.av.response_logprobs(
                activations, ids, mask, prefix, temperature=temperature
            )
            per_token = advantages[chunk].unsqueeze(1).expand_as(mask)[mask].to(logprobs.device)
            losses = policy_loss(logprobs, reference, per_token, kl_weight=self.config.kl_weight)
            (losses.sum() / total).backward()  # type: ignore[no-untyped-call]
            kl_sum += float(k3_divergence(logprobs.detach(), reference).sum())
        prefix.pass_on()
        return kl_sum / total


def joint_step(
    learner: Learner, activations: Tensor, variance: float, step: int, *, rows: Sequence[int] = ()
) -> tuple[dict[str, float], Batch, Tensor]:
    """One joint step on activations [n, d]: metrics, the rollouts and their direction MSE.

    ``rows`` of the dataset are named if a step that is not finite ends the run."""
    config = learner.config
    device = learner.av.model.device.type
    with autocast(config.compute_dtype, device):
        batch = learner.sample(activations, step)
        errors = learner.ar_errors(batch)
    rewards = explanation_rewards(
        errors,
        batch.extracted,
        batch.num_tokens,
        reward=config.reward,
        length_penalty=config.length_penalty,
    )
    groups = rewards.view(-1, config.group_size)
    advantages = group_advantages(groups, normalize=config.normalize_advantages).flatten()
    with autocast(config.compute_dtype, device):
        divergence = learner.av_gradients(batch, advantages)
    reward = float(rewards.mean())
    av_norm, ar_norm = learner.update(step, reward, rows)
    charged = torch.where(batch.extracted, errors, torch.full_like(errors, ORTHOGONAL_MSE))
    metrics = {
        "fve_sampled": 1 - float(charged.mean()) / variance,
        "reward_mean": reward,
        "reward_std_in_group": float(groups.std(dim=1).mean()),
        "kl": divergence,
        "explanation_tokens": float(batch.num_tokens.float().mean()),
        "failure_rate": 1 - float(batch.extracted.float().mean()),
        "ar_loss": float(errors.nanmean()),
        "grad_norm_av": av_norm,
        "grad_norm_ar": ar_norm,
        "skipped_steps": learner.skipped_steps,
    }
    return metrics, batch, errors
