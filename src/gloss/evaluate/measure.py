"""The evaluation stage: round trips after SFT and RL on held-out documents, controls, claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gloss.contract import check_same_activations
from gloss.data.document_sample import sample_documents
from gloss.engines import LocalEngine
from gloss.errors import DatasetError
from gloss.evaluate.blind import BlindControls, blind_controls
from gloss.evaluate.claims import FactRows, score_claims
from gloss.evaluate.evaluate_config import EvaluateConfig
from gloss.evaluate.intervals import Documents, Interval, bootstrap_fve, bootstrap_gain
from gloss.evaluate.round_trip import RoundTrip, control_errors, round_trip
from gloss.formatting import decimal
from gloss.models import (
    ActivationReconstructor,
    cosine,
    direction_mse,
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
    every = read_training_rows(heldout, text_column=None)
    probed = _probe_rows(config, probe_dataset, every) if judge is not None else None
    chosen = sample_documents(every.doc_ids, config.max_rows, seed=config.seed)
    rows = every.take(chosen)
    activations = torch.from_numpy(rows.vectors)
    with Stage("evaluate", total=5, unit="pass") as progress:
        trips, ars, engine = _round_trips(config, nla, rows, chosen, progress)
        claims, examples = _claims_and_examples(config, judge, rows, trips["rl"], probed)
        progress.advance()
    ar_sft, ar = ars
    on_labels, labelled = _errors_on_labels(ar_sft, heldout_labels, rows)
    trip, sampled = trips["rl"], trips["rl_sampled"]
    controls = control_errors(ar, trip, activations, rows.doc_ids, seed=config.seed)
    blind = _blind_errors(config, engine, ar, trip, rows)
    bootstrap = {"resamples": config.bootstrap_resamples, "seed": config.seed}
    beside = {"sft": trips["sft"].errors, **controls, **blind.errors}
    gains = {f"rl_over_{name}": (trip.errors, errors) for name, errors in beside.items()}
    gains["rl_over_sft_sampled"] = (sampled.errors, trips["sft_sampled"].errors)
    documents = Documents.of(rows.doc_ids, **bootstrap)
    found = {name: _gain(*pair, trip.variance, documents) for name, pair in gains.items()}
    if labelled:
        few = Documents.of([rows.doc_ids[row] for row in labelled], **bootstrap)
        over = _gain(trip.errors[labelled], on_labels, trip.variance, few)
        found["rl_over_ar_on_labels"] = over
    return {
        "fve": {
            "ar_on_labels": _fve(on_labels, trip.variance) if labelled else None,
            **{name: one.fve for name, one in trips.items()},
            "rl_ci95": bootstrap_fve(trip.errors, activations, rows.doc_ids, **bootstrap),
        },
        "fve_extracted": {name: one.fve_extracted for name, one in trips.items()},
        "gains": found,
        "controls": {name: _fve(errors, trip.variance) for name, errors in controls.items()},
        "blind": _blind(blind, trip.fve, trip.variance),
        "claims": claims,
        "extraction_failure_rate": trip.failure_rate,
        "extraction_failure_rate_sampled": sampled.failure_rate,
        "loop_rate": trip.loop_rate,
        "loop_rate_sampled": sampled.loop_rate,
        "mean_explanation_tokens": trip.mean_tokens,
        "layer": rows.sidecar.layer,
        "n_heldout": len(rows),
        "n_heldout_documents": len(set(rows.doc_ids)),
        "n_heldout_labelled": len(labelled),
        "heldout_errors": sorted(round(error, 4) for error in trip.errors.tolist()),
        "examples": examples,
    }


_fve = fraction_of_variance_explained


def _blind_errors(
    config: EvaluateConfig,
    engine: LocalEngine,
    ar: ActivationReconstructor,
    trip: RoundTrip,
    rows: TrainingRows,
) -> BlindControls:
    return blind_controls(
        engine,
        ar,
        trip,
        torch.from_numpy(rows.vectors),
        doc_ids=rows.doc_ids,
        contexts=rows.contexts,
        positions=rows.positions,
        max_new_tokens=config.max_new_tokens,
        seed=config.seed,
    )


def _blind(blind: BlindControls, fve: float, variance: float) -> dict[str, Any]:
    best, highest = blind.best(variance)
    return {
        "controls": {name: _fve(errors, variance) for name, errors in blind.errors.items()},
        "best": best,
        "fve_above": fve - highest,
        "last_words": asdict(blind.guess),
    }


def _gain(
    errors: Tensor, before: Tensor, variance: float, documents: Documents
) -> dict[str, float | Interval | None]:
    gain = _fve(errors, variance) - _fve(before, variance)
    return {"fve": gain, "ci95": bootstrap_gain(errors, before, variance, documents)}


def _round_trips(
    config: EvaluateConfig,
    nla: NLAFolders,
    rows: TrainingRows,
    chosen: Sequence[int],
    progress: Stage,
) -> tuple[dict[str, RoundTrip], list[ActivationReconstructor], LocalEngine]:
    """The trips of both AVs, greedy and sampled, both ARs, that of SFT and that of RL, and the AV
    after RL."""
    activations, kernel = torch.from_numpy(rows.vectors), config.attn_implementation
    trips, ars = dict[str, RoundTrip](), list[ActivationReconstructor]()
    for name, av, ar in (("sft", nla.av_sft, nla.ar_sft), ("rl", nla.av, nla.ar)):
        ars.append(load_ar(ar, attn_implementation=kernel))
        engine = LocalEngine(load_av(av, attn_implementation=kernel))
        check_same_activations(engine.av.sidecar, *(one.sidecar for one in ars), rows.sidecar)
        for suffix, temperature in (("", 0.0), ("_sampled", 1.0)):
            trips[name + suffix] = round_trip(
                engine,
                ars[-1],
                activations,
                temperature=temperature,
                max_new_tokens=config.max_new_tokens,
                seed=config.seed,
                rows=chosen,
            )
            how = "sampled" if suffix else "greedy"
            fve = decimal(trips[name + suffix].fve, 3)
            progress.advance(note=f"{name.upper()} {how} FVE {fve}")
    return trips, ars, engine


def _probe_rows(
    config: EvaluateConfig, dataset: Path | None, heldout: TrainingRows
) -> TrainingRows | None:
    """Rows of documents that are not held out, for the probes.

    Raises: DatasetError if a document is."""
    if dataset is None or not config.probe_rows:
        return None
    rows = read_training_rows(dataset, text_column=None)
    if both := sorted(set(rows.doc_ids) & set(heldout.doc_ids)):
        raise DatasetError(
            "a document of the probes' data is held out",
            where=dataset,
            expected=f"no document of {heldout.path}",
            found=f"{both[0]!r}, one of {len(both)}",
            remedy="Split by document, for example with: gloss data split",
        )
    return rows.take(sample_documents(rows.doc_ids, config.probe_rows, seed=config.seed))


def _errors_on_labels(
    ar: ActivationReconstructor, labelled: Path | None, rows: TrainingRows
) -> tuple[Tensor, list[int]]:
    """Direction MSE of the AR on the labels of the measured rows, and which of these have one."""
    if labelled is None:
        return torch.zeros(0), []
    given = read_training_rows(labelled, text_column="prompt")
    text_of = dict(zip(_keys(given), given.texts, strict=True))
    texts = {row: text_of[key] for row, key in enumerate(_keys(rows)) if key in text_of}
    if not texts:
        return torch.zeros(0), []
    which = list(texts)
    rebuilt = ar.reconstruct_encoded(ar.encode_prompts(list(texts.values())))
    return direction_mse(rebuilt, torch.from_numpy(rows.vectors[which])), which


def _keys(rows: TrainingRows) -> list[tuple[str, bytes]]:
    """What tells an activation in two files: its document and its numbers."""
    vectors = (vector.tobytes() for vector in rows.vectors)
    return list(zip(rows.doc_ids, vectors, strict=True))


def _claims_and_examples(
    config: EvaluateConfig,
    judge: ClaimJudge | None,
    rows: TrainingRows,
    trip: RoundTrip,
    probed: TrainingRows | None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if judge is None:
        return {}, _examples(config, None, rows, trip, [{} for _ in rows.doc_ids])
    heldout = _facts(judge, rows)
    scored = score_claims(
        judge,
        trip.texts,
        rows.doc_ids,
        rows.contexts,
        heldout=heldout,
        probe_rows=None if probed is None else _facts(judge, probed),
        resamples=config.bootstrap_resamples,
        seed=config.seed,
    )
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
