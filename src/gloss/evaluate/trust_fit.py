"""Fits the trust score of an NLA on claims whose truth is known, and measures it on documents that
it was not fitted on.

score        quadratic logistic regression (scikit-learn) of the features of ``nla.trust_score``
quality      out of fold: five folds of whole documents"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gloss.evaluate.claim_evidence import ClaimEvidence
from gloss.nla.trust_score import Array, CalibrationBin, TrustScore, terms

FOLDS, BINS = 5, 10
MIN_CLAIMS, MIN_DOCUMENTS = 50, 5
_C = 0.1


def fit_trust_score(evidence: ClaimEvidence) -> TrustScore | None:
    """The score; None where too few claims were judged, or all are true or none."""
    true = evidence.true
    folds = _folds(evidence.doc_ids)
    if len(true) < MIN_CLAIMS or len(set(evidence.doc_ids)) < MIN_DOCUMENTS:
        return None
    if min(true.sum(), (~true).sum()) < FOLDS:
        return None
    predicted = np.zeros(len(true))
    for fold in range(FOLDS):
        here = folds == fold
        if len(set(true[~here])) < 2:
            return None
        part = _fitted(evidence.features[~here], true[~here])
        predicted[here] = _score(part, evidence, {}).probabilities(evidence.features[here])
    quality = {
        "auroc": auroc(predicted, true),
        "calibration": (curve := calibration(predicted, true)),
        "calibration_error": sum(abs(one.predicted - one.true) * one.n for one in curve)
        / len(true),
    }
    return _score(_fitted(evidence.features, true), evidence, quality)


def auroc(scores: Array, true: np.ndarray[Any, np.dtype[np.bool_]]) -> float:
    """Chance that a true claim scores above a false one, ties counting half."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(true, scores))


def calibration(
    predicted: Array, true: np.ndarray[Any, np.dtype[np.bool_]]
) -> tuple[CalibrationBin, ...]:
    """Claims in order of their score, in ten bins of equally many."""
    parts = np.array_split(np.argsort(predicted, kind="stable"), min(BINS, len(predicted)))
    return tuple(
        CalibrationBin(predicted=predicted[rows].mean(), true=true[rows].mean(), n=len(rows))
        for rows in parts
    )


def _folds(doc_ids: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    _, document = np.unique(np.asarray(doc_ids), return_inverse=True)
    return (document % FOLDS).astype(np.int64)


def _fitted(features: Array, true: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, Any]:
    """Mean, scale, coefficients and intercept."""
    from sklearn.linear_model import LogisticRegression

    known = np.where(np.isfinite(features).any(axis=0), features, 0.0)
    mean, scale = np.nanmean(known, axis=0), np.nanstd(known, axis=0)
    scale = np.where(scale > 1e-6, scale, 1.0)
    model = LogisticRegression(C=_C, max_iter=5000)
    model.fit(terms((features - mean) / scale), true)
    return {
        "mean": mean.tolist(),
        "scale": scale.tolist(),
        "coefficients": model.coef_[0].tolist(),
        "intercept": float(model.intercept_[0]),
    }


def _score(part: dict[str, Any], evidence: ClaimEvidence, quality: dict[str, Any]) -> TrustScore:
    unknown: dict[str, Any] = {"auroc": 0.5, "calibration_error": 1.0, "calibration": ()}
    return TrustScore(
        reference=tuple(evidence.reference),
        true_share=float(evidence.true.mean()),
        n_claims=len(evidence.verdicts),
        n_documents=len(set(evidence.doc_ids)),
        **part,
        **{**unknown, **quality},
    )
