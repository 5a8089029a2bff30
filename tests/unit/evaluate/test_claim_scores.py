"""Scores of claims, worked out by hand: repeats, chance, collapse, intervals, before and after."""

import numpy as np
import pytest

from gloss.evaluate import FactRows, measure_claims
from gloss.plugins import FactKinds, JudgedClaim

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


def _heldout(doc_ids):
    vectors = np.zeros((len(doc_ids), 2), dtype=np.float32)
    return FactRows(vectors, [ColourJudge().known(doc_id, "") for doc_id in doc_ids], doc_ids)


def _scores(said, doc_ids):
    options = {"heldout": _heldout(doc_ids), "probe_rows": None, "resamples": 4000}
    contexts = [""] * len(said)
    return measure_claims(ColourJudge(), {"rl": said}, doc_ids, contexts, **options).kinds["colour"]


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
    assert (unknown.precision, unknown.recall, unknown.best_reader) == (0.0, None, None)
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


def test_claims_of_one_kind_are_scored_alone():
    """Of two kinds, the later by name is always right; the other never."""

    class TwoKinds(ColourJudge):
        def judge(self, explanation, doc_id, context):
            return [
                JudgedClaim("colour", "x", 0, 0, "wrong"),
                JudgedClaim("mood", "y", 0, 0, "right"),
                JudgedClaim("age", "z", 0, 0, "absent"),
            ]

    rows = _heldout(["d", "e"])
    options = {"heldout": rows, "probe_rows": None, "resamples": 100}
    found = measure_claims(TwoKinds(), {"rl": ["", ""]}, ["a", "b"], ["", ""], **options).kinds
    assert {kind: (one.n_claims, one.precision) for kind, one in found.items()} == {
        "age": (2, 0.0),
        "colour": (2, 0.0),
        "mood": (2, 1.0),
    }


@pytest.mark.invariant("claims-1")
def test_collapse_shows_in_values_entropy_and_the_share_of_the_commonest():
    """Eight claims: four red, two blue, one green, one pink: 1.75 bits."""
    scores = _scores(["red"] * 4 + ["blue"] * 2 + ["green", "pink"], list("abcdabcd"))
    assert (scores.n_values, scores.commonest) == (4, 0.5)
    assert scores.entropy == pytest.approx(1.75)
    assert _scores(["red", "red"], ["a", "b"]).entropy == 0.0
    assert _scores(["", ""], ["a", "b"]).entropy is None
    assert scores.majority == pytest.approx(2 / 6)


class TwoColours(ColourJudge):
    """Colours are held, shades are told; the ending is no fact. A shade is right wherever said."""

    fact_kinds = FactKinds(
        held=frozenset({"colour"}), text_only=frozenset({"shade"}), privileged=frozenset({"colour"})
    )

    def judge(self, explanation, doc_id, context):
        others = {"dark": ("shade", "text only"), "end": ("ending", "right")}
        return [
            JudgedClaim(others[claim.value][0], claim.value, 0, 0, others[claim.value][1])
            if claim.value in others
            else claim
            for claim in super().judge(explanation, doc_id, context)
        ]


def _measured(texts, doc_ids, judge=None):
    options = {"heldout": _heldout(doc_ids), "probe_rows": None, "resamples": 1000}
    return measure_claims(judge or TwoColours(), texts, doc_ids, [""] * len(doc_ids), **options)


@pytest.mark.invariant("claims-2")
def test_what_is_right_is_told_of_facts_of_privileged_and_of_all_claims():
    """Rows of a and b: facts red ✓ dark ◐ | green ✗ dark ◐: one of four right, with ends 3 of 6."""
    truth = _measured({"rl": ["red dark end", "green dark end"]}, ["a", "b"]).truth
    rl = truth["rl"]
    assert (rl["facts"]["precision"], rl["facts"]["n_claims"]) == (0.25, 4)
    assert (rl["all"]["precision"], rl["all"]["n_claims"]) == (0.5, 6)
    assert (rl["privileged"]["precision"], rl["privileged"]["n_claims"]) == (0.5, 2)
    assert rl["names_not_held"] == 1.0
    assert rl["facts"]["ci95"] == pytest.approx((0.0, 0.5))
    assert set(truth) == {"rl"}


def test_of_a_judge_that_does_not_know_what_is_held_only_all_claims_are_told():
    measured = _measured({"rl": ["red", "red"]}, ["a", "b"], ColourJudge())
    assert set(measured.truth["rl"]) == {"all"}
    assert (measured.kinds["colour"].held, measured.kinds["colour"].privileged) == (None, None)
    known = _measured({"rl": ["red dark end", ""]}, ["a", "b"]).kinds
    assert {kind: (one.held, one.privileged) for kind, one in known.items()} == {
        "colour": (True, True),
        "shade": (False, False),
        "ending": (None, None),
    }


@pytest.mark.invariant("claims-3")
def test_what_rl_adds_to_precision_is_paired_by_document():
    """Before, every document has one of two claims right; after, both: +0.5 in every resample."""
    ids = [f"a{i}" for i in range(6)]
    texts = {"sft": ["red blue"] * 6, "rl": ["red red"] * 6}
    texts |= {"sft_sampled": ["blue"] * 6, "rl_sampled": [""] * 6}
    truth = _measured(texts, ids).truth
    assert truth["rl_over_sft"]["facts"]["precision"] == 0.5
    assert truth["rl_over_sft"]["facts"]["ci95"] == pytest.approx((0.5, 0.5))
    assert truth["rl_over_sft_sampled"]["facts"] == {"precision": None, "ci95": None}
