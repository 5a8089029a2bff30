import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gloss.errors import ActivationError
from gloss.models import (
    direction_mse,
    direction_variance,
    fraction_of_variance_explained,
    scale_to_norm,
    unit_rms,
)


def test_direction_mse_is_two_times_one_minus_cosine():
    a, b = torch.randn(50, 32, generator=torch.Generator().manual_seed(0)), torch.randn(50, 32)
    expected = 2 * (1 - torch.cosine_similarity(a, b, dim=1))
    torch.testing.assert_close(direction_mse(a, b), expected, atol=1e-5, rtol=1e-5)


def test_direction_mse_at_its_landmarks():
    x, y = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 0.5]])
    assert direction_mse(x, x).item() == pytest.approx(0, abs=1e-6)
    assert direction_mse(x, y).item() == pytest.approx(2, abs=1e-6)
    assert direction_mse(x, -x).item() == pytest.approx(4, abs=1e-6)


@given(scale=st.floats(1e-30, 1e30), seed=st.integers(0, 1000))
def test_direction_mse_ignores_the_norms(scale, seed):
    a, b = torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(seed)).unbind(0)
    torch.testing.assert_close(
        direction_mse(a * scale, b), direction_mse(a, b), atol=1e-4, rtol=1e-3
    )


@pytest.mark.invariant("float16-norms")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_tiny_and_huge_rows_keep_their_direction(dtype):
    largest = {torch.float16: 60000.0, torch.bfloat16: 1e38, torch.float32: 1e38}[dtype]
    smallest = {torch.float16: 6e-8, torch.bfloat16: 1e-38, torch.float32: 1e-38}[dtype]
    for value in (largest, smallest):
        row = torch.full((1, 64), value, dtype=dtype)
        assert unit_rms(row).norm().item() == pytest.approx(8.0, rel=1e-5)


@pytest.mark.invariant("gold-without-direction")
@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
def test_rows_without_a_direction_are_refused(bad):
    rows = torch.ones(3, 8)
    rows[1] = bad
    with pytest.raises(ActivationError, match="row 1 has no direction"):
        scale_to_norm(rows, 5.0)


@pytest.mark.invariant("gold-d-by-1")
def test_a_gold_of_shape_d_by_1_is_refused_instead_of_broadcast():
    with pytest.raises(ActivationError, match="differ in shape"):
        direction_mse(torch.ones(8, 8), torch.ones(8, 1))


@pytest.mark.invariant("centred-variance")
def test_fve_is_zero_for_the_mean_and_one_for_a_perfect_prediction():
    targets = torch.randn(400, 32, generator=torch.Generator().manual_seed(1)) + 0.5
    variance = direction_variance(targets)
    directions = unit_rms(targets)
    to_mean = (directions - directions.mean(dim=0)).square().mean(dim=1)
    assert fraction_of_variance_explained(to_mean, variance) == pytest.approx(0, abs=1e-5)
    assert fraction_of_variance_explained(
        direction_mse(targets, targets), variance
    ) == pytest.approx(1, abs=1e-5)


def test_fve_of_constant_activations_is_refused():
    with pytest.raises(ActivationError, match="do not vary"):
        fraction_of_variance_explained(torch.zeros(3), direction_variance(torch.ones(3, 4)))
