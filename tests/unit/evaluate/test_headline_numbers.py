"""Every number of ``results.json`` against a value worked out by hand.

Activations ±e1 in two dimensions have the direction variance 1: at norm √2 their mean is zero and
the mean square per element is (2 + 0) / 2. So an FVE is one minus a mean error there."""

import math

import pytest
import torch

from gloss.engines import Rollout
from gloss.evaluate import (
    Documents,
    RoundTrip,
    bootstrap_fve,
    bootstrap_gain,
    control_errors,
    control_fves,
)
from gloss.evaluate.round_trip import is_loop, other_documents


def _plus_minus(n):
    return torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).repeat((n + 1) // 2, 1)[:n]


# Thirty documents, fifteen of one row and fifteen of nine. Of thirty drawn ones 10 to 20 are long
# in 95 % of all cases (binomial: P(9 or fewer) = 2.1 %, P(10 or fewer) = 4.9 %); 11 to 19 in 90 %.
SIZES = [1, 9] * 15
IDS = [f"document {i}" for i, size in enumerate(SIZES) for _ in range(size)]
LONG = torch.tensor([size == 9 for size in SIZES for _ in range(size)])


@pytest.mark.invariant("numbers-1")
def test_the_interval_is_of_95_percent_and_weighs_documents_by_their_rows():
    found = bootstrap_fve(LONG.double(), _plus_minus(150), IDS, resamples=20_000, seed=3)
    assert found == pytest.approx((1 - 180 / 190, 1 - 90 / 110), abs=1e-6)


@pytest.mark.invariant("numbers-1")
def test_the_interval_of_a_gain_weighs_documents_by_their_rows():
    documents = Documents.of(IDS, resamples=20_000, seed=3)
    before = torch.full((150,), 2.0)
    after = before - LONG.double()
    found = bootstrap_gain(after, before, 0.5, documents)
    assert found == pytest.approx((2 * 90 / 110, 2 * 180 / 190), abs=1e-9)


def test_a_gain_is_paired_what_documents_have_in_common_does_not_widen_it():
    documents = Documents.of(IDS, resamples=500, seed=0)
    before = torch.linspace(0.1, 3.0, 150)
    assert bootstrap_gain(before - 0.1, before, 2.0, documents) == pytest.approx((0.05, 0.05))


def test_one_document_gives_no_interval():
    documents = Documents.of(["one"] * 4, resamples=100, seed=0)
    errors = torch.tensor([0.0, 1.0, 2.0, 3.0])
    assert bootstrap_gain(errors, errors + 1, 1.0, documents) is None
    assert bootstrap_fve(errors, _plus_minus(4), ["one"] * 4, resamples=100, seed=0) is None


def test_resamples_without_a_number_are_left_out_of_an_interval():
    documents = Documents.of(["a", "b"], resamples=4, seed=0)
    kept = documents.interval(torch.tensor([math.nan, 1.0, 1.0, math.inf]).double().numpy())
    assert kept == (1.0, 1.0)
    assert documents.interval(torch.tensor([math.nan] * 4).double().numpy()) is None


def test_resamples_draw_all_documents_evenly_with_replacement_as_many_as_there_are():
    documents = Documents.of(["a", "b", "b", "c"], resamples=9000, seed=1)
    assert documents.count == 3
    assert documents.drawn.shape == (9000, 3)
    shares = [(documents.drawn == i).mean() for i in range(3)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.01)
    assert len(set(documents.drawn[0])) <= 3
    assert any(len(set(row)) == 1 for row in documents.drawn[:100].tolist())
    assert documents.row_document.tolist() == [0, 1, 1, 2]
    other = Documents.of(["a", "b", "b", "c"], resamples=9000, seed=2)
    assert (documents.drawn != other.drawn).any()


# ── Controls ─────────────────────────────────────────────────────────────────────────────────────


class Reconstructor:
    """Rebuilds from any text the same vector, and notes the texts."""

    def __init__(self, vector):
        self.vector, self.texts = torch.tensor([vector]), []

    def reconstruct(self, texts):
        self.texts += texts
        return self.vector.expand(len(texts), -1)


def _trip(vectors, extracted=None, variance=1.0, ids=(1, 2)):
    kept = torch.ones(len(vectors), dtype=torch.bool) if extracted is None else extracted
    texts = ["<explanation>x</explanation>" if k else "cut" for k in kept]
    rollouts = [Rollout(tuple(ids), text, bool(k)) for text, k in zip(texts, kept, strict=True)]
    return RoundTrip(rollouts, vectors, torch.zeros(len(vectors)), kept, variance)


@pytest.mark.invariant("numbers-2")
def test_the_mean_control_is_the_mean_of_directions_not_of_raw_vectors():
    """[100, 0] and [0, 1]: the mean direction is the diagonal, 45° from both, error 2(1 − √½).

    The mean of the raw vectors would point along the first: errors 0 and 2."""
    activations = torch.tensor([[100.0, 0.0], [0.0, 1.0]])
    trip = _trip(activations, variance=0.5)
    controls = control_fves(Reconstructor([1.0, 0.0]), trip, activations, seed=0)
    assert controls["mean_direction"] == pytest.approx(1 - 2 * (1 - math.sqrt(0.5)) / 0.5, abs=1e-5)


def test_opposite_activations_have_no_mean_direction_and_it_counts_as_orthogonal():
    activations = _plus_minus(4)
    controls = control_fves(Reconstructor([1.0, 0.0]), _trip(activations), activations, seed=0)
    assert controls["mean_direction"] == pytest.approx(1 - 2.0)


@pytest.mark.invariant("numbers-2")
def test_shuffled_explanations_are_of_other_documents_and_failures_count_as_orthogonal():
    """Documents a, b, c of e1, −e1, e2, rebuilt perfectly but for one of a, which failed."""
    axes = {"a": [1.0, 0.0], "b": [-1.0, 0.0], "c": [0.0, 1.0]}
    ids = ["a", "a", "b", "b", "c", "c"]
    activations = torch.tensor([axes[name] for name in ids])
    kept = torch.tensor([False, True, True, True, True, True])
    vectors = activations * kept[:, None]
    trip = _trip(vectors, kept)
    allowed = {("a", "b"): 4.0, ("b", "a"): 4.0}
    for seed in range(20):
        partner = other_documents(ids, seed=seed)
        assert sorted(partner) == list(range(6))
        found = control_errors(Reconstructor([1.0, 0.0]), trip, activations, ids, seed=seed)
        expected = [
            2.0 if other == 0 else allowed.get((ids[row], ids[other]), 2.0)
            for row, other in enumerate(partner)
        ]
        assert found["shuffled_activations"].tolist() == pytest.approx(expected, abs=1e-5)
        assert all(ids[row] != ids[other] for row, other in enumerate(partner))


def test_partners_are_of_another_document_however_rows_lie():
    ids = ["b", "a", "b", "c", "a", "b", "c", "c"]
    seen = {tuple(other_documents(ids, seed=seed)) for seed in range(30)}
    assert len(seen) > 1
    for partner in seen:
        assert sorted(partner) == list(range(8))
        assert all(ids[row] != ids[other] for row, other in enumerate(partner))
    mostly_one = other_documents(["a", "a", "a", "b"], seed=0)
    assert sorted(mostly_one) == [0, 1, 2, 3]
    assert all(row != other for row, other in enumerate(mostly_one))
    assert other_documents(["a"], seed=0) == [0]


@pytest.mark.invariant("numbers-2")
def test_the_empty_text_is_what_the_ar_rebuilds_from_no_text_over_all_rows():
    activations, ar = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 2.0]]), Reconstructor([5.0, 0.0])
    kept = torch.tensor([True, False, True])
    controls = control_fves(ar, _trip(activations, kept), activations, seed=0)
    assert ar.texts == [""]
    assert controls["empty_text"] == pytest.approx(1 - (0 + 2 + 2) / 3, abs=1e-5)


@pytest.mark.invariant("numbers-2")
def test_the_random_control_is_orthogonal_noise_that_knows_nothing_of_the_rows():
    activations = torch.randn(40, 900, generator=torch.Generator().manual_seed(7))
    trip, ar = _trip(activations, variance=1.0), Reconstructor([1.0] * 900)
    first, second = (
        control_errors(ar, trip, activations, seed=seed)["random_activation"] for seed in (7, 8)
    )
    assert float(first.mean()) == pytest.approx(2.0, abs=0.03)
    assert len(set(first.tolist())) == 40
    assert not torch.equal(first, second)


# ── Round trips ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.invariant("numbers-3")
def test_fve_counts_failures_as_orthogonal_and_fve_extracted_leaves_them_out():
    kept = torch.tensor([True, True, False, True])
    errors = torch.tensor([0.1, 0.3, 2.0, 0.2])
    trip = RoundTrip(_trip(torch.ones(4, 2), kept).rollouts, torch.ones(4, 2), errors, kept, 0.5)
    assert trip.fve == pytest.approx(1 - (2.6 / 4) / 0.5)
    assert trip.fve_extracted == pytest.approx(1 - 0.2 / 0.5)
    assert trip.failure_rate == 0.25
    none = RoundTrip(trip.rollouts, trip.vectors, errors, torch.zeros(4, dtype=torch.bool), 0.5)
    assert none.fve_extracted is None
    assert none.failure_rate == 1.0


@pytest.mark.invariant("numbers-3")
@pytest.mark.parametrize(
    ("ids", "loops"),
    [
        ([7] * 12, True),
        ([7] * 11, False),
        ([1, 2, 3, 4] * 3, True),
        ([1, 2, 3, 4] * 2 + [1, 2, 3], False),
        ([9, 8, *[1, 2, 3, 4] * 3, 5, 6], True),
        ([1, 2, 3, 4, 5] * 2 + [1, 2, 3, 4, 6], False),
        ([1, 2, 3, 4, 5] * 3, True),
        (list(range(60)) * 2, False),
        (list(range(100)), False),
        ([], False),
    ],
)
def test_a_loop_is_a_stretch_three_times_in_a_row_of_twelve_tokens_or_more(ids, loops):
    assert is_loop(ids) is loops


def test_loops_and_lengths_are_shares_and_means_of_all_responses():
    lengths = [tuple([4] * 12), (1, 2), (1, 2, 3, 4), (5,) * 6]
    kept = torch.tensor([False, True, True, True])
    rollouts = [Rollout(ids, "cut", False) for ids in lengths]
    trip = RoundTrip(rollouts, torch.ones(4, 2), torch.zeros(4), kept, 1.0)
    assert trip.loop_rate == 0.25
    assert trip.mean_tokens == 6.0
