"""The best reader of a fact: what is there is read, noise is not, documents stay apart."""

import numpy as np
import pytest

from gloss.evaluate import FactRows, best_reader

COLOURS = ("red", "blue")


def _rows(vectors, labels, documents=None):
    known = [{} if label is None else {"colour": label} for label in labels]
    doc_ids = [f"d{i}" for i in range(len(labels))] if documents is None else documents
    return FactRows(np.asarray(vectors, dtype=np.float32), known, doc_ids)


def _read(train, heldout, **options):
    return best_reader("colour", train, heldout, resamples=400, **options)


def _noise(n, seed):
    return np.random.default_rng(seed).normal(size=(n, 200))


@pytest.mark.invariant("numbers-5")
def test_readers_of_pure_noise_score_at_chance_however_well_they_know_their_own_rows():
    """With 200 noisy dimensions and 150 rows a classifier knows its own rows by heart."""
    labels = list(COLOURS * 75)
    own = _read(_rows(_noise(150, 0), labels), _rows(_noise(150, 0), labels))
    assert own.accuracy > 0.8  # four fifths of them by heart
    found = _read(_rows(_noise(150, 0), labels), _rows(_noise(150, 1), labels))
    assert found.accuracy == pytest.approx(0.5, abs=0.15)
    assert found.shuffled == pytest.approx(0.5, abs=0.15)
    assert found.ci95[0] < found.accuracy < found.ci95[1]


def test_a_linear_fact_is_read_whatever_the_scale_of_its_dimension():
    """Labels by the sign of a dimension that is tiny beside a constant noise."""
    rng = np.random.default_rng(0)
    small = rng.normal(size=(300, 1)) * 1e-3
    vectors = np.hstack([rng.normal(size=(300, 3)) * 50, small])
    labels = ["up" if value > 0 else "down" for value in small[:, 0]]
    found = _read(_rows(vectors[:200], labels[:200]), _rows(vectors[200:], labels[200:]))
    assert found.linear > 0.9
    assert found.shuffled < 0.8


@pytest.mark.invariant("readers-1")
def test_what_no_line_divides_is_read_by_the_other_reader():
    """Exclusive or: no linear classifier is better than chance, and the best reader is right."""
    vectors = np.random.default_rng(1).normal(size=(600, 2))
    labels = ["same" if x * y > 0 else "other" for x, y in vectors]
    found = _read(_rows(vectors[:400], labels[:400]), _rows(vectors[400:], labels[400:]))
    assert found.linear < 0.65
    assert found.nonlinear > 0.9
    assert found.accuracy == found.nonlinear


def test_only_rows_that_know_the_kind_are_asked():
    """Test rows: three of which two are as trained; a row without a colour is not asked."""
    train = _rows([[1, 0], [1, 0.1], [-1, 0], [-1, 0.1]] * 5, ["red", "red", "blue", "blue"] * 5)
    heldout = _rows([[1, 0], [-1, 0], [1, 0], [9, 9]], ["red", "blue", "blue", None])
    assert _read(train, heldout).accuracy == pytest.approx(2 / 3)


def test_too_little_known_is_no_reader():
    rows = _rows([[1, 0], [2, 0]], ["red", "red"])
    assert _read(rows, rows) is None
    two = _rows([[1, 0], [-1, 0]] * 5, COLOURS * 5)
    assert _read(two, _rows([[1, 0]], [None])) is None
    assert _read(_rows([[1, 0]], [None]), two) is None


@pytest.mark.invariant("readers-1")
def test_the_interval_counts_documents_and_not_their_rows():
    """Twenty rows of a document that is read, twenty of one that is not: nothing of others."""
    train = _rows([[1, 0], [-1, 0]] * 10, COLOURS * 10)
    heldout = _rows([[1, 0]] * 40, ["red"] * 20 + ["blue"] * 20, ["a"] * 20 + ["b"] * 20)
    found = _read(train, heldout)
    assert found.accuracy == 0.5
    assert found.ci95 == pytest.approx((0.0, 1.0))


def test_the_same_seed_fits_the_same_readers():
    train, heldout = _rows(_noise(90, 3), COLOURS * 45), _rows(_noise(90, 4), COLOURS * 45)
    assert _read(train, heldout, seed=1) == _read(train, heldout, seed=1)
    assert _read(train, heldout, seed=1) != _read(train, heldout, seed=2)
