"""AR SFT: regression from the label's text to the activation's direction.

for each step:
    rows        = next batch of (AR prompt, activation)
    vectors     = head(first K+1 blocks(prompt))[last token]
    loss        = mean direction MSE, 2(1 − cos)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gloss.durable import folder_lock
from gloss.models import ActivationReconstructor, autocast, direction_mse, length_chunks, save_ar
from gloss.progress import Stage
from gloss.stopping import deferred_stop
from gloss.train.config import SFTConfig
from gloss.train.inputs import TrainingRows, new_ar, read_training_rows, run_settings
from gloss.train.metrics import MetricsLog
from gloss.train.optimization import GuardedOptimizer
from gloss.train.state import TrainedPart, TrainingState, batch_rows

CHUNK_ROWS = 64


@dataclass(frozen=True)
class ARSFTResult:
    """Where the AR was saved, its last training FVE and how many steps were skipped."""

    folder: Path
    final_fve: float
    skipped_steps: int


def train_ar(config: SFTConfig, *, target: str, dataset: Path, out_dir: Path) -> ARSFTResult:
    """Trains an AR from the target's first K+1 blocks on (prompt, activation) rows and saves it as
    ``out_dir``/checkpoint.

    Stopped at any moment and called again it ends with the same weights; finished, it returns at
    once.
    Raises: DatasetError, CheckpointError, ResumeError, TrainingError, StorageError, LockError.
    """
    with folder_lock(out_dir):
        return _train(config, target, dataset, out_dir)


def _train(config: SFTConfig, target: str, dataset: Path, out_dir: Path) -> ARSFTResult:
    rows = read_training_rows(dataset, text_column="prompt")
    ar = new_ar(target, rows, config.attn_implementation)
    ar.requires_grad_(True).train()
    optimizer = GuardedOptimizer(ar, config.optimizer, config.steps)
    state = TrainingState(
        out_dir, {"ar": TrainedPart(ar, optimizer)}, run_settings(config, rows, ar.sidecar)
    )
    if (earlier := state.finished(out_dir / "checkpoint")) is not None:
        return ARSFTResult(out_dir / "checkpoint", **earlier)
    first_step = state.load()
    prompts = ar.encode_prompts(rows.texts)
    variance = rows.variance
    fve = float("nan")
    with (
        deferred_stop() as stop,
        MetricsLog(out_dir, "ar_sft", first_step=first_step, tensorboard=config.tensorboard) as log,
        Stage("AR SFT", total=config.steps, unit="step", initial=first_step) as progress,
    ):
        for step in state.steps(config.steps, config.checkpoint_every, stop):
            picked = batch_rows(len(rows), config.batch_size, step, config.seed)
            with autocast(config.compute_dtype, ar.backbone.device.type):
                loss = _accumulate(ar, rows, prompts, picked)
            norm = optimizer.step(step, loss=loss, rows=picked.tolist())
            fve = 1 - loss / variance
            values = {
                "loss": loss,
                "fve_train": fve,
                "grad_norm": norm,
                "skipped_steps": optimizer.skipped,
            }
            log.metrics(step, values)
            progress.advance(note=f"FVE {fve:.3f}")
    ar.eval().requires_grad_(False)
    save_ar(ar, out_dir / "checkpoint")
    result: dict[str, Any] = {"final_fve": fve, "skipped_steps": optimizer.skipped}
    state.finish(result)
    return ARSFTResult(out_dir / "checkpoint", **result)


def _accumulate(
    ar: ActivationReconstructor,
    rows: TrainingRows,
    prompts: list[list[int]],
    batch: np.ndarray[tuple[int], np.dtype[np.int64]],
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
