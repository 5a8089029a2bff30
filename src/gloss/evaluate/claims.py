"""Claims judged against known truth: precision and recall, beside a probe's ceiling and chance."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, get_args

import numpy as np

from gloss.plugins import ClaimJudge, Verdict

MAX_PROBE_ITERATIONS = 200
Counts = Counter[tuple[str, Verdict]]
Vectors = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class FactRows:
    """Activations [n, d_model] with the facts known at each."""

    vectors: Vectors
    known: Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class ClaimScores:
    """Of one kind: shares of claims and of known facts that are right, ceiling and chance."""

    precision: float | None
    recall: float | None
    probe_ceiling: float | None
    chance: float | None
    n_claims: int
    n_known: int


def score_claims(
    judge: ClaimJudge,
    explanations: Sequence[str],
    doc_ids: Sequence[str],
    contexts: Sequence[str],
    *,
    heldout: FactRows,
    probe_rows: FactRows | None,
) -> dict[str, ClaimScores]:
    """Scores per kind of fact; ``chance`` judges the same texts against other rows' documents."""
    places = list(zip(doc_ids, contexts, strict=True))
    shift = max(1, len(places) // 2)
    judged, moved = (
        [judge.judge(text, *place) for text, place in zip(explanations, at, strict=True)]
        for at in (places, places[shift:] + places[:shift])
    )
    counts, by_chance = (
        Counter((claim.kind, claim.verdict) for claims in rows for claim in claims)
        for rows in (judged, moved)
    )
    known = Counter(kind for facts in heldout.known for kind in facts)
    kinds = sorted({kind for kind, _ in counts} | set(known))
    right = ({claim.kind for claim in claims if claim.verdict == "right"} for claims in judged)
    found = Counter(chain.from_iterable(right))
    return {
        kind: ClaimScores(
            precision=_precision(counts, kind),
            recall=min(1.0, found[kind] / known[kind]) if known[kind] else None,
            probe_ceiling=_ceiling(kind, probe_rows, heldout),
            chance=_precision(by_chance, kind),
            n_claims=_total(counts, kind),
            n_known=known[kind],
        )
        for kind in kinds
    }


def _total(counts: Counts, kind: str) -> int:
    return sum(counts[kind, verdict] for verdict in get_args(Verdict))


def _precision(counts: Counts, kind: str) -> float | None:
    total = _total(counts, kind)
    return counts[kind, "right"] / total if total else None


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
    *,
    max_rows: int = 4000,
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
        probe.fit(train[:max_rows], list(train_labels[:max_rows]))
    return float(np.mean(probe.predict(test) == np.asarray(test_labels)))
