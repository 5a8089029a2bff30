"""AV SFT: next-token prediction on the label, with the activation injected into the prompt.

    for each step:
        rows            = next batch of (activation, response)
        prefix          = keys and values of the prompt before the marker, once
        logits          = AV(prefix, tail with injected activation, response), at the response only
        loss            = mean cross-entropy over response tokens, stop token included

The first ``reading_steps`` steps use the text's last words instead of the label: labels pick their
features at random, and that noise hides the small part of the loss that teaches the AV to read the
vector at all.

Left out: packing several responses into one row; batches are cut into chunks of like length
instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gloss.contract import ModelSidecar, wrap_explanation
from gloss.durable import folder_lock
from gloss.models import ActivationVerbalizer, autocast, length_chunks, right_pad, save_av
from gloss.progress import Stage
from gloss.stopping import deferred_stop
from gloss.train.config import AVSFTConfig
from gloss.train.inputs import TrainingRows, new_av, read_training_rows, run_settings
from gloss.train.metrics import MetricsLog
from gloss.train.optimization import GuardedOptimizer
from gloss.train.state import TrainedPart, TrainingState, batch_rows

CHUNK_ROWS = 64


@dataclass(frozen=True)
class AVSFTResult:
    """Where the AV was saved, its last loss (nats per token) and how many steps were skipped."""

    folder: Path
    final_loss: float
    skipped_steps: int
    sidecar: ModelSidecar


def av_sft_loss(
    av: ActivationVerbalizer, activations: Tensor, responses: list[list[int]], num_tokens: int
) -> Tensor:
    """Summed cross-entropy of the responses (token ids, stop token last) divided by ``num_tokens``;
    [n, d] → scalar.
    """
    ids, mask = right_pad(responses, av.pad_id)
    logits = av.response_logits(activations, ids, mask)
    return (
        nn.functional.cross_entropy(logits.float(), ids[mask].to(logits.device), reduction="sum")
        / num_tokens
    )


def train_av(config: AVSFTConfig, *, target: str, dataset: Path, out_dir: Path) -> AVSFTResult:
    """Trains an AV from the target on (activation, response) rows and saves it as
    ``out_dir``/checkpoint.

    Stopped at any moment and called again it ends with the same weights; finished, it returns at
    once.
    Raises: DatasetError, CheckpointError, ResumeError, TrainingError, StorageError, LockError.
    """
    with folder_lock(out_dir):
        return _train(config, target, dataset, out_dir)


def _train(config: AVSFTConfig, target: str, dataset: Path, out_dir: Path) -> AVSFTResult:
    rows = read_training_rows(dataset, text_column="response")
    av = new_av(target, rows, config.injection_scale, config.attn_implementation)
    av.model.requires_grad_(True).train()
    optimizer = GuardedOptimizer(av.model, config.optimizer, config.reading_steps + config.steps)
    state = TrainingState(
        out_dir, {"av": TrainedPart(av.model, optimizer)}, run_settings(config, rows, av.sidecar)
    )
    if (earlier := state.finished(out_dir / "checkpoint")) is not None:
        return AVSFTResult(out_dir / "checkpoint", sidecar=av.sidecar, **earlier)
    first_step = state.load()
    total = config.reading_steps + config.steps
    labels = _encoded(av, rows.texts)
    reading = _encoded(av, _last_words(rows, config.reading_words)) if config.reading_steps else []
    loss = float("nan")
    with (
        deferred_stop() as stop,
        MetricsLog(out_dir, "av_sft", first_step=first_step, tensorboard=config.tensorboard) as log,
        Stage("AV SFT", total=total, unit="step", initial=first_step) as progress,
    ):
        for step in state.steps(total, config.checkpoint_every, stop):
            responses = reading if step < config.reading_steps else labels
            picked = batch_rows(len(rows), config.batch_size, step, config.seed)
            with autocast(config.compute_dtype, av.model.device.type):
                loss = _accumulate(av, rows, responses, picked)
            norm = optimizer.step(step, loss=loss, rows=picked.tolist())
            log.metrics(step, {"loss": loss, "grad_norm": norm, "skipped_steps": optimizer.skipped})
            progress.advance(note=f"loss {loss:.3f}")
    av.model.eval().requires_grad_(False)
    save_av(av, out_dir / "checkpoint")
    result: dict[str, Any] = {"final_loss": loss, "skipped_steps": optimizer.skipped}
    state.finish(result)
    return AVSFTResult(out_dir / "checkpoint", sidecar=av.sidecar, **result)


def _encoded(av: ActivationVerbalizer, responses: Sequence[str]) -> list[list[int]]:
    return [
        [*av.tokenizer.encode(text, add_special_tokens=False), av.stop_id] for text in responses
    ]


def _last_words(rows: TrainingRows, count: int) -> list[str]:
    """The last words of every activation's text, as responses."""
    return [wrap_explanation(" ".join(context.split()[-count:])) for context in rows.contexts]


def _accumulate(
    av: ActivationVerbalizer,
    rows: TrainingRows,
    responses: list[list[int]],
    batch: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> float:
    lengths = [len(responses[i]) for i in batch]
    loss = 0.0
    for chunk in length_chunks(lengths, CHUNK_ROWS):
        picked = batch[chunk]
        part = av_sft_loss(
            av, torch.from_numpy(rows.vectors[picked]), [responses[i] for i in picked], sum(lengths)
        )
        part.backward()  # type: ignore[no-untyped-call]
        loss += float(part.detach())
    return loss
