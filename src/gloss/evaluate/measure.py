"""The evaluation stage: round trips of the SFT and the trained NLA on held-out documents, controls,
claims, examples.
"""

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
    """Measures an NLA and returns the numbers and examples of ``results.json``.

    ``heldout_labels`` is the AR dataset of the held-out documents (for the AR's FVE on labels),
    ``probe_dataset`` activations of training documents, ``judge`` knows the truth where there is
    one. Everything runs in float32.
    Raises: DatasetError, CheckpointError.
    """
    rows = read_training_rows(heldout, text_column=None).first(config.max_rows)
    activations = torch.from_numpy(rows.vectors)
    kernel = config.attn_implementation
    ar_sft, ar = (load_ar(folder, attn_implementation=kernel) for folder in (nla.ar_sft, nla.ar))
    av_sft, av = (load_av(folder, attn_implementation=kernel) for folder in (nla.av_sft, nla.av))
    check_same_activations(av.sidecar, ar.sidecar, ar_sft.sidecar, rows.sidecar)
    with Stage("evaluate", total=5, unit="pass") as progress:
        measured = partial(_round_trips, config, activations, progress)
        sft, sft_sampled = measured("SFT ", LocalEngine(av_sft), ar_sft)
        trip, sampled = measured("", LocalEngine(av), ar)
        known = _known(judge, rows)
        probed = _probe_rows(config, judge, probe_dataset)
        claims = _claims(judge, rows, trip, known, probed)
        examples = _examples(config, judge, rows, trip, known)
        progress.advance()
    resamples, seed = config.bootstrap_resamples, config.seed
    interval = bootstrap_fve(trip.errors, activations, rows.doc_ids, resamples=resamples, seed=seed)
    return {
        "fve": {
            "ar_on_labels": _fve_on_labels(ar_sft, heldout_labels),
            "sft": sft.fve,
            "rl": trip.fve,
            "rl_ci95": list(interval),
            "sft_sampled": sft_sampled.fve,
            "rl_sampled": sampled.fve,
        },
        "controls": control_fves(ar, trip, activations, seed=seed),
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


def _round_trips(
    config: EvaluateConfig,
    activations: torch.Tensor,
    progress: Stage,
    name: str,
    engine: LocalEngine,
    ar: ActivationReconstructor,
) -> tuple[RoundTrip, RoundTrip]:
    """Greedy, and sampled at temperature 1."""
    trips = []
    for way, temperature in (("greedy", 0.0), ("sampled", 1.0)):
        trip = round_trip(
            engine,
            ar,
            activations,
            temperature=temperature,
            max_new_tokens=config.max_new_tokens,
            seed=config.seed,
        )
        progress.advance(note=f"{name}{way} FVE {trip.fve:.3f}")
        trips.append(trip)
    return trips[0], trips[1]


def _fve_on_labels(ar: ActivationReconstructor, labelled: Path | None) -> float | None:
    if labelled is None:
        return None
    rows = read_training_rows(labelled, text_column="prompt")
    activations = torch.from_numpy(rows.vectors)
    errors = direction_mse(ar.reconstruct_encoded(ar.encode_prompts(rows.texts)), activations)
    return fraction_of_variance_explained(errors, direction_variance(activations))


def _known(judge: ClaimJudge | None, rows: TrainingRows) -> list[Mapping[str, str]]:
    places = zip(rows.doc_ids, rows.contexts, strict=True)
    return [judge.known(*place) if judge else {} for place in places]


def _probe_rows(
    config: EvaluateConfig, judge: ClaimJudge | None, dataset: Path | None
) -> FactRows | None:
    if judge is None or dataset is None or config.probe_rows == 0:
        return None
    rows = read_training_rows(dataset, text_column=None).first(config.probe_rows)
    return FactRows(rows.vectors, _known(judge, rows))


def _claims(
    judge: ClaimJudge | None,
    rows: TrainingRows,
    trip: RoundTrip,
    known: Sequence[Mapping[str, str]],
    probe_rows: FactRows | None,
) -> dict[str, Any]:
    if judge is None:
        return {}
    heldout = FactRows(rows.vectors, known)
    scores = score_claims(
        judge, trip.texts, rows.doc_ids, rows.contexts, heldout=heldout, probe_rows=probe_rows
    )
    return {kind: asdict(score) for kind, score in scores.items()}


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
