"""Seeds and draws depend on what they are for and on nothing else."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gloss.seeds import row_seed, uniform_draws

seeds = st.integers(0, 2**64 - 1)


def test_a_rows_samples_have_consecutive_seeds_and_rows_have_nothing_in_common():
    found = {row_seed(seed, row) for seed in range(40) for row in range(250)}
    assert len(found) == 10_000
    assert [row_seed(7, 3, sample) for sample in range(3)] == [row_seed(7, 3) + s for s in range(3)]
    assert max(found) < 2**53
    assert row_seed(7, 3) == 3212843301955844, "sampled texts are keyed on this number"


@given(st.lists(st.tuples(seeds, st.integers(0, 10_000)), min_size=1, max_size=8), st.randoms())
def test_a_draw_does_not_depend_on_order_or_company(keys, random):
    def drawn(some):
        return uniform_draws(*zip(*some, strict=True)).tolist()

    alone = [drawn([key])[0] for key in keys]
    assert drawn(keys) == alone
    order = random.sample(range(len(keys)), len(keys))
    assert drawn([keys[i] for i in order]) == [alone[i] for i in order]
    assert all(0 <= value < 1 for value in alone)


def test_draws_are_uniform_over_seeds_and_over_steps_and_neighbours_are_not_alike():
    for draws in (
        uniform_draws(range(100_000), [0] * 100_000),
        uniform_draws([row_seed(0, 0)] * 100_000, range(100_000)),
    ):
        counts = np.histogram(draws, bins=50, range=(0, 1))[0]
        assert float(((counts - 2000) ** 2 / 2000).sum()) < 49 + 5 * 98**0.5
        assert abs(float(np.corrcoef(draws[:-1], draws[1:])[0, 1])) < 0.02
        assert draws.dtype == np.float32
