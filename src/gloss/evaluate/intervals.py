"""95 % intervals by bootstrap over documents: rows of one document are never torn apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from gloss.models import direction_variance

QUANTILES = (0.025, 0.975)
Interval = tuple[float, float]
Numbers = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Documents:
    """Rows by document, and the documents of every resample: one and the same for each number, so
    that differences are paired."""

    row_document: np.ndarray[Any, np.dtype[np.int64]]
    drawn: np.ndarray[Any, np.dtype[np.int64]]

    @classmethod
    def of(cls, doc_ids: Sequence[str], *, resamples: int, seed: int) -> Documents:
        """Draws as many documents as there are, with replacement, ``resamples`` times."""
        names, row_document = np.unique(np.asarray(doc_ids), return_inverse=True)
        size = (resamples, len(names))
        drawn = np.random.default_rng(seed).integers(len(names), size=size)
        return cls(row_document.astype(np.int64), drawn)

    @property
    def count(self) -> int:
        """How many documents there are."""
        return int(self.drawn.shape[1])

    def sums(self, values: Numbers) -> Numbers:
        """The sum of ``values`` [n rows] over every resample's rows; [resamples]."""
        by_document = np.bincount(self.row_document, weights=values, minlength=self.count)
        total: Numbers = by_document[self.drawn].sum(axis=1)
        return total

    def interval(self, values: Numbers) -> Interval | None:
        """The middle 95 % of [resamples] numbers, those that are none left out; None for one
        document, which says nothing of others."""
        known = values[np.isfinite(values)]
        if self.count < 2 or not len(known):
            return None
        low, high = np.quantile(known, QUANTILES)
        return float(low), float(high)


def bootstrap_fve(
    errors: Tensor, activations: Tensor, doc_ids: Sequence[str], *, resamples: int, seed: int
) -> Interval | None:
    """95 % interval of the FVE; errors [n], activations [n, d]. None for a single document."""
    documents = Documents.of(doc_ids, resamples=resamples, seed=seed)
    sums, counts = documents.sums(errors.double().numpy()), documents.sums(np.ones(len(errors)))
    return documents.interval(1 - sums / counts / direction_variance(activations))


def bootstrap_gain(
    errors: Tensor, before: Tensor, variance: float, documents: Documents
) -> Interval | None:
    """95 % interval of the FVE with ``errors`` [n] minus that with the errors ``before`` [n] of the
    same rows, in the same resamples. None for a single document."""
    gained = (before.double() - errors.double()).numpy()
    sums, counts = documents.sums(gained), documents.sums(np.ones(len(errors)))
    return documents.interval(sums / counts / variance)
