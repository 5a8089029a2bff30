"""Scores of claims, worked out by hand: repeats, chance, the probe, intervals."""

import numpy as np
import pytest

from gloss.evaluate import score_claims
from gloss.evaluate.claims import FactRows, probe_accuracy
from gloss.plugins import JudgedClaim

TRUTH = {"a": "red", "b": "blue", "c": "green"}


class ColourJudge:
    """An explanation claims its words; the colour is known of documents a, b, c and a1, a2, …"""

    def judge(self, explanation, doc_id, context):
        truth = TRUTH.get(doc_id[0])
        return [
            JudgedClaim(
                "colour",
                word,
                0,
                0,
                "absent" if truth is None else "right" if word == truth else "wrong",
            )
            for word in explanation.split()
        ]

    def known(self, doc_id, context):
        return {"colour": TRUTH[doc_id[0]]} if doc_id[0] in TRUTH else {}


def _scores(said, doc_ids, probe_rows=None, vectors=None):
    judge = ColourJudge()
    vectors = np.zeros((len(said), 2), dtype=np.float32) if vectors is None else vectors
    heldout = FactRows(vectors, [judge.known(doc_id, "") for doc_id in doc_ids])
    contexts = [""] * len(said)
    return score_claims(
        judge, said, doc_ids, contexts, heldout=heldout, probe_rows=probe_rows, resamples=4000
    )["colour"]


@pytest.mark.invariant("numbers-4")
def test_precision_counts_every_claim_and_recall_every_fact_once():
    """Seven claims, four right; four facts are known, two of them told, one of those three times.

    In d nothing is known: its claim is neither right nor told."""
    said = ["red red red", "blue green", "", "red", "blue"]
    scores = _scores(said, ["a", "b", "b", "c", "d"])
    assert (scores.n_claims, scores.n_known) == (7, 4)
    assert scores.precision == pytest.approx(4 / 7)
    assert scores.recall == pytest.approx(2 / 4)


@pytest.mark.invariant("numbers-4")
def test_chance_judges_the_same_texts_against_other_documents():
    """All say "red": right for both rows of a; held against other documents, right for b's rows
    where a's come, and never for a's own."""
    scores = _scores(["red"] * 4, ["a", "a", "b", "b"])
    assert scores.precision == 0.5
    assert scores.chance == 0.5
    own = _scores(["red", "red", "blue", "blue"], ["a", "a", "b", "b"])
    assert (own.precision, own.chance) == (1.0, 0.0)


def test_nothing_claimed_and_nothing_known_are_no_numbers():
    silent = _scores(["", ""], ["a", "b"])
    assert (silent.precision, silent.recall, silent.chance) == (None, 0.0, None)
    assert silent.above_chance_ci95 is None
    unknown = _scores(["red", "red"], ["d", "e"])
    assert (unknown.precision, unknown.recall, unknown.probe_ceiling) == (0.0, None, None)
    assert (unknown.n_claims, unknown.n_known) == (2, 0)


@pytest.mark.invariant("numbers-1")
def test_the_interval_above_chance_resamples_documents():
    """Twenty claims of one document are not twenty documents: two documents, one always right and
    one never, leave everything open."""
    said, ids = ["red"] * 20 + ["red"] * 20, ["a"] * 20 + ["b"] * 20
    low, high = _scores(said, ids).above_chance_ci95
    assert (low, high) == (-1.0, 1.0)
    many = [f"{name}{i}" for name in "ab" for i in range(40)]
    low, high = _scores(["red"] * 40 + ["blue"] * 40, many).above_chance_ci95
    assert 0 < low < high <= 1.0


# ── The probe ────────────────────────────────────────────────────────────────────────────────────


def _noise(n, seed):
    return np.random.default_rng(seed).normal(size=(n, 200)).astype(np.float32)


@pytest.mark.invariant("numbers-5")
def test_a_probe_of_pure_noise_scores_at_chance():
    """With 200 noisy dimensions and 150 rows a probe knows its own rows by heart."""
    labels = ["red", "blue"] * 75
    own = probe_accuracy(_noise(150, 0), labels, _noise(150, 0), labels)
    assert own > 0.95
    held_out = _noise(150, 1)
    assert probe_accuracy(_noise(150, 0), labels, held_out, labels) == pytest.approx(0.5, abs=0.12)
    ids = ["a", "b"] * 75
    train = FactRows(_noise(150, 0), [{"colour": TRUTH[one]} for one in ids])
    ceiling = _scores([""] * 150, ids, probe_rows=train, vectors=held_out).probe_ceiling
    assert ceiling == pytest.approx(0.5, abs=0.12)


def test_a_probe_reads_what_is_there_whatever_the_scale_of_a_dimension():
    """Labels by the sign of a dimension that is tiny beside a constant noise."""
    rng = np.random.default_rng(0)
    small = rng.normal(size=(300, 1)) * 1e-3
    vectors = np.hstack([rng.normal(size=(300, 3)) * 50, small]).astype(np.float32)
    labels = ["up" if value > 0 else "down" for value in small[:, 0]]
    found = probe_accuracy(vectors[:200], labels[:200], vectors[200:], labels[200:])
    assert found > 0.9


def test_a_probe_tells_three_kinds_apart_and_one_kind_is_none():
    centres = np.array([[4, 0], [-4, 0], [0, 4]], dtype=np.float32)
    vectors, labels = np.repeat(centres, 5, axis=0), np.repeat(list(TRUTH.values()), 5).tolist()
    assert probe_accuracy(vectors, labels, centres, list(TRUTH.values())) == 1.0
    assert probe_accuracy(vectors[:5], labels[:5], centres[:1], ["red"]) is None
    assert probe_accuracy(vectors, labels, centres[:0], []) is None


def test_claims_of_one_kind_are_scored_alone():
    """Of two kinds, the later by name is always right; the other never."""

    class TwoKinds(ColourJudge):
        def judge(self, explanation, doc_id, context):
            return [
                JudgedClaim("colour", "x", 0, 0, "wrong"),
                JudgedClaim("mood", "y", 0, 0, "right"),
                JudgedClaim("age", "z", 0, 0, "absent"),
            ]

    rows = FactRows(np.zeros((2, 2), dtype=np.float32), [{}, {}])
    found = score_claims(
        TwoKinds(), ["", ""], ["a", "b"], ["", ""], heldout=rows, probe_rows=None, resamples=100
    )
    assert {kind: (one.n_claims, one.precision) for kind, one in found.items()} == {
        "age": (2, 0.0),
        "colour": (2, 0.0),
        "mood": (2, 1.0),
    }


def test_the_probe_is_scored_on_the_rows_that_know_the_kind():
    """Test rows: three of which two are as trained; a row without a colour is not asked."""
    train = np.array([[1, 0], [1, 0.1], [-1, 0], [-1, 0.1]], dtype=np.float32)
    facts = [{"colour": "red"}, {"colour": "red"}, {"colour": "blue"}, {"colour": "blue"}]
    vectors = np.array([[1, 0], [-1, 0], [1, 0], [9, 9]], dtype=np.float32)
    found = _scores(
        ["", "", "", ""],
        ["a", "b", "b", "d"],
        probe_rows=FactRows(train, facts),
        vectors=vectors,
    )
    assert found.probe_ceiling == pytest.approx(2 / 3)
    assert probe_accuracy(train, ["red"] * 4, vectors, ["red"] * 4) is None
    assert probe_accuracy(train, ["red", "red", "blue", "blue"], vectors[:0], []) is None
