"""Claims judged against known truth: precision and recall, beside a probe's ceiling and chance."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gloss.evaluate.intervals import Documents, Interval, Numbers
from gloss.evaluate.round_trip import other_documents
from gloss.plugins import ClaimJudge, JudgedClaim

MAX_PROBE_ITERATIONS = 200
Judged = Sequence[Sequence[JudgedClaim]]
Vectors = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class FactRows:
    """Activations [n, d_model] with the facts known at each."""

    vectors: Vectors
    known: Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class ClaimScores:
    """Of one kind: shares of claims and of known facts that are right, ceiling and chance.

    ``majority`` is the share of the commonest value among the known facts. ``n_values`` and
    ``commonest`` tell collapse: how many values are claimed, and the share of the commonest.
    ``above_chance_ci95`` is the 95 % interval of precision minus chance, resampling documents."""

    precision: float | None
    recall: float | None
    probe_ceiling: float | None
    chance: float | None
    n_claims: int
    n_known: int
    majority: float | None = None
    n_values: int = 0
    commonest: float | None = None
    above_chance_ci95: Interval | None = None


def score_claims(
    judge: ClaimJudge,
    explanations: Sequence[str],
    doc_ids: Sequence[str],
    contexts: Sequence[str],
    *,
    heldout: FactRows,
    probe_rows: FactRows | None,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, ClaimScores]:
    """Scores per kind of fact; ``chance`` judges the same texts against other documents."""
    places = list(zip(doc_ids, contexts, strict=True))
    others = [places[row] for row in other_documents(doc_ids, seed=seed)]
    judged, moved = (
        [judge.judge(text, *place) for text, place in zip(explanations, at, strict=True)]
        for at in (places, others)
    )
    documents = Documents.of(doc_ids, resamples=resamples, seed=seed)
    kinds = {claim.kind for claims in (*judged, *moved) for claim in claims}
    return {
        kind: _scores(kind, judged, moved, heldout, probe_rows, documents)
        for kind in sorted(kinds.union(*heldout.known))
    }


def _scores(
    kind: str,
    judged: Judged,
    moved: Judged,
    heldout: FactRows,
    probe_rows: FactRows | None,
    documents: Documents,
) -> ClaimScores:
    claims, right = _per_row(judged, kind)
    by_chance, right_by_chance = _per_row(moved, kind)
    values = [claim.value for row in judged for claim in row if claim.kind == kind]
    known = np.array([kind in facts for facts in heldout.known], dtype=bool)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, chance = (
            documents.sums(some) / documents.sums(every)
            for some, every in ((right, claims), (right_by_chance, by_chance))
        )
    return ClaimScores(
        precision=_share(right.sum(), claims.sum()),
        recall=_share((right[known] > 0).sum(), known.sum()),
        probe_ceiling=_ceiling(kind, probe_rows, heldout),
        chance=_share(right_by_chance.sum(), by_chance.sum()),
        n_claims=int(claims.sum()),
        n_known=int(known.sum()),
        majority=_share_of_commonest([facts[kind] for facts in heldout.known if kind in facts]),
        n_values=len(set(values)),
        commonest=_share_of_commonest(values),
        above_chance_ci95=documents.interval(precision - chance),
    )


def _per_row(judged: Judged, kind: str) -> tuple[Numbers, Numbers]:
    """Of every row the number of its claims of a kind, and how many of them are right."""
    verdicts = [[claim.verdict for claim in row if claim.kind == kind] for row in judged]
    claims = np.array([len(row) for row in verdicts], dtype=np.float64)
    return claims, np.array([row.count("right") for row in verdicts], dtype=np.float64)


def _share(part: float, total: float) -> float | None:
    return float(part / total) if total else None


def _share_of_commonest(values: Sequence[str]) -> float | None:
    return _share(max(Counter(values).values()), len(values)) if values else None


def _ceiling(kind: str, train: FactRows | None, test: FactRows) -> float | None:
    if train is None:
        return None
    return probe_accuracy(*_of_kind(kind, train), *_of_kind(kind, test))


def _of_kind(kind: str, rows: FactRows) -> tuple[Vectors, list[str]]:
    knows = np.array([kind in facts for facts in rows.known], dtype=bool)
    return rows.vectors[knows], [facts[kind] for facts in rows.known if kind in facts]


def probe_accuracy(
    train: Vectors,
    train_labels: Sequence[str],
    test: Vectors,
    test_labels: Sequence[str],
) -> float | None:
    """Test accuracy of logistic regression on raw [n, d_model]; None with too little data."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(set(train_labels)) < 2 or not len(test_labels):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=0.1, max_iter=MAX_PROBE_ITERATIONS)
        probe = make_pipeline(StandardScaler(), model)
        probe.fit(train, list(train_labels))
    return float(np.mean(probe.predict(test) == np.asarray(test_labels)))
