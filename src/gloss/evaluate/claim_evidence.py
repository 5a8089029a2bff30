"""Every claim of some explanations with what shows without knowing the truth, and its verdict.

claims    = sentences and lines of the greedy explanations
verdict   = right if every judged claim within is, else the worst of them
features  = those of the trust score: what is lost without the claim, agreement of samples, how much
            of it is said of other tokens and of other texts"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gloss.engines import Engine
from gloss.evaluate.round_trip import RoundTrip, round_trip
from gloss.models import ActivationReconstructor, direction_mse
from gloss.nla.claim_texts import split_claims
from gloss.nla.trust_score import FEATURES, Array, Wording, claim_features
from gloss.plugins import ClaimJudge, Verdict
from gloss.seeds import keyed_bits
from gloss.train.inputs import TrainingRows

SAMPLES, REFERENCE_TEXTS, OTHER_TOKENS = 4, 100, 8
_WORST: tuple[Verdict, ...] = ("wrong", "absent", "text only", "right")


@dataclass(frozen=True)
class ClaimEvidence:
    """Claims [n] of explanations of ``doc_ids`` [n]: features [n, features] and verdicts [n].

    ``reference`` are explanations of documents that none of the claims is of."""

    features: Array
    verdicts: Sequence[Verdict]
    doc_ids: Sequence[str]
    reference: Sequence[str]

    @property
    def true(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which claims are right."""
        return np.array([verdict == "right" for verdict in self.verdicts], dtype=bool)

    def column(self, name: str) -> Array:
        """One feature of all claims [n]."""
        found: Array = self.features[:, FEATURES.index(name)]
        return found

    def aurocs(self) -> dict[str, float]:
        """Chance that a right claim has more of a single thing than one that is not: what is lost
        without it, how far samples say it, how much more it is said of the text's other tokens than
        of other texts."""
        from sklearn.metrics import roc_auc_score

        true = self.true
        if true.all() or not true.any():
            return {}
        lost = np.nan_to_num(self.column("fve_lost"))
        above_base = np.nan_to_num(self.column("elsewhere") - self.column("base_rate"))
        single = {
            "fve_lost": lost,
            "in_samples": np.nan_to_num(self.column("in_samples")),
            "elsewhere": np.nan_to_num(self.column("elsewhere")),
            "elsewhere_above_base": above_base,
        }
        return {name: float(roc_auc_score(true, values)) for name, values in single.items()}

    def by_verdict(self) -> dict[str, dict[str, float | int | None]]:
        """Of each verdict how many claims have it, the FVE lost without one, and how much of
        them is said of other tokens beyond what is said of other texts."""
        above_base = self.column("elsewhere") - self.column("base_rate")
        verdicts = np.array(self.verdicts)
        return {
            verdict: {
                "n_claims": int((verdicts == verdict).sum()),
                "fve_lost": _mean(self.column("fve_lost")[verdicts == verdict]),
                "elsewhere_above_base": _mean(above_base[verdicts == verdict]),
                "in_samples": _mean(self.column("in_samples")[verdicts == verdict]),
            }
            for verdict in reversed(_WORST)
            if (verdicts == verdict).any()
        }


def gather_evidence(
    engine: Engine,
    ar: ActivationReconstructor,
    trip: RoundTrip,
    rows: TrainingRows,
    judge: ClaimJudge,
    *,
    max_rows: int,
    max_new_tokens: int,
    seed: int,
) -> ClaimEvidence | None:
    """The evidence on claims of at most ``max_rows`` explanations of a trip; None if there are too
    few documents to keep some aside, or no claims."""
    kept, aside = _two_parts(rows.doc_ids, seed)
    kept = [row for row in kept if trip.texts[row]][:max_rows]
    reference = [trip.texts[row] for row in aside if trip.texts[row]][:REFERENCE_TEXTS]
    if not kept or not reference:
        return None
    activations = torch.from_numpy(rows.vectors)
    samples = [
        round_trip(
            engine,
            ar,
            activations[kept],
            temperature=1.0,
            max_new_tokens=max_new_tokens,
            seed=seed + 1 + i,
            rows=kept,
        )
        for i in range(SAMPLES)
    ]
    claims = [split_claims(trip.texts[row]) for row in kept]
    lost = _lost_without(ar, trip, kept, claims, activations)
    wording, others = Wording(reference), _of_other_tokens(trip, rows.doc_ids, kept)
    features, verdicts, doc_ids = [], [], []
    for i, row in enumerate(kept):
        found = [_verdict(judge, claim, rows, row) for claim in claims[i]]
        of_claims = claim_features(
            wording,
            claims[i],
            fve=_fve(trip.errors[row], trip.variance),
            lost=lost[i],
            samples=[(one.texts[i] or None, _fve(one.errors[i], trip.variance)) for one in samples],
            others=others[i],
        )
        judged = [j for j, verdict in enumerate(found) if verdict is not None]
        features.append(of_claims[judged])
        verdicts += [verdict for verdict in found if verdict is not None]
        doc_ids += [rows.doc_ids[row]] * len(judged)
    if not verdicts:
        return None
    return ClaimEvidence(np.concatenate(features), verdicts, doc_ids, reference)


def _two_parts(doc_ids: Sequence[str], seed: int) -> tuple[list[int], list[int]]:
    """Rows of three quarters of the documents, and of the others, documents in random order."""
    names = sorted(set(doc_ids), key=lambda name: keyed_bits(seed, name, purpose="trust score"))
    order = {name: i for i, name in enumerate(names)}
    rows = sorted(range(len(doc_ids)), key=lambda row: (order[doc_ids[row]], row))
    split = len(names) - len(names) // 4
    parts: tuple[list[int], list[int]] = ([], [])
    for row in rows:
        parts[order[doc_ids[row]] >= split].append(row)
    return parts


def _verdict(judge: ClaimJudge, claim: str, rows: TrainingRows, row: int) -> Verdict | None:
    verdicts = {one.verdict for one in judge.judge(claim, rows.doc_ids[row], rows.contexts[row])}
    return next((verdict for verdict in _WORST if verdict in verdicts), None)


def _lost_without(
    ar: ActivationReconstructor,
    trip: RoundTrip,
    kept: Sequence[int],
    claims: Sequence[Sequence[str]],
    activations: torch.Tensor,
) -> list[list[float | None]]:
    """Of every claim the FVE that its explanation loses without it; None for an only claim."""
    texts, rows = [], []
    for row, of_row in zip(kept, claims, strict=True):
        if len(of_row) > 1:
            texts += ["\n".join([*of_row[:i], *of_row[i + 1 :]]) for i in range(len(of_row))]
            rows += [row] * len(of_row)
    if not texts:
        return [[None] * len(of_row) for of_row in claims]
    errors = direction_mse(ar.reconstruct(texts), activations[rows])
    lost = iter(((errors - trip.errors[rows]) / trip.variance).tolist())
    return [[next(lost) if len(of_row) > 1 else None for _ in of_row] for of_row in claims]


def _of_other_tokens(
    trip: RoundTrip, doc_ids: Sequence[str], kept: Sequence[int]
) -> list[list[str]]:
    """Of every kept row the explanations of other rows of its document."""
    rows_of: dict[str, list[int]] = {}
    for row, doc_id in enumerate(doc_ids):
        rows_of.setdefault(doc_id, []).append(row)
    return [
        [trip.texts[o] for o in rows_of[doc_ids[row]] if o != row and trip.texts[o]][:OTHER_TOKENS]
        for row in kept
    ]


def _fve(error: torch.Tensor, variance: float) -> float:
    return 1 - float(error) / variance


def _mean(values: Array) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
