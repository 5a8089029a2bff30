"""Geometry and injection on any vectors: invariances, ranges, and refusal of what has no
direction.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gloss.contract import InjectionMarker
from gloss.errors import ActivationError, InjectionError
from gloss.models import (
    direction_mse,
    direction_variance,
    fraction_of_variance_explained,
    inject,
    injection_rows,
    scale_to_norm,
    unit_rms,
)

quick = settings(max_examples=80, deadline=None)
entries = st.floats(width=32, allow_nan=False, allow_infinity=False)
moderate = st.floats(-100, 100, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3)
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def vectors(values=entries, *, rows=st.integers(1, 4), width=st.integers(1, 9), copies=1):
    @st.composite
    def draw(draw_from):
        n, d = draw_from(rows), draw_from(width)
        row = st.lists(values, min_size=d, max_size=d).filter(any)
        drawn = [draw_from(st.lists(row, min_size=n, max_size=n)) for _ in range(copies)]
        tensors = [torch.tensor(np.asarray(rows_, dtype=np.float32)) for rows_ in drawn]
        return tensors[0] if copies == 1 else tensors

    return draw()


@quick
@given(vectors(copies=2))
def test_direction_mse_is_symmetric_in_range_and_zero_to_itself(pair):
    a, b = pair
    errors = direction_mse(a, b)
    torch.testing.assert_close(errors, direction_mse(b, a), atol=0, rtol=0)
    assert bool(((errors >= 0) & (errors <= 4 + 1e-5)).all())
    assert direction_mse(a, a).abs().max().item() == 0
    torch.testing.assert_close(direction_mse(a, -a), torch.full((len(a),), 4.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        errors + direction_mse(a, -b), torch.full((len(a),), 4.0), atol=1e-4, rtol=0
    )


@quick
@given(vectors(moderate, copies=2), st.integers(-80, 80), st.integers(-80, 80))
def test_direction_mse_ignores_powers_of_two_exactly(pair, i, j):
    a, b = pair
    torch.testing.assert_close(
        direction_mse(a * 2.0**i, b * 2.0**j), direction_mse(a, b), atol=0, rtol=0
    )


@quick
@given(vectors(moderate, copies=2), st.floats(1e-20, 1e20), st.floats(1e-20, 1e20))
def test_direction_mse_ignores_any_positive_scale(pair, p, q):
    a, b = pair
    torch.testing.assert_close(direction_mse(a * p, b * q), direction_mse(a, b), atol=1e-5, rtol=0)


@quick
@given(vectors(moderate, copies=2))
def test_direction_mse_is_two_times_one_minus_cosine(pair):
    a, b = (x.double() for x in pair)
    expected = 2 * (1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)))
    torch.testing.assert_close(direction_mse(*pair).double(), expected, atol=1e-5, rtol=0)


@quick
@given(vectors(), st.floats(1e-3, 1e6))
def test_rows_of_any_size_take_the_norm_asked_for_and_keep_their_signs(rows, norm):
    scaled = scale_to_norm(rows, norm)
    torch.testing.assert_close(
        scaled.double().norm(dim=-1), torch.full((len(rows),), norm).double(), rtol=1e-5, atol=0
    )
    assert scaled.dtype == torch.float32
    assert bool((scaled * rows.sign() >= 0).all())


@quick
@given(vectors(moderate), st.data())
def test_one_row_without_direction_refuses_all_by_its_number(rows, data):
    row = data.draw(st.integers(0, len(rows) - 1))
    bad = data.draw(st.sampled_from([0.0, math.nan, math.inf, -math.inf]))
    broken = rows.clone()
    if bad == 0:
        broken[row] = 0
    else:
        broken[row, data.draw(st.integers(0, rows.shape[1] - 1))] = bad
    for call in (
        lambda: direction_mse(broken, rows),
        lambda: direction_mse(rows, broken),
        lambda: unit_rms(broken),
        lambda: injection_rows(broken, 5.0),
        lambda: injection_rows(broken, None),
        lambda: direction_variance(torch.cat([broken, rows])),
    ):
        with pytest.raises(ActivationError, match=f"row {row} has no direction"):
            call()


@pytest.mark.parametrize("dtype", DTYPES)
@quick
@given(data=st.data())
def test_the_extremes_of_every_dtype_keep_their_direction(dtype, data):
    limits = torch.finfo(torch.float32 if dtype == torch.float64 else dtype)
    tiny = (
        torch.finfo(torch.float32).tiny if dtype != torch.float16 else 6e-8
    )  # float16: its subnormals too
    value = data.draw(
        st.sampled_from([limits.max, -limits.max, max(limits.tiny, tiny), -tiny, 1.0])
    )
    width = data.draw(st.integers(1, 300))
    row = torch.full((1, width), value, dtype=dtype)
    assert unit_rms(row).norm().item() == pytest.approx(width**0.5, rel=1e-5)
    assert direction_mse(row, torch.full((1, width), value).sign()).item() == pytest.approx(
        0, abs=1e-5
    )


def test_what_overflows_a_dtype_is_refused_and_what_vanishes_in_it_too():
    for dtype, large, small in ((torch.float16, 1e5, 1e-9), (torch.bfloat16, 3.4e38, 1e-46)):
        with pytest.raises(ActivationError):
            unit_rms(torch.full((1, 4), large).to(dtype) * 2)
        with pytest.raises(ActivationError):
            unit_rms(torch.full((1, 4), small).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@quick
@given(rows=vectors(moderate))
def test_half_precision_rows_are_compared_in_float32(dtype, rows):
    rounded = rows.to(dtype)
    assert direction_mse(rounded, rounded.float()).max().item() == 0


@quick
@given(vectors(moderate, rows=st.integers(2, 8)), st.floats(0.01, 100))
def test_fve_of_targets_mean_and_anything_worse(targets, scale):
    variance = direction_variance(targets)
    assume(variance > 1e-4)
    assert 0 <= variance <= 1 + 1e-5
    directions = unit_rms(targets).double()
    to_mean = (directions - directions.mean(dim=0)).square().mean(dim=1)
    assert fraction_of_variance_explained(to_mean, variance) == pytest.approx(0, abs=1e-5)
    perfect = direction_mse(targets * scale, targets)
    assert fraction_of_variance_explained(perfect, variance) == pytest.approx(1, abs=1e-3)
    assert fraction_of_variance_explained(direction_mse(-targets, targets), variance) <= -2.99
    assert direction_variance(targets * scale) == pytest.approx(variance, abs=1e-5)


@pytest.mark.parametrize("variance", [0.0, -1.0, math.nan])
def test_fve_needs_a_positive_variance(variance):
    with pytest.raises(ActivationError, match="do not vary"):
        fraction_of_variance_explained(torch.zeros(3), variance)


MARKER = InjectionMarker("㊗", 7, 3, 4)


@quick
@given(vectors(width=st.just(5)), st.none() | st.floats(1e-3, 1e5), st.data())
def test_inject_replaces_the_marker_alone_at_the_scale_asked_for(rows, scale, data):
    batch, tokens = len(rows), 9
    ids = torch.randint(10, 50, (batch, tokens), generator=torch.Generator().manual_seed(0))
    sites = data.draw(st.lists(st.integers(1, tokens - 2), min_size=batch, max_size=batch))
    for row, site in enumerate(sites):
        ids[row, site - 1 : site + 2] = torch.tensor([3, 7, 4])
    embeddings = torch.randn(batch, tokens, 5, generator=torch.Generator().manual_seed(1))
    injected = inject(embeddings, ids, rows, marker=MARKER, injection_scale=scale)
    at = torch.zeros(batch, tokens, dtype=torch.bool)
    at[torch.arange(batch), torch.tensor(sites)] = True
    assert torch.equal(injected[~at], embeddings[~at])
    if scale is None:
        assert torch.equal(injected[at], rows)
    else:
        norms = injected[at].double().norm(dim=-1)
        torch.testing.assert_close(norms, torch.full((batch,), scale).double(), rtol=1e-5, atol=0)
        assert direction_mse(injected[at], rows).max().item() < 1e-5


@quick
@given(ids=st.lists(st.sampled_from([3, 4, 7, 9]), min_size=3, max_size=14))
def test_inject_needs_one_marker_between_its_neighbours(ids):
    count = sum(ids[i : i + 3] == [3, 7, 4] for i in range(len(ids)))
    embeddings, activation = torch.zeros(1, len(ids), 2), torch.ones(1, 2)
    arguments = (embeddings, torch.tensor([ids]), activation)
    if count == 1:
        assert inject(
            *arguments, marker=MARKER, injection_scale=2.0
        ).norm().item() == pytest.approx(2.0)
    else:
        with pytest.raises(InjectionError, match="do not match"):
            inject(*arguments, marker=MARKER, injection_scale=2.0)
