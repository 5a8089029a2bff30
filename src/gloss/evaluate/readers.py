"""The best reader of a fact: what classifiers, fitted on other documents, read from an activation.

linear       logistic regression on standardised activations [n, d_model]
non-linear   support vector machine with a Gaussian kernel on the same
each         fitted until it converges, five times on four fifths of the training documents
accuracy     share of the held-out rows that know the fact, mean of the five; 95 % interval over
             held-out documents
shuffled     accuracy of the linear one fitted on shuffled labels

Both are scikit-learn's. A kind is held by the activation as far as the better of the two stands
above the commonest value."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gloss.evaluate.intervals import Documents, Interval, Numbers
from gloss.seeds import keyed_bits

RESAMPLES, KEPT = 5, 0.8
MAX_ITERATIONS = 2000
MAX_FIT_ROWS = 1500
Vectors = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class FactRows:
    """Activations [n, d_model] with the facts known at each, and the document of each."""

    vectors: Vectors
    known: Sequence[Mapping[str, str]]
    doc_ids: Sequence[str]

    def of_kind(self, kind: str) -> FactRows:
        """The rows at which something of a kind is known."""
        rows = [row for row, facts in enumerate(self.known) if kind in facts]
        known, doc_ids = [self.known[row] for row in rows], [self.doc_ids[row] for row in rows]
        return FactRows(self.vectors[rows], known, doc_ids)


@dataclass(frozen=True)
class BestReader:
    """Shares of held-out rows whose fact is read; ``ci95`` is that of the better reader."""

    linear: float
    nonlinear: float
    shuffled: float
    ci95: Interval | None

    @property
    def accuracy(self) -> float:
        """Of the better of the two."""
        return max(self.linear, self.nonlinear)


def best_reader(
    kind: str, train: FactRows, heldout: FactRows, *, resamples: int = 2000, seed: int = 0
) -> BestReader | None:
    """Fits and tests the readers of one kind; None where too little is known of it to."""
    train, heldout = train.of_kind(kind), heldout.of_kind(kind)
    labels = np.array([facts[kind] for facts in train.known])
    true = np.array([facts[kind] for facts in heldout.known])
    if len(set(labels)) < 2 or not len(true):
        return None
    rng = np.random.default_rng(keyed_bits(seed, kind, purpose="readers"))
    parts = [_some_documents(train.doc_ids, rng) for _ in range(RESAMPLES)]
    parts = [rows for rows in parts if len(set(labels[rows])) > 1]
    if not parts:
        return None

    def hits(make: Callable[[], Any], labels: Any) -> Numbers:
        found = [_hits(make(), train.vectors[r], labels[r], heldout.vectors, true) for r in parts]
        mean: Numbers = np.mean(found, axis=0, dtype=np.float64)
        return mean

    linear, nonlinear = hits(_linear, labels), hits(_nonlinear, labels)
    shuffled = hits(_linear, rng.permutation(labels))
    best = linear if linear.mean() >= nonlinear.mean() else nonlinear
    documents = Documents.of(heldout.doc_ids, resamples=resamples, seed=seed)
    shares = documents.sums(best) / documents.sums(np.ones(len(best)))
    return BestReader(
        linear=float(linear.mean()),
        nonlinear=float(nonlinear.mean()),
        shuffled=float(shuffled.mean()),
        ci95=documents.interval(shares),
    )


def _some_documents(
    doc_ids: Sequence[str], rng: np.random.Generator
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Rows of a random share of the documents, at most ``MAX_FIT_ROWS``."""
    names, documents = np.unique(np.asarray(doc_ids), return_inverse=True)
    drawn = rng.permutation(len(names))[: max(1, round(KEPT * len(names)))]
    rows = np.flatnonzero(np.isin(documents, drawn))
    return np.sort(rng.permutation(rows)[:MAX_FIT_ROWS])


def _hits(model: Any, train: Vectors, labels: Any, test: Vectors, true: Any) -> Any:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)  # about few rows of many values
        return model.fit(train, labels).predict(test) == true


def _linear() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=MAX_ITERATIONS))


def _nonlinear() -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return make_pipeline(StandardScaler(), SVC(C=10.0))
