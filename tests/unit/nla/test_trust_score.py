"""How likely claims are to be true: features and the fitted score, by hand."""

import json
import math

import numpy as np
import pytest

from gloss.errors import CheckpointError
from gloss.nla.trust_score import (
    FEATURES,
    TRUST_SCORE_NAME,
    TrustScore,
    Wording,
    claim_features,
    read_trust_score,
    terms,
)

COUNT = len(FEATURES)


def _score(**changes):
    """A score of one coefficient: 2 for how much of the claim the samples say."""
    coefficients = [0.0] * (COUNT + COUNT * (COUNT + 1) // 2)
    coefficients[FEATURES.index("in_samples")] = 2.0
    values = {
        "reference": ["the mood is calm", "it is about baking"],
        "mean": [0.5] * COUNT,
        "scale": [0.25] * COUNT,
        "coefficients": coefficients,
        "intercept": 1.0,
        "auroc": 0.9,
        "calibration_error": 0.05,
        "calibration": [{"predicted": 0.5, "true": 0.5, "n": 10}],
        "true_share": 0.5,
        "n_claims": 100,
        "n_documents": 10,
    }
    return {**values, **changes}


def test_words_of_a_claim_count_by_how_rare_they_are():
    """Of two reference texts both say aa, one bb, none cc: weights log 4/3, log 4/2, log 4/1."""
    wording = Wording(["aa bb", "aa"])
    a, b, c = math.log(4 / 3), math.log(4 / 2), math.log(4)
    assert wording.shares("aa bb cc", ["aa bb", "cc", "aa. cc bb", ""]) == pytest.approx(
        [(a + b) / (a + b + c), c / (a + b + c), (b + c) / (a + b + c), 0.0]
    )
    assert wording.base_rate("aa bb") == pytest.approx((1 + a / (a + b)) / 2)
    assert Wording([]).base_rate("aa") is None


def test_the_features_of_a_claim():
    wording = Wording(["it rains"])
    found = claim_features(
        wording,
        ["the mood is calm", 'it ends with "sea"'],
        fve=0.6,
        lost=[0.2, None],
        samples=[("the mood is calm", 0.5), ("it snows", 0.1), (None, None)],
        others=["nothing", 'it ends with "sea"'],
    )
    named = [dict(zip(FEATURES, row, strict=True)) for row in found.tolist()]
    assert named[0]["fve"] == 0.6
    assert (named[0]["fve_lost"], math.isnan(named[1]["fve_lost"])) == (0.2, True)
    assert named[0]["sample_fve"] == pytest.approx(0.3)
    assert (named[0]["in_samples"], named[0]["samples_saying"]) == (0.5, 0.5)
    assert (named[0]["elsewhere"], named[1]["others_saying"]) == (0.0, 0.5)
    assert (named[0]["quotes"], named[1]["quotes"]) == (0.0, 1.0)
    assert {row["num_claims"] for row in named} == {2.0}
    nothing = claim_features(wording, ["x"], fve=None, lost=[None], samples=[], others=[])
    assert np.isnan(nothing[0, : FEATURES.index("base_rate")]).all()


def test_the_probability_is_the_logistic_of_the_standardised_features():
    """in_samples 0.75 is one scale above the mean: 1 + 2 · 1; 0.5 is the mean: 1."""
    score = TrustScore.model_validate(_score())
    features = np.full((3, COUNT), 0.5)
    features[0, FEATURES.index("in_samples")] = 0.75
    features[2, FEATURES.index("in_samples")] = np.nan
    expected = [1 / (1 + math.exp(-3)), 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-1))]
    assert score.probabilities(features) == pytest.approx(expected)


def test_nothing_counts_further_than_five_scales_and_products_follow():
    z = np.zeros((1, COUNT))
    z[0, 0], z[0, 1] = 100.0, 2.0
    found = terms(z)[0]
    assert found[:2].tolist() == [5.0, 2.0]
    assert found[COUNT : COUNT + 2].tolist() == [25.0, 10.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": [0.0] * COUNT}, "scales above 0"),
        ({"mean": [0.0]}, "mean and scale"),
        ({"coefficients": [0.0]}, "coefficients"),
        ({"intercept": None}, "intercept"),
        ({"reference": ["x" * 200_000]}, "too long"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(tmp_path, changes, message):
    file = tmp_path / TRUST_SCORE_NAME
    file.write_text(json.dumps(_score()), encoding="utf-8")
    assert read_trust_score(file).auroc == 0.9
    file.write_text(json.dumps(_score(**changes)), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        read_trust_score(file)


def test_an_nla_with_a_score_says_how_likely_each_claim_is(speaking, tmp_path, monkeypatch):
    text = "Leo felt joyful that dawn. He fixed the bait and his mother pulled the trout."
    monkeypatch.setitem(vars(speaking), "trust_score", TrustScore.model_validate(_score()))
    found = speaking.trust(text, position=5, explanation="the mood is calm\nit rains", samples=2)
    likely = [claim.likely_true for claim in found.claims]
    assert all(0 < one < 1 for one in likely)
    assert found.likely_true == pytest.approx(sum(likely) / 2)
    assert found.score_quality.auroc == 0.9
    assert "expected to be true" in str(found)
    without = speaking.trust(text, position=5, explanation="it rains", samples=0)
    assert without.claims[0].likely_true is None
    monkeypatch.setitem(vars(speaking), "trust_score", None)
    unknown = speaking.trust(text, position=5, explanation="it rains", samples=2)
    assert (unknown.likely_true, unknown.score_quality) == (None, None)
    assert "what is true is not known" in str(unknown)
