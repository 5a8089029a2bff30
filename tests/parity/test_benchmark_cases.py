"""Every benchmark compares two ways to the same result: checked here at tiny size."""

import pytest

from benchmarks.case import NotEqualError, require_close
from benchmarks.cases import CASES
from benchmarks.models import temporary_folders


@pytest.fixture(scope="module")
def folder_of():
    with temporary_folders() as folders:
        yield folders


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_both_sides_of_a_case_give_the_same_result(folder_of, name, dtype):
    case = CASES[name]
    prepared = case.prepare(folder_of, case.tiny, dtype)
    prepared.check()
    assert prepared.tokens > case.tiny.rows


def test_a_difference_is_refused():
    import torch

    with pytest.raises(NotEqualError, match="differ"):
        require_close("vectors", torch.ones(4), torch.ones(4) * 1.1, tolerance=1e-2)
