"""Both warm starts: the AV learns to write labels, the AR to find the activation behind a label.

    for each step, with the next batch of rows:
        AV: logits  = AV(prompt with injected activation, response), at the response only
            loss    = mean cross-entropy over response tokens, stop token included
        AR: vectors = head(first K+1 blocks(AR prompt))[last token]
            loss    = mean direction MSE, 2(1 − cos)

The AV's first ``reading_steps`` steps use the text's last words instead of the label: labels pick
their features at random, and that noise hides the small part of the loss that teaches the AV to
read the vector at all.

Left out: packing several responses into one row; batches are cut into chunks of like length."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gloss.contract import wrap_explanation
from gloss.durable import folder_lock
from gloss.models import (
    ActivationReconstructor,
    ActivationVerbalizer,
    autocast,
    direction_mse,
    length_chunks,
    right_pad,
    save_ar,
    save_av,
)
from gloss.train.batches import batch_rows
from gloss.train.config import AVSFTConfig, SFTConfig
from gloss.train.inputs import TrainingRows, new_ar, new_av, read_training_rows, run_settings
from gloss.train.optimization import GuardedOptimizer
from gloss.train.state import TrainedPart, TrainingState

CHUNK_ROWS = 64
Indices = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True)
class AVSFTResult:
    """Where the AV was saved, its last loss (nats per token) and how many steps were skipped."""

    folder: Path
    final_loss: float
    skipped_steps: int


@dataclass(frozen=True)
class ARSFTResult:
    """Where the AR was saved, its last training FVE and how many steps were skipped."""

    folder: Path
    final_fve: float
    skipped_steps: int


def av_sft_loss(
    av: ActivationVerbalizer, activations: Tensor, responses: list[list[int]], num_tokens: int
) -> Tensor:
    """Summed cross-entropy of responses (stop token last) over ``num_tokens``; [n, d] → scalar."""
    ids, mask = right_pad(responses, av.pad_id)
    logits = av.response_logits(activations, ids, mask)
    return (
        nn.functional.cross_entropy(logits.float(), ids[mask].to(logits.device), reduction="sum")
        / num_tokens
    )


def train_av(config: AVSFTConfig, *, target: str, dataset: Path, out_dir: Path) -> AVSFTResult:
    """Trains an AV of the target on (activation, response) rows, saved as ``out_dir``/checkpoint.

    Stopped and called again it ends with the same weights; finished, it returns at once.
    Raises: DatasetError, CheckpointError, ResumeError, TrainingError, StorageError, LockError."""
    with folder_lock(out_dir):
        rows = read_training_rows(dataset, text_column="response")
        av = new_av(target, rows, config.injection_scale, config.attn_implementation)
        av.model.requires_grad_(True).train()
        total, checkpoint = config.reading_steps + config.steps, out_dir / "checkpoint"
        optimizer = GuardedOptimizer(av.model, config.optimizer, total)
        part, settings = TrainedPart(av.model, optimizer), run_settings(config, rows, av.sidecar)
        state = TrainingState(out_dir, {"av": part}, settings, defaults=config.defaults())
        if (earlier := state.finished(checkpoint)) is not None:
            return AVSFTResult(checkpoint, **earlier)
        last_words = _last_words(rows, config.reading_words) if config.reading_steps else []
        labels, reading, loss = av.response_ids(rows.texts), av.response_ids(last_words), math.nan
        with state.loop(config, "av_sft", "AV SFT", total) as (steps, log, progress):
            for step in steps:
                responses = reading if step < config.reading_steps else labels
                picked = batch_rows(len(rows), config.batch_size, step, config.seed)
                with autocast(config.compute_dtype, av.model.device.type):
                    loss = _accumulate_av(av, rows, responses, picked)
                norm = optimizer.step(step, loss=loss, rows=picked.tolist())
                values = {"loss": loss, "grad_norm": norm, "skipped_steps": optimizer.skipped}
                log.metrics(step, values)
                progress.advance(note=f"loss {loss:.3f}")
        optimizer.check_learned()
        av.model.eval().requires_grad_(False)
        save_av(av, checkpoint)
        result = state.finish({"final_loss": loss, "skipped_steps": optimizer.skipped}, checkpoint)
        return AVSFTResult(checkpoint, **result)


def train_ar(config: SFTConfig, *, target: str, dataset: Path, out_dir: Path) -> ARSFTResult:
    """Trains an AR of the target on (prompt, activation) rows, saved as ``out_dir``/checkpoint.

    Stopped and called again it ends with the same weights; finished, it returns at once.
    Raises: DatasetError, CheckpointError, ResumeError, TrainingError, StorageError, LockError."""
    with folder_lock(out_dir):
        rows = read_training_rows(dataset, text_column="prompt")
        ar = new_ar(target, rows, config.attn_implementation)
        ar.requires_grad_(True).train()
        optimizer = GuardedOptimizer(ar, config.optimizer, config.steps)
        checkpoint, part = out_dir / "checkpoint", TrainedPart(ar, optimizer)
        settings = run_settings(config, rows, ar.sidecar)
        state = TrainingState(out_dir, {"ar": part}, settings, defaults=config.defaults())
        if (earlier := state.finished(checkpoint)) is not None:
            return ARSFTResult(checkpoint, **earlier)
        prompts, variance, fve = ar.encode_prompts(rows.texts), rows.variance, math.nan
        with state.loop(config, "ar_sft", "AR SFT", config.steps) as (steps, log, progress):
            for step in steps:
                picked = batch_rows(len(rows), config.batch_size, step, config.seed)
                with autocast(config.compute_dtype, ar.backbone.device.type):
                    loss = _accumulate_ar(ar, rows, prompts, picked)
                norm = optimizer.step(step, loss=loss, rows=picked.tolist())
                fve, skipped = 1 - loss / variance, optimizer.skipped
                values = {"loss": loss, "fve_train": fve, "grad_norm": norm}
                log.metrics(step, {**values, "skipped_steps": skipped})
                progress.advance(note=f"FVE {fve:.3f}")
        optimizer.check_learned()
        ar.eval().requires_grad_(False)
        save_ar(ar, checkpoint)
        result = state.finish({"final_fve": fve, "skipped_steps": optimizer.skipped}, checkpoint)
        return ARSFTResult(checkpoint, **result)


def _last_words(rows: TrainingRows, count: int) -> list[str]:
    return [wrap_explanation(" ".join(context.split()[-count:])) for context in rows.contexts]


def _accumulate_av(
    av: ActivationVerbalizer, rows: TrainingRows, responses: list[list[int]], batch: Indices
) -> float:
    lengths, loss = [len(responses[i]) for i in batch], 0.0
    for chunk in length_chunks(lengths, CHUNK_ROWS):
        picked = batch[chunk]
        vectors = torch.from_numpy(rows.vectors[picked])
        part = av_sft_loss(av, vectors, [responses[i] for i in picked], sum(lengths))
        part.backward()  # type: ignore[no-untyped-call]
        loss += float(part.detach())
    return loss


def _accumulate_ar(
    ar: ActivationReconstructor, rows: TrainingRows, prompts: list[list[int]], batch: Indices
) -> float:
    loss = 0.0
    for chunk in length_chunks([len(prompts[i]) for i in batch], CHUNK_ROWS):
        picked = batch[chunk]
        vectors = ar.reconstruct_ids([prompts[i] for i in picked])
        if not bool(torch.isfinite(vectors).all()):
            return math.nan
        errors = direction_mse(vectors, torch.from_numpy(rows.vectors[picked]).to(vectors.device))
        part = errors.sum() / len(batch)
        part.backward()  # type: ignore[no-untyped-call]
        loss += float(part.detach())
    return loss
