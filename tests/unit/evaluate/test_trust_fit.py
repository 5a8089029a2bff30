"""The trust score is fitted on claims whose truth is known, and measured on other documents."""

import numpy as np
import pytest

from gloss.evaluate.claim_evidence import ClaimEvidence
from gloss.evaluate.trust_fit import auroc, calibration, fit_trust_score
from gloss.nla.trust_score import FEATURES


def _evidence(true, documents, seed=0, told=3.0):
    """One feature shows the truth, ``told`` standard deviations apart; the others are noise."""
    features = np.random.default_rng(seed).normal(size=(len(true), len(FEATURES)))
    features[:, FEATURES.index("in_samples")] += told * np.asarray(true)
    verdicts = ["right" if one else "wrong" for one in true]
    return ClaimEvidence(features, verdicts, documents, ["some text"])


TRUE = [i % 3 > 0 for i in range(600)]
DOCUMENTS = [f"d{i // 10}" for i in range(600)]


@pytest.mark.invariant("trust-score")
def test_what_shows_the_truth_is_found_and_calibrated():
    score = fit_trust_score(_evidence(TRUE, DOCUMENTS))
    assert score.auroc > 0.95
    assert score.calibration_error < 0.1
    assert (score.n_claims, score.n_documents) == (600, 60)
    assert score.true_share == pytest.approx(2 / 3)
    assert sum(one.n for one in score.calibration) == 600


@pytest.mark.invariant("trust-score")
def test_noise_scores_at_chance_because_no_document_is_measured_with_its_own_fit():
    """Every document has a mark of its own and one truth: by heart it would be told."""
    rng = np.random.default_rng(1)
    documents = [f"d{i // 20}" for i in range(400)]
    marks = {name: rng.normal(size=len(FEATURES)) * 3 for name in set(documents)}
    truth = {name: bool(rng.integers(2)) for name in sorted(set(documents))}
    true = [truth[name] for name in documents]
    noise = np.stack([marks[name] for name in documents]) + rng.normal(size=(400, len(FEATURES)))
    verdicts = ["right" if one else "absent" for one in true]
    score = fit_trust_score(ClaimEvidence(noise, verdicts, documents, []))
    assert score.auroc < 0.75


def test_the_auroc_counts_pairs_and_ties_half():
    """True at 3 and 2, false at 2 and 1: of four pairs three are right and one is a tie."""
    assert auroc(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, True, False, False])) == 0.875


def test_ten_bins_of_equally_many_in_order_of_their_score():
    predicted = np.linspace(0, 0.99, 100)[::-1].copy()
    curve = calibration(predicted, np.arange(100) < 50)
    assert [one.n for one in curve] == [10] * 10
    assert curve[0].predicted == pytest.approx(0.045)
    assert [one.true for one in curve] == [0.0] * 5 + [1.0] * 5


@pytest.mark.parametrize(
    ("true", "documents"),
    [
        ([True] * 600, DOCUMENTS),
        ([False] * 599 + [True], DOCUMENTS),
        (TRUE[:40], DOCUMENTS[:40]),
        (TRUE, ["d"] * 600),
    ],
)
def test_too_little_is_no_score(true, documents):
    assert fit_trust_score(_evidence(true, documents)) is None


def test_what_each_verdict_shows_and_single_features():
    columns = {name: i for i, name in enumerate(FEATURES)}
    features = np.zeros((4, len(FEATURES)))
    features[:, columns["fve_lost"]] = [0.3, 0.1, np.nan, -0.2]
    features[:, columns["elsewhere"]] = [0.9, 0.5, 0.4, 0.2]
    features[:, columns["base_rate"]] = [0.1, 0.1, 0.4, 0.2]
    verdicts = ["right", "right", "absent", "wrong"]
    evidence = ClaimEvidence(features, verdicts, list("abcd"), [])
    shown = evidence.by_verdict()
    assert list(shown) == ["right", "absent", "wrong"]
    assert shown["right"]["fve_lost"] == pytest.approx(0.2)
    assert shown["right"]["elsewhere_above_base"] == pytest.approx(0.6)
    assert shown["absent"]["fve_lost"] is None
    assert {verdict: one["n_claims"] for verdict, one in shown.items()} == {
        "right": 2,
        "absent": 1,
        "wrong": 1,
    }
    assert evidence.aurocs()["elsewhere_above_base"] == 1.0
    assert evidence.aurocs()["in_samples"] == 0.5
    assert ClaimEvidence(features[:2], verdicts[:2], list("ab"), []).aurocs() == {}
