import pytest

from gloss.errors import ConfigError
from gloss.nla import LocalExecutor, Questions, run_now
from gloss.nla.results import Verdict
from gloss.nla.trust import agreement, share_making

TEXT = "Leo felt joyful that dawn. He fixed the bait and his mother pulled the trout."
SAYING = "the mood is calm\nthe place is the harbor"


def test_prefixes_end_in_the_whole_and_lost_shares_are_differences(speaking):
    found = speaking.trust(TEXT, position=5, explanation=SAYING, samples=3, neighbours=1)
    vector = speaking.activations(TEXT)[5]
    lines = SAYING.split("\n")

    def fve(text):
        return speaking.score([text], vector)[0].fve

    assert found.fve == pytest.approx(fve(SAYING), abs=1e-4)
    assert [claim.text for claim in found.claims] == lines
    assert found.claims[0].prefix_fve == pytest.approx(fve(lines[0]), abs=1e-4)
    assert found.claims[-1].prefix_fve == pytest.approx(found.fve, abs=1e-4)
    assert found.claims[0].fve_lost == pytest.approx(fve(SAYING) - fve(lines[1]), abs=1e-4)
    controls = {control.name: control.fve for control in found.controls}
    assert controls["empty text"] == pytest.approx(fve(""), abs=1e-4)
    assert controls["mean direction"] is None
    assert list(controls) == [
        "mean direction",
        "empty text",
        "shuffled words",
        "texts of other tokens",
    ]
    assert [neighbour.position for neighbour in found.neighbours] == [4, 6]
    assert found.truth is None


def test_samples_are_those_that_explain_draws_and_a_seed_brings_them_back(speaking):
    found = speaking.trust(TEXT, position=5, samples=3, seed=4)
    drawn = speaking.explain(TEXT, positions=5, samples=3, temperature=1.0, seed=4)
    assert [sample.text for sample in found.samples] == [one.text for one in drawn]
    assert [sample.fve for sample in found.samples] == pytest.approx(
        [one.fve for one in drawn], abs=1e-5
    )
    assert found.explanation == speaking.explain(TEXT, positions=5)[0].text
    assert 0 <= found.agreement <= 1
    assert "agreement of samples" in str(found)


def test_the_only_claim_cannot_be_left_out_and_without_samples_nothing_agrees(speaking):
    found = speaking.trust(TEXT, explanation="it rains", samples=0, neighbours=0)
    (claim,) = found.claims
    assert (claim.fve_lost, claim.in_samples, claim.at_neighbours) == (None, None, None)
    assert (found.agreement, found.samples, found.neighbours) == (None, (), ())


def test_known_truth_judges_the_claims(speaking):
    class Known:
        def verdicts(self, text, end, explanation):
            assert (text, text[:end], explanation) == (TEXT, "Leo felt", "it rains")
            return [Verdict("weather", "rain", "wrong")]

    asked = Questions(speaking, LocalExecutor(speaking), known_truth=Known())
    found = run_now(asked.trust(TEXT, position=1, explanation="it rains", samples=0))
    assert found.truth == (Verdict("weather", "rain", "wrong"),)


def test_a_token_without_an_explanation_is_refused(nla_folder):
    from gloss.nla import NLA

    with pytest.raises(ConfigError, match="no explanation could be extracted here"):
        NLA(nla_folder).trust(TEXT)


def test_agreement_is_the_share_of_words_in_common():
    assert agreement(["a b", "a b"]) == 1
    assert agreement(["a b c", "a d e"]) == pytest.approx(1 / 5)
    assert agreement(["a b"]) is None
    assert share_making("the mood is calm", ["The mood is calm.\nit rains", "it snows"]) == 0.5
    assert share_making("x", []) is None
