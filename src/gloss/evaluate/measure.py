"""The evaluation stage: round trips after SFT and RL on held-out documents, controls, claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
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
    """Measures an NLA in float32 and returns the contents of ``results.json``.

    ``heldout_labels`` is the AR dataset of the held-out documents, ``probe_dataset`` holds training
    documents, ``judge`` knows the truth. Raises: DatasetError, CheckpointError."""
    rows = read_training_rows(heldout, text_column=None).first(config.max_rows)
    activations = torch.from_numpy(rows.vectors)
    kernel = config.attn_implementation
    trip_of = partial(round_trip, max_new_tokens=config.max_new_tokens, seed=config.seed)
    with Stage("evaluate", total=5, unit="pass") as progress:
        ar_sft = load_ar(nla.ar_sft, attn_implementation=kernel)
        sft_engine = LocalEngine(load_av(nla.av_sft, attn_implementation=kernel))
        sft = trip_of(sft_engine, ar_sft, activations, temperature=0.0)
        progress.advance(note=f"SFT greedy FVE {sft.fve:.3f}")
        sft_sampled = trip_of(sft_engine, ar_sft, activations, temperature=1.0)
        progress.advance(note=f"SFT sampled FVE {sft_sampled.fve:.3f}")
        ar = load_ar(nla.ar, attn_implementation=kernel)
        engine = LocalEngine(load_av(nla.av, attn_implementation=kernel))
        check_same_activations(engine.av.sidecar, ar.sidecar, ar_sft.sidecar, rows.sidecar)
        trip = trip_of(engine, ar, activations, temperature=0.0)
        progress.advance(note=f"greedy FVE {trip.fve:.3f}")
        sampled = trip_of(engine, ar, activations, temperature=1.0)
        progress.advance(note=f"sampled FVE {sampled.fve:.3f}")
        claims, examples = _claims_and_examples(config, judge, rows, trip, probe_dataset)
        progress.advance()
    bootstrap = {"resamples": config.bootstrap_resamples, "seed": config.seed}
    interval = bootstrap_fve(trip.errors, activations, rows.doc_ids, **bootstrap)
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


def _fve_on_labels(ar: ActivationReconstructor, labelled: Path | None) -> float | None:
    if labelled is None:
        return None
    rows = read_training_rows(labelled, text_column="prompt")
    activations = torch.from_numpy(rows.vectors)
    errors = direction_mse(ar.reconstruct_encoded(ar.encode_prompts(rows.texts)), activations)
    return fraction_of_variance_explained(errors, direction_variance(activations))


def _claims_and_examples(
    config: EvaluateConfig,
    judge: ClaimJudge | None,
    rows: TrainingRows,
    trip: RoundTrip,
    probe_dataset: Path | None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if judge is None:
        return {}, _examples(config, None, rows, trip, [{} for _ in rows.doc_ids])
    heldout, probed = _facts(judge, rows), None
    if probe_dataset is not None and config.probe_rows:
        train = read_training_rows(probe_dataset, text_column=None)
        probed = _facts(judge, train.first(config.probe_rows))
    texts = trip.texts, rows.doc_ids, rows.contexts
    scored = score_claims(judge, *texts, heldout=heldout, probe_rows=probed)
    scores = {kind: asdict(score) for kind, score in scored.items()}
    return scores, _examples(config, judge, rows, trip, heldout.known)


def _facts(judge: ClaimJudge, rows: TrainingRows) -> FactRows:
    known = [judge.known(*row) for row in zip(rows.doc_ids, rows.contexts, strict=True)]
    return FactRows(rows.vectors, known)


def _flags(rows: TrainingRows, index: int) -> tuple[str, ...]:
    norm = float(np.linalg.norm(rows.vectors[index].astype(np.float64)))
    usual, position = rows.sidecar.norm_statistics, rows.positions[index]
    return activation_flags(norm=norm, norm_statistics=usual, position=position)


def _examples(
    config: EvaluateConfig,
    judge: ClaimJudge | None,
    rows: TrainingRows,
    trip: RoundTrip,
    known: Sequence[Mapping[str, str]],
) -> list[dict[str, Any]]:
    """Rows drawn at random from different documents: not picked by how well they went."""
    picked: dict[str, int] = {}
    for index in np.random.default_rng(config.seed).permutation(len(rows)).tolist():
        picked.setdefault(rows.doc_ids[index], index)
    examples = []
    for i in list(picked.values())[: config.examples]:
        context, text = rows.contexts[i], trip.texts[i] or trip.rollouts[i].text
        claims = judge.judge(text, rows.doc_ids[i], context) if judge else []
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
                "claims": [asdict(claim) for claim in claims],
                "facts": dict(known[i]),
            }
        )
    return examples
