import pytest
from hypothesis import given
from hypothesis import strategies as st

from gloss.data.extract import sample_positions
from gloss.seeds import keyed_fraction

ids = st.text(max_size=20)


@pytest.mark.invariant("2")
def test_positions_are_pinned_across_machines_and_versions():
    drawn = sample_positions(200, seed=42, doc_id="corpus:7", count=5, min_position=50)
    assert drawn == [61, 87, 116, 124, 147]


@given(
    st.integers(0, 300),
    st.integers(0, 2**31),
    ids,
    st.integers(1, 12),
    st.integers(0, 80),
    st.sets(st.integers(0, 300)),
)
def test_positions_are_distinct_allowed_ascending_and_as_many_as_there_are(
    n, seed, doc_id, count, first, excluded
):
    drawn = sample_positions(
        n, seed=seed, doc_id=doc_id, count=count, min_position=first, excluded=excluded
    )
    allowed = [i for i in range(first, n) if i not in excluded]
    assert drawn == sorted(set(drawn))
    assert set(drawn) <= set(allowed)
    assert len(drawn) == min(count, len(allowed))
    again = sample_positions(
        n, seed=seed, doc_id=doc_id, count=count, min_position=first, excluded=sorted(excluded)
    )
    assert again == drawn


def test_seed_and_document_change_the_draw():
    draws = {
        tuple(sample_positions(1000, seed=seed, doc_id=doc_id, count=6, min_position=10))
        for seed in range(5)
        for doc_id in ("a", "b", "a:1")
    }
    assert len(draws) == 15


def test_all_positions_are_equally_likely():
    hits = [0] * 20
    for i in range(4000):
        for position in sample_positions(20, seed=0, doc_id=str(i), count=5, min_position=0):
            hits[position] += 1
    assert min(hits) > 880
    assert max(hits) < 1120


@given(st.integers(), ids)
def test_keyed_fraction_lies_in_the_unit_interval(seed, doc_id):
    assert 0 <= keyed_fraction(seed, doc_id, purpose="split") < 1


def test_purposes_are_independent():
    assert keyed_fraction(0, "a", purpose="split") != keyed_fraction(0, "a", purpose="positions")
