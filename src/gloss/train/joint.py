"""Joint reinforcement learning of AV and AR: the loop around ``joint_step``, with what is kept.

for each step:
    a point of the series?  measure both halves, keep their weights      (series.py)
    one joint step                                                       (joint_step.py)
    metrics, samples; every few steps the greedy FVE on held-out rows
the best point, or the last step, becomes the NLA"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

import torch

from gloss.contract import check_same_activations
from gloss.data.document_sample import sample_documents
from gloss.durable import folder_lock
from gloss.engines import LOCAL, Engine, engine_of, parse_engine
from gloss.errors import ConfigError
from gloss.models import (
    ActivationReconstructor,
    ActivationVerbalizer,
    fraction_of_variance_explained,
    load_ar,
    load_av,
    save_ar,
    save_av,
)
from gloss.train.batches import batch_rows
from gloss.train.config import JointConfig
from gloss.train.inputs import TrainingRows, read_training_rows, run_settings
from gloss.train.joint_step import Batch, Learner, joint_step
from gloss.train.preflight import check_injection_reaches_forward, check_reward_path
from gloss.train.rewards import rebuilt
from gloss.train.series import SERIES_NAME, Series, SeriesMeasure, set_apart
from gloss.train.state import TrainedPart, TrainingState

SAMPLES_PER_STEP = 2
CONTEXT_CHARS = 160
ENGINE_FOLDER = "engine_av"
"""Where an engine that is not the AV itself finds the AV's present weights."""


@dataclass(frozen=True)
class JointResult:
    """Where the trained halves were saved, the last sampled FVE and how many steps were skipped.

    ``kept_step`` is the step whose weights they are, ``stopped`` why no further one was taken."""

    av: Path
    ar: Path
    final_fve_sampled: float
    skipped_steps: int
    kept_step: int | None = None
    stopped: str | None = None


def train_joint(
    config: JointConfig,
    *,
    av: Path,
    ar: Path,
    dataset: Path,
    out_dir: Path,
    heldout: Path | None = None,
    engine: Engine | None = None,
    measure: SeriesMeasure | None = None,
) -> JointResult:
    """Trains both halves together and saves them as ``out_dir``/av and ``out_dir``/ar.

    ``heldout`` is only measured; ``engine`` takes the place of the one that the config names;
    ``measure`` is what a series of checkpoints is measured by: ``gloss.evaluate.SeriesOf``.
    Stopped and called again it ends with the same weights; finished, it returns at once.
    Raises: DatasetError, CheckpointError, ResumeError, TrainingError, StorageError, LockError;
    ConfigError and EngineError for an engine."""
    with folder_lock(out_dir):
        return _train(config, av, ar, dataset, out_dir, heldout, engine, measure)


def _train(
    config: JointConfig,
    av: Path,
    ar: Path,
    dataset: Path,
    out_dir: Path,
    heldout: Path | None,
    engine: Engine | None,
    measure: SeriesMeasure | None,
) -> JointResult:
    places = out_dir / "av", out_dir / "ar"
    settings = {} if config.engine == LOCAL else {"engine": parse_engine(config.engine)[0]}
    rows = read_training_rows(dataset, text_column=None)
    trained, apart = set_apart(rows, config)
    measured = _measured_rows(config, heldout) if heldout else None
    learner = Learner(config, *_halves(config, av, ar))
    check_same_activations(learner.av.sidecar, learner.ar.sidecar, rows.sidecar)
    parts = {
        "av": TrainedPart(learner.av.model, learner.av_optimizer),
        "ar": TrainedPart(learner.ar, learner.ar_optimizer),
    }
    settings = run_settings(config, rows, learner.av.sidecar) | settings
    state = TrainingState(out_dir, parts, settings, defaults=config.defaults())
    if (earlier := state.finished(*places)) is not None:
        return JointResult(*places, **earlier)
    series = _series(learner, out_dir, (av, ar))
    check_injection_reaches_forward(learner.av, torch.from_numpy(rows.vectors[:2]))
    check_reward_path(learner.ar)
    _sample_elsewhere(learner, engine, av, out_dir)
    variance, fve, stopped = rows.variance, math.nan, None
    with state.loop(config, "joint", "joint RL", config.steps) as (steps, log, progress):
        series.resume(state.first_step)
        for step in steps:
            if (stopped := _point(series, step, learner, apart, measure)) is not None:
                break
            started = time.monotonic()
            batch_of = batch_rows(len(trained), config.prompts_per_step, step, config.seed)
            picked = [trained[index] for index in batch_of.tolist()]
            activations = torch.from_numpy(rows.vectors[picked])
            metrics, batch, errors = joint_step(learner, activations, variance, step, rows=picked)
            if measured and (step % config.evaluate_every == 0 or step + 1 == config.steps):
                metrics["fve_heldout"] = heldout_fve(learner, measured, config)
            fve = metrics["fve_sampled"]
            log.metrics(step, {**metrics, "seconds": time.monotonic() - started})
            for prompt, row in enumerate(picked[:SAMPLES_PER_STEP]):
                sample = prompt * config.group_size
                log.sample(step, _shown(rows, row, batch, sample, float(errors[sample]), variance))
            progress.advance(note=f"FVE {fve:.3f}  {metrics['explanation_tokens']:.0f} tok")
        else:
            _point(series, config.steps, learner, apart, measure)
    learner.av_optimizer.check_learned()
    learner.ar_optimizer.check_learned()
    kept = _keep_best(series, config, stopped)
    _save(learner, config, (av, ar), places, kept)
    numbers = {"final_fve_sampled": fve, "skipped_steps": learner.skipped_steps}
    result = state.finish({**numbers, "kept_step": kept, "stopped": stopped}, *places)
    rmtree(out_dir / ENGINE_FOLDER, ignore_errors=True)
    return JointResult(*places, **result)


def _sample_elsewhere(learner: Learner, engine: Engine | None, av: Path, out_dir: Path) -> None:
    """Has the given engine sample, or the one that the config names, if any."""
    if engine is None and learner.config.engine != LOCAL:
        engine = engine_of(learner.config.engine, av)
    if engine is not None:
        learner.sample_with(engine, out_dir / ENGINE_FOLDER)


def _halves(
    config: JointConfig, av: Path, ar: Path
) -> tuple[ActivationVerbalizer, ActivationReconstructor]:
    kernel = config.attn_implementation
    return load_av(av, attn_implementation=kernel), load_ar(ar, attn_implementation=kernel)


def _series(learner: Learner, out_dir: Path, start: tuple[Path, Path]) -> Series:
    def starts() -> dict[str, torch.nn.Module]:
        av, ar = _halves(learner.config, *start)
        return {"av": av.model, "ar": ar}

    return Series(out_dir, learner.config, {"av": learner.av.model, "ar": learner.ar}, starts)


def _point(
    series: Series,
    step: int,
    learner: Learner,
    rows: TrainingRows | None,
    measure: SeriesMeasure | None,
) -> str | None:
    """Measures the halves after ``step`` steps where that is a point; why to stop, if so.

    Raises: ConfigError if a series is wanted and nothing measures it."""
    if rows is None:
        return None
    if measure is None:
        remedy = "Give train_joint a measure, such as gloss.evaluate.SeriesOf(...)"
        raise ConfigError("nothing measures joint.series", remedy=remedy)

    @torch.no_grad()
    def numbers() -> Mapping[str, Any]:
        learner.update_engine()
        return measure(learner.engine, learner.ar, rows)

    return series.reach(step, numbers)


def _keep_best(series: Series, config: JointConfig, stopped: str | None) -> int:
    """Puts the weights of the best point back; its step."""
    if not series.entries:
        return config.steps
    best, last = series.best, series.entries[-1]
    if stopped is not None:
        what = f"gloss: joint RL ends at step {last['step']} of {config.steps}: {stopped}"
        print(f"{what}; step {best['step']} is kept (see {SERIES_NAME})", file=sys.stderr)
    if best is not last:
        series.restore(best)
    return int(best["step"])


def _save(
    learner: Learner,
    config: JointConfig,
    parents: tuple[Path, Path],
    places: tuple[Path, Path],
    steps: int,
) -> None:
    learner.av.model.requires_grad_(False)
    learner.ar.requires_grad_(False)
    _record_training(learner, config, parents, steps)
    save_av(learner.av, places[0])
    save_ar(learner.ar, places[1])


def _record_training(
    learner: Learner, config: JointConfig, parents: tuple[Path, Path], steps: int
) -> None:
    batch_size = config.prompts_per_step * config.group_size
    for half, parent, lr in (
        (learner.av, parents[0], config.av.lr),
        (learner.ar, parents[1], config.ar.lr),
    ):
        half.sidecar = replace(
            half.sidecar,
            stage="rl",
            parent_checkpoints=(*half.sidecar.parent_checkpoints, parent.name),
            training={"steps": steps, "lr": lr, "batch_size": batch_size},
            trust=half.sidecar.trust.model_copy(update={"max_new_tokens": config.max_new_tokens}),
        )


def _measured_rows(config: JointConfig, heldout: Path) -> TrainingRows:
    """The held-out rows that are measured while training: of documents drawn at random."""
    rows = read_training_rows(heldout, text_column=None)
    return rows.take(sample_documents(rows.doc_ids, config.evaluate_rows, seed=config.seed))


@torch.inference_mode()
def heldout_fve(learner: Learner, rows: TrainingRows, config: JointConfig) -> float:
    """Greedy round-trip FVE on held-out activations; failed extractions count as orthogonal."""
    activations = torch.from_numpy(rows.vectors)
    learner.update_engine()
    rollouts = learner.engine.generate(
        activations, temperature=0.0, max_new_tokens=config.max_new_tokens, seed=0
    )
    _, errors, _ = rebuilt(learner.ar, rollouts, activations)
    return fraction_of_variance_explained(errors, rows.variance)


def _shown(
    rows: TrainingRows, row: int, batch: Batch, sample: int, error: float, variance: float
) -> dict[str, Any]:
    extracted = bool(batch.extracted[sample])
    return {
        "doc_id": rows.doc_ids[row],
        "text_tail": rows.contexts[row][-CONTEXT_CHARS:],
        "explanation": batch.texts[sample] if extracted else batch.rollouts[sample].text,
        "fve": round(1 - error / variance, 4) if extracted and math.isfinite(error) else None,
        "failed": not extracted,
    }
