"""The evaluation: round trips on held-out activations, controls, claims, rewrites, trust.

A run's NLA is measured beside the halves that its RL began with; any other NLA alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gloss.contract import check_same_activations
from gloss.data.document_sample import sample_documents
from gloss.durable import write_json
from gloss.engines import Engine, LocalEngine
from gloss.errors import DatasetError
from gloss.evaluate.any_activations import read_any_rows
from gloss.evaluate.blind import BlindControls, blind_controls
from gloss.evaluate.claim_evidence import gather_evidence
from gloss.evaluate.claims import ClaimMeasures, measure_claims
from gloss.evaluate.evaluate_config import EvaluateConfig
from gloss.evaluate.intervals import Documents, Interval, bootstrap_fve, bootstrap_gain
from gloss.evaluate.on_labels import errors_on_labels
from gloss.evaluate.random_examples import random_examples
from gloss.evaluate.readers import FactRows
from gloss.evaluate.rewrites import measure_rewrites
from gloss.evaluate.round_trip import RoundTrip, control_errors, round_trip
from gloss.evaluate.steering import measure_steering
from gloss.evaluate.trust_fit import fit_trust_score
from gloss.formatting import decimal
from gloss.models import (
    ActivationReconstructor,
    fraction_of_variance_explained,
    load_ar,
    load_av,
)
from gloss.plugins import ClaimJudge, steering_bench
from gloss.progress import Stage
from gloss.target_model import Target, load_target
from gloss.train.inputs import TrainingRows, read_training_rows

if TYPE_CHECKING:
    from gloss.nla import NLA


@dataclass(frozen=True)
class NLAFolders:
    """The two halves after SFT and after joint RL."""

    av_sft: Path
    ar_sft: Path
    av: Path
    ar: Path


@dataclass(frozen=True)
class Halves:
    """What writes explanations, and what reads them."""

    engine: Engine
    ar: ActivationReconstructor


@dataclass(frozen=True)
class _Measured:
    """What is measured: the rows and their numbers in the whole file, the judge of their claims
    with rows to fit readers on, the labels' file, the target where it may be steered."""

    config: EvaluateConfig
    rows: TrainingRows
    numbers: Sequence[int]
    judge: ClaimJudge | None
    probed: TrainingRows | None
    labels: Path | None
    target: Callable[[], Target] | None

    @property
    def activations(self) -> Tensor:
        """The activations [n, d_model]."""
        return torch.from_numpy(self.rows.vectors)


def evaluate(
    config: EvaluateConfig,
    *,
    nla: NLAFolders,
    heldout: Path,
    judge: ClaimJudge | None = None,
    heldout_labels: Path | None = None,
    probe_dataset: Path | None = None,
    target: str | None = None,
    trust_score: Path | None = None,
) -> dict[str, Any]:
    """Measures a run's NLA in float32 and returns the contents of ``results.json``.

    ``heldout_labels`` is the AR dataset of the held-out documents, ``probe_dataset`` holds training
    documents, ``judge`` knows the truth; a ``target`` is steered where the judge has texts for it;
    a trust score that is fitted goes to ``trust_score``.
    Raises: DatasetError, CheckpointError."""
    every = read_training_rows(heldout, text_column=None)
    probed = _probe_rows(config, probe_dataset, every) if judge is not None else None
    kernel = config.attn_implementation

    def halves(av: Path, ar: Path) -> Halves:
        loaded = load_ar(ar, attn_implementation=kernel)
        engine = LocalEngine(load_av(av, attn_implementation=kernel))
        check_same_activations(engine.av.sidecar, loaded.sidecar, every.sidecar)
        return Halves(engine, loaded)

    stages = {
        "sft": lambda: halves(nla.av_sft, nla.ar_sft),
        "rl": lambda: halves(nla.av, nla.ar),
    }
    load = None if target is None else partial(load_target, target)
    measured = _chosen(config, every, judge, probed, heldout_labels, load)
    return _results(measured, stages, trust_score)


def evaluate_nla(
    config: EvaluateConfig,
    nla: NLA,
    activations: Path,
    *,
    judge: ClaimJudge | None = None,
    trust_score: Path | None = None,
) -> dict[str, Any]:
    """Measures any NLA on any file of activations, with or without their texts; results as those of
    ``evaluate`` without the lines of SFT and labels, none of them a reader's.

    Raises: DatasetError, ActivationError; SidecarError for activations of another width or layer.
    """
    every = read_any_rows(activations, nla)
    if judge is not None and not all(every.doc_ids):
        raise DatasetError(
            "the truth is known of documents, and a row is of none",
            where=activations,
            expected="a Parquet file with doc_id and detokenized_text_truncated",
            remedy="Leave --judge out, or extract: gloss data extract",
        )
    load = None if nla.places.target is None else lambda: nla.target
    measured = _chosen(config, every, judge, None, None, load)
    return _results(measured, {"rl": lambda: Halves(nla.engine, nla.ar)}, trust_score)


def _chosen(
    config: EvaluateConfig,
    every: TrainingRows,
    judge: ClaimJudge | None,
    probed: TrainingRows | None,
    labels: Path | None,
    target: Callable[[], Target] | None,
) -> _Measured:
    numbers = sample_documents(every.doc_ids, config.max_rows, seed=config.seed)
    return _Measured(config, every.take(numbers), numbers, judge, probed, labels, target)


def _results(
    of: _Measured, stages: Mapping[str, Callable[[], Halves]], trust_score: Path | None
) -> dict[str, Any]:
    config, rows, activations = of.config, of.rows, of.activations
    with Stage("evaluate", total=2 * len(stages) + 4, unit="pass") as progress:
        trips, first_ar, halves = _round_trips(of, stages, progress)
        trip, sampled = trips["rl"], trips["rl_sampled"]
        controls = control_errors(halves.ar, trip, activations, _documents(rows), seed=config.seed)
        blind = _blind_errors(config, halves, trip, rows)
        progress.advance(note="controls")
        claims = _claims(of, trips)
        progress.advance(note="claims")
        trust = _trust(of, halves, trip, trust_score)
        rewrites = _rewrites(of, halves, trip)
        progress.advance(note="rewrites")
        steering = _steering(of, halves)
        progress.advance(note="steering")
    on_labels, labelled = errors_on_labels(first_ar, of.labels, rows)
    bootstrap = {"resamples": config.bootstrap_resamples, "seed": config.seed}
    return {
        "fve": {
            "ar_on_labels": _fve(on_labels, trip.variance) if labelled else None,
            **{name: one.fve for name, one in trips.items()},
            "rl_ci95": bootstrap_fve(trip.errors, activations, rows.doc_ids, **bootstrap),
        },
        "fve_extracted": {name: one.fve_extracted for name, one in trips.items()},
        "gains": _gains(of, trips, {**controls, **blind.errors}, on_labels, labelled),
        "controls": {name: _fve(errors, trip.variance) for name, errors in controls.items()},
        "blind": _blind(blind, trip.fve, trip.variance),
        "claims": {kind: asdict(score) for kind, score in claims.kinds.items()},
        "truth": claims.truth,
        "trust": trust,
        "rewrites": rewrites,
        "steering": steering,
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
        "examples": random_examples(config, of.judge, rows, trip, claims.known),
    }


_fve = fraction_of_variance_explained


def _round_trips(
    of: _Measured, stages: Mapping[str, Callable[[], Halves]], progress: Stage
) -> tuple[dict[str, RoundTrip], ActivationReconstructor, Halves]:
    """The trips of every stage, greedy and sampled, the first stage's AR, and the last's halves."""
    trips, ars = dict[str, RoundTrip](), list[ActivationReconstructor]()
    halves = None
    for name, load in stages.items():
        halves = load()
        ars.append(halves.ar)
        for suffix, temperature in (("", 0.0), ("_sampled", 1.0)):
            trips[name + suffix] = round_trip(
                halves.engine,
                halves.ar,
                of.activations,
                temperature=temperature,
                max_new_tokens=of.config.max_new_tokens,
                seed=of.config.seed,
                rows=of.numbers,
            )
            how = "sampled" if suffix else "greedy"
            fve = decimal(trips[name + suffix].fve, 3)
            progress.advance(note=f"{name.upper()} {how} FVE {fve}")
    assert halves is not None
    return trips, ars[0], halves


def _gains(
    of: _Measured,
    trips: Mapping[str, RoundTrip],
    controls: Mapping[str, Tensor],
    on_labels: Tensor,
    labelled: Sequence[int],
) -> dict[str, Any]:
    """What the NLA has over every other line, with paired intervals over documents."""
    trip, doc_ids = trips["rl"], of.rows.doc_ids
    bootstrap = {"resamples": of.config.bootstrap_resamples, "seed": of.config.seed}
    gains = {f"rl_over_{name}": (trip.errors, errors) for name, errors in controls.items()}
    if "sft" in trips:
        gains = {"rl_over_sft": (trip.errors, trips["sft"].errors), **gains}
        gains["rl_over_sft_sampled"] = (trips["rl_sampled"].errors, trips["sft_sampled"].errors)
    documents = Documents.of(doc_ids, **bootstrap)
    found = {name: _gain(*pair, trip.variance, documents) for name, pair in gains.items()}
    if labelled:
        few = Documents.of([doc_ids[row] for row in labelled], **bootstrap)
        over = _gain(trip.errors[labelled], on_labels, trip.variance, few)
        found["rl_over_ar_on_labels"] = over
    return found


def _gain(
    errors: Tensor, before: Tensor, variance: float, documents: Documents
) -> dict[str, float | Interval | None]:
    gain = _fve(errors, variance) - _fve(before, variance)
    return {"fve": gain, "ci95": bootstrap_gain(errors, before, variance, documents)}


def _blind_errors(
    config: EvaluateConfig, halves: Halves, trip: RoundTrip, rows: TrainingRows
) -> BlindControls:
    return blind_controls(
        halves.engine,
        halves.ar,
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
        "last_words": None if blind.guess is None else asdict(blind.guess),
    }


def _claims(of: _Measured, trips: Mapping[str, RoundTrip]) -> ClaimMeasures:
    """Claims of every trip against known truth; nothing without a judge."""
    judge, rows = of.judge, of.rows
    if judge is None:
        return ClaimMeasures({}, {}, [{} for _ in rows.doc_ids])
    return measure_claims(
        judge,
        {name: trip.texts for name, trip in trips.items()},
        rows.doc_ids,
        rows.contexts,
        heldout=_facts(judge, rows),
        probe_rows=None if of.probed is None else _facts(judge, of.probed),
        resamples=of.config.bootstrap_resamples,
        seed=of.config.seed,
    )


def _facts(judge: ClaimJudge, rows: TrainingRows) -> FactRows:
    known = [judge.known(*row) for row in zip(rows.doc_ids, rows.contexts, strict=True)]
    return FactRows(rows.vectors, known, rows.doc_ids)


def _trust(
    of: _Measured, halves: Halves, trip: RoundTrip, file: Path | None
) -> dict[str, Any] | None:
    """What claims of each verdict show, and how well a fitted score tells the true ones."""
    if of.judge is None or not of.config.trust_rows:
        return None
    evidence = gather_evidence(
        halves.engine,
        halves.ar,
        trip,
        of.rows,
        of.judge,
        max_rows=of.config.trust_rows,
        max_new_tokens=of.config.max_new_tokens,
        seed=of.config.seed,
    )
    if evidence is None:
        return None
    score = fit_trust_score(evidence)
    if file is not None:
        file.unlink(missing_ok=True)
    if score is not None and file is not None:
        write_json(file, score.model_dump(mode="json"))
    quality = {"auroc", "calibration_error", "calibration", "true_share", "n_claims", "n_documents"}
    return {
        "score": None if score is None else score.model_dump(mode="json", include=quality),
        "by_verdict": evidence.by_verdict(),
        "auroc_of": evidence.aurocs(),
    }


def _documents(rows: TrainingRows) -> Sequence[str] | None:
    """The document of every row; None where documents are not known."""
    return rows.doc_ids if any(rows.doc_ids) else None


def _rewrites(of: _Measured, halves: Halves, trip: RoundTrip) -> dict[str, Any]:
    config = of.config
    documents = Documents.of(
        of.rows.doc_ids, resamples=config.bootstrap_resamples, seed=config.seed
    )
    return measure_rewrites(halves.ar, trip, of.activations, of.judge, documents, seed=config.seed)


def _steering(of: _Measured, halves: Halves) -> dict[str, Any] | None:
    """What an edit of an explanation changes of what the target writes, where that is known."""
    bench, config = steering_bench(of.judge), of.config
    if bench is None or of.target is None or not config.steering_texts:
        return None
    return measure_steering(
        halves.engine,
        halves.ar,
        of.target(),
        of.rows.sidecar.layer,
        bench,
        cases=config.steering_texts,
        tuned_on=max(1, int(0.4 * config.steering_texts)),
        max_new_tokens=config.max_new_tokens,
        seed=config.seed,
    )


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
