"""Every benchmark compares two ways to the same result: checked here at tiny size."""

import pytest

from benchmarks import models
from benchmarks.case import NotEqualError, require_close
from benchmarks.cases import CASES
from benchmarks.models import temporary_folders


@pytest.fixture(scope="module")
def folder_of():
    with temporary_folders() as folders:
        yield folders


@pytest.mark.parametrize(
    ("name", "dtype"), [(name, dtype) for name, case in CASES.items() for dtype in case.target]
)
def test_both_sides_of_a_case_give_the_same_result(folder_of, name, dtype):
    case = CASES[name]
    prepared = case.prepare(folder_of, case.tiny, dtype)
    prepared.check()
    assert prepared.tokens > case.tiny.rows


def test_the_shapes_of_the_reference_hold_its_numbers_of_tokens():
    mixed = models.with_total(models.mixed_lengths(32, 288, 18), 4342)
    assert (len(mixed), sum(mixed), max(mixed)) == (32, 4342, 288)
    padded = 16 * (max(mixed[:16]) + max(mixed[16:]))
    assert 8500 < padded < 9300, "the reference took 4.10 s for these and 3.74 s for 32 × 256"
    explanations = models.with_total(models.mixed_lengths(64, 140, 35), 64 * 79)
    assert (sum(explanations) / 64, max(explanations), min(explanations) >= 35) == (79, 140, True)
    assert sum(models.with_total([10, 4, 4, 4], 14)) == 14


def test_a_difference_is_refused():
    import torch

    with pytest.raises(NotEqualError, match="differ"):
        require_close("vectors", torch.ones(4), torch.ones(4) * 1.1, tolerance=1e-2)
