"""A linear probe: how well one fact can be read from the activation by a linear map, fitted on
other documents.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

Vectors = np.ndarray[Any, np.dtype[np.float32]]
MAX_ITERATIONS = 200


def probe_accuracy(
    train: Vectors,
    train_labels: Sequence[str],
    test: Vectors,
    test_labels: Sequence[str],
    *,
    max_rows: int = 4000,
) -> float | None:
    """Accuracy on ``test`` of a multinomial logistic regression fitted on ``train``; None with too
    little to fit or test.

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
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=MAX_ITERATIONS))
        probe.fit(train[:max_rows], list(train_labels[:max_rows]))
    return float(np.mean(probe.predict(test) == np.asarray(test_labels)))
