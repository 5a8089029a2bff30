"""Claims of explanations, judged against known truth: precision and recall per kind, beside a
probe's ceiling and chance.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gloss.plugins import ClaimJudge, JudgedClaim

MAX_PROBE_ITERATIONS = 200
Vectors = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class FactRows:
    """Activations [n, d_model] with the facts known at each."""

    vectors: Vectors
    known: Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class ClaimScores:
    """Of one kind: share of claims that are right, share of known facts that are claimed rightly,
    ceiling and chance.
    """

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
    """Scores per kind of fact; ``chance`` is the precision of the same explanations against other
    rows' documents.
    """
    n = len(explanations)
    judged = [judge.judge(*row) for row in zip(explanations, doc_ids, contexts, strict=True)]
    shift = max(1, n // 2)
    moved = [
        (explanations[i], doc_ids[(i + shift) % n], contexts[(i + shift) % n]) for i in range(n)
    ]
    by_chance = _counts(judge.judge(*row) for row in moved)
    counts = _counts(judged)
    known = Counter(kind for facts in heldout.known for kind in facts)
    kinds = sorted({kind for kind, _ in counts} | set(known))
    found = Counter(
        kind
        for claims in judged
        for kind in {claim.kind for claim in claims if claim.verdict == "right"}
    )
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


def _counts(claims: Iterable[Sequence[JudgedClaim]]) -> Counter[tuple[str, str]]:
    return Counter((claim.kind, claim.verdict) for row in claims for claim in row)


def _total(counts: Counter[tuple[str, str]], kind: str) -> int:
    return sum(counts[kind, verdict] for verdict in ("right", "wrong", "absent"))


def _precision(counts: Counter[tuple[str, str]], kind: str) -> float | None:
    total = _total(counts, kind)
    return counts[kind, "right"] / total if total else None


def _ceiling(kind: str, train: FactRows | None, test: FactRows) -> float | None:
    if train is None:
        return None
    rows = [i for i, facts in enumerate(train.known) if kind in facts]
    tested = [i for i, facts in enumerate(test.known) if kind in facts]
    return probe_accuracy(
        train.vectors[np.asarray(rows, dtype=int)],
        [train.known[i][kind] for i in rows],
        test.vectors[np.asarray(tested, dtype=int)],
        [test.known[i][kind] for i in tested],
    )


def probe_accuracy(
    train: Vectors,
    train_labels: Sequence[str],
    test: Vectors,
    test_labels: Sequence[str],
    *,
    max_rows: int = 4000,
) -> float | None:
    """What a linear map can read: accuracy on ``test`` of a multinomial logistic regression fitted
    on ``train``; None with too little to fit or test.

    Shapes: train and test [n, d_model], raw; features are standardised with the training
    statistics."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(set(train_labels)) < 2 or not len(test_labels):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe = make_pipeline(
            StandardScaler(), LogisticRegression(C=0.1, max_iter=MAX_PROBE_ITERATIONS)
        )
        probe.fit(train[:max_rows], list(train_labels[:max_rows]))
    return float(np.mean(probe.predict(test) == np.asarray(test_labels)))
