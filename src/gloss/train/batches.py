"""Which rows a step sees: a function of the seed and the step, so that a resumed run agrees."""

from __future__ import annotations

import numpy as np


def batch_rows(
    num_rows: int, batch_size: int, step: int, seed: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Rows of a step: every epoch is a permutation keyed on (seed, epoch); [batch_size]."""
    start, rows = step * batch_size, np.empty(0, dtype=np.int64)
    while len(rows) < batch_size:
        epoch, offset = divmod(start + len(rows), num_rows)
        order = np.random.default_rng([seed, epoch]).permutation(num_rows)
        rows = np.concatenate([rows, order[offset : offset + batch_size - len(rows)]])
    return rows


def step_seed(seed: int, step: int) -> int:
    """A seed for the sampling of one step."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, dtype=np.uint64)[0] >> 1)
