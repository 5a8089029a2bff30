"""AR SFT: regression from the label's text to the activation's direction.

for each step:
    rows        = next batch of (AR prompt, activation)
    vectors     = head(first K+1 blocks(prompt))[last token]
    loss        = mean direction MSE, 2(1 − cos)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gloss.models import ActivationReconstructor, autocast, direction_mse, length_chunks, save_ar
from gloss.progress import Stage
from gloss.train.batches import batch_rows
from gloss.train.config import SFTConfig
from gloss.train.inputs import TrainingRows, new_ar, read_training_rows, run_fingerprint
from gloss.train.metrics import MetricsLog
from gloss.train.optimization import GuardedOptimizer
from gloss.train.state import TrainedPart, TrainingState

CHUNK_ROWS = 64


@dataclass(frozen=True)
class ARSFTResult:
    """Where the AR was saved, its last training FVE and how many steps were skipped."""

    folder: Path
    final_fve: float
    skipped_steps: int


def train_ar(config: SFTConfig, *, target: str, dataset: Path, out_dir: Path) -> ARSFTResult:
    """Trains an AR from the target's first K+1 blocks on (prompt, activation) rows and saves it as ``out_dir``/checkpoint.

    Raises: DatasetError, CheckpointError, ResumeError, TrainingError.
    """
    rows = read_training_rows(dataset, text_column="prompt")
    ar = new_ar(target, rows, config.attn_implementation)
    ar.requires_grad_(True).train()
    optimizer = GuardedOptimizer(ar, config.optimizer, config.steps)
    state = TrainingState(out_dir, {"ar": TrainedPart(ar, optimizer)}, run_fingerprint(config, rows, ar.sidecar))
    first_step = state.load()
    prompts = ar.encode_prompts(rows.texts)
    variance = rows.variance
    fve = float("nan")
    with (
        MetricsLog(out_dir, "ar_sft", first_step=first_step, tensorboard=config.tensorboard) as log,
        Stage("AR SFT", total=config.steps, unit="step", initial=first_step) as progress,
    ):
        for step in range(first_step, config.steps):
            with autocast(config.compute_dtype):
                loss = _accumulate(ar, rows, prompts, batch_rows(len(rows), config.batch_size, step, config.seed))
            norm = optimizer.step(step)
            fve = 1 - loss / variance
            values = {"loss": loss, "fve_train": fve, "grad_norm": norm, "skipped_steps": optimizer.skipped}
            log.metrics(step, values)
            progress.advance(note=f"FVE {fve:.3f}")
            if (step + 1) % config.checkpoint_every == 0:
                state.save(step + 1)
    ar.eval().requires_grad_(False)
    save_ar(ar, out_dir / "checkpoint")
    state.remove()
    return ARSFTResult(out_dir / "checkpoint", fve, optimizer.skipped)


def _accumulate(
    ar: ActivationReconstructor,
    rows: TrainingRows,
    prompts: list[list[int]],
    batch: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> float:
    loss = 0.0
    for chunk in length_chunks([len(prompts[i]) for i in batch], CHUNK_ROWS):
        picked = batch[chunk]
        errors = direction_mse(ar.reconstruct_ids([prompts[i] for i in picked]), torch.from_numpy(rows.vectors[picked]))
        part = errors.sum() / len(batch)
        part.backward()  # type: ignore[no-untyped-call]
        loss += float(part.detach())
    return loss
