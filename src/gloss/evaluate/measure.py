"""The evaluation stage: round trips of the SFT and the trained NLA on held-out documents, controls,
claims, examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gloss.contract import check_same_activations
from gloss.engines import LocalEngine
from gloss.evaluate.claims import FactRows, score_claims
from gloss.evaluate.evaluate_config import EvaluateConfig
from gloss.evaluate.round_trip import RoundTrip, bootstrap_fve, control_fves, round_trip
from gloss.models import (
    ActivationReconstructor,
    cosine,
    direction_mse,
    direction_variance,
    fraction_of_variance_explained,
    load_ar,
    load_av,
)
from gloss.nla.flags import activation_flags
from gloss.plugins import ClaimJudge
from gloss.progress import Stage
from gloss.train.inputs import TrainingRows, read_training_rows

CONTEXT_CHARS = 400


@dataclass(frozen=True)
class NLAFolders:
    """The two halves after SFT and after joint RL."""

    av_sft: Path
    ar_sft: Path
    av: Path
    ar: Path


def evaluate(
    config: EvaluateConfig,
    *,
    nla: NLAFolders,
    heldout: Path,
    judge: ClaimJudge | None = None,
    heldout_labels: Path | None = None,
    probe_dataset: Path | None = None,
) -> dict[str, Any]:
    """Measures an NLA and returns the numbers and examples of ``results.json``.

    ``heldout_labels`` is the AR dataset of the held-out documents (for the AR's FVE on labels),
    ``probe_dataset`` activations of training documents, ``judge`` knows the truth where there is
    one. Everything runs in float32.
    Raises: DatasetError, CheckpointError.
    """
    rows = read_training_rows(heldout, text_column=None).first(config.max_rows)
    activations = torch.from_numpy(rows.vectors)
    kernel = config.attn_implementation
    with Stage("evaluate", total=5, unit="pass") as progress:
        ar_sft = load_ar(nla.ar_sft, attn_implementation=kernel)
        sft_engine = LocalEngine(load_av(nla.av_sft, attn_implementation=kernel))
        sft = _trip(config, sft_engine, ar_sft, activations, 0.0)
        progress.advance(note=f"SFT greedy FVE {sft.fve:.3f}")
        sft_sampled = _trip(config, sft_engine, ar_sft, activations, 1.0)
        progress.advance(note=f"SFT sampled FVE {sft_sampled.fve:.3f}")
        ar = load_ar(nla.ar, attn_implementation=kernel)
        engine = LocalEngine(load_av(nla.av, attn_implementation=kernel))
        check_same_activations(engine.av.sidecar, ar.sidecar, ar_sft.sidecar, rows.sidecar)
        trip = _trip(config, engine, ar, activations, 0.0)
        progress.advance(note=f"greedy FVE {trip.fve:.3f}")
        sampled = _trip(config, engine, ar, activations, 1.0)
        progress.advance(note=f"sampled FVE {sampled.fve:.3f}")
        claims, examples = _claims_and_examples(config, judge, rows, trip, probe_dataset)
        progress.advance()
    interval = bootstrap_fve(
        trip.errors,
        activations,
        rows.doc_ids,
        resamples=config.bootstrap_resamples,
        seed=config.seed,
    )
    return {
        "fve": {
            "ar_on_labels": _fve_on_labels(ar_sft, heldout_labels),
            "sft": sft.fve,
            "rl": trip.fve,
            "rl_ci95": list(interval),
            "sft_sampled": sft_sampled.fve,
            "rl_sampled": sampled.fve,
        },
        "controls": control_fves(ar, trip, activations, seed=config.seed),
        "claims": claims,
        "extraction_failure_rate": trip.failure_rate,
        "extraction_failure_rate_sampled": sampled.failure_rate,
        "mean_explanation_tokens": trip.mean_tokens,
        "layer": rows.sidecar.layer,
        "n_heldout": len(rows),
        "n_heldout_documents": len(set(rows.doc_ids)),
        "heldout_errors": sorted(round(error, 4) for error in trip.errors.tolist()),
        "examples": examples,
    }


def _trip(
    config: EvaluateConfig,
    engine: LocalEngine,
    ar: ActivationReconstructor,
    activations: torch.Tensor,
    temperature: float,
) -> RoundTrip:
    return round_trip(
        engine,
        ar,
        activations,
        temperature=temperature,
        max_new_tokens=config.max_new_tokens,
        seed=config.seed,
    )


def _fve_on_labels(ar: ActivationReconstructor, labelled: Path | None) -> float | None:
    if labelled is None:
        return None
    rows = read_training_rows(labelled, text_column="prompt")
    activations = torch.from_numpy(rows.vectors)
    prompts = ar.encode_prompts(rows.texts)
    errors = direction_mse(ar.reconstruct_encoded(prompts), activations)
    return fraction_of_variance_explained(errors, direction_variance(activations))


def _claims_and_examples(
    config: EvaluateConfig,
    judge: ClaimJudge | None,
    rows: TrainingRows,
    trip: RoundTrip,
    probe_dataset: Path | None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    known = (
        [judge.known(*row) for row in zip(rows.doc_ids, rows.contexts, strict=True)]
        if judge
        else [{} for _ in rows.doc_ids]
    )
    scores: dict[str, Any] = {}
    if judge is not None:
        heldout = FactRows(rows.vectors, known)
        scored = score_claims(
            judge,
            trip.texts,
            rows.doc_ids,
            rows.contexts,
            heldout=heldout,
            probe_rows=_probe_rows(config, judge, probe_dataset),
        )
        scores = {kind: asdict(score) for kind, score in scored.items()}
    return scores, _examples(config, judge, rows, trip, known)


def _probe_rows(config: EvaluateConfig, judge: ClaimJudge, dataset: Path | None) -> FactRows | None:
    if dataset is None or config.probe_rows == 0:
        return None
    rows = read_training_rows(dataset, text_column=None).first(config.probe_rows)
    return FactRows(
        rows.vectors, [judge.known(*row) for row in zip(rows.doc_ids, rows.contexts, strict=True)]
    )


def _flags(rows: TrainingRows, index: int) -> tuple[str, ...]:
    norm = float(np.linalg.norm(rows.vectors[index].astype(np.float64)))
    return activation_flags(
        norm=norm, norm_statistics=rows.sidecar.norm_statistics, position=rows.positions[index]
    )


def _examples(
    config: EvaluateConfig,
    judge: ClaimJudge | None,
    rows: TrainingRows,
    trip: RoundTrip,
    known: Sequence[Mapping[str, str]],
) -> list[dict[str, Any]]:
    """Rows drawn at random from different documents: not picked by how well they went."""
    order = np.random.default_rng(config.seed).permutation(len(rows))
    picked: dict[str, int] = {}
    for index in order:
        picked.setdefault(rows.doc_ids[index], int(index))
    examples = []
    for i in list(picked.values())[: config.examples]:
        context, text = rows.contexts[i], trip.texts[i] or trip.rollouts[i].text
        examples.append(
            {
                "doc_id": rows.doc_ids[i],
                "position": rows.positions[i],
                "token": rows.tokens[i],
                "text": context[-CONTEXT_CHARS:],
                "explanation": text,
                "fve": 1 - float(trip.errors[i]) / trip.variance,
                "cosine": cosine(float(trip.errors[i])),
                "flags": [*([] if trip.extracted[i] else ["failed"]), *_flags(rows, i)],
                "claims": [asdict(claim) for claim in judge.judge(text, rows.doc_ids[i], context)]
                if judge
                else [],
                "facts": dict(known[i]),
            }
        )
    return examples
