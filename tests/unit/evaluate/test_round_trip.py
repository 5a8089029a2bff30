import pytest
import torch

from gloss.engines import Rollout
from gloss.evaluate import RoundTrip, bootstrap_fve, control_fves, measure_claims, round_trip
from gloss.evaluate.claims import FactRows
from gloss.models import direction_mse, direction_variance
from gloss.plugins import JudgedClaim


class ScriptedReconstructor:
    """Gives the same vector for every text."""

    def __init__(self, vector):
        self.vector = vector

    def reconstruct(self, texts):
        return self.vector.expand(len(texts), -1)


def _activations(n=200, d=16, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + 1


def _trip(vectors, activations, extracted=None):
    kept = torch.ones(len(vectors), dtype=torch.bool) if extracted is None else extracted
    errors = torch.full((len(vectors),), 2.0)
    errors[kept] = direction_mse(vectors[kept], activations[kept])
    rollouts = [
        Rollout((1, 2), "<explanation>x</explanation>" if k else "cut", bool(k)) for k in kept
    ]
    return RoundTrip(rollouts, vectors, errors, kept, direction_variance(activations))


def test_a_perfect_round_trip_has_fve_one_and_fails_every_control():
    activations = _activations()
    trip = _trip(activations, activations)
    assert trip.fve == pytest.approx(1, abs=1e-5)
    controls = control_fves(ScriptedReconstructor(torch.ones(1, 16)), trip, activations, seed=0)
    assert all(value <= 0.05 for value in controls.values())
    assert controls["shuffled_activations"] < -0.5
    assert controls["random_activation"] < -0.5
    assert controls["mean_direction"] > controls["random_activation"]


def test_a_content_blind_pair_is_exposed_by_its_controls():
    activations = _activations()
    constant = activations.mean(0, keepdim=True).expand_as(activations)
    trip = _trip(constant, activations)
    controls = control_fves(ScriptedReconstructor(constant[:1]), trip, activations, seed=0)
    assert controls["empty_text"] == pytest.approx(trip.fve, abs=1e-5)
    assert controls["shuffled_activations"] == pytest.approx(trip.fve, abs=1e-5)


def test_failed_extractions_are_charged_as_orthogonal():
    activations = _activations()
    kept = torch.ones(200, dtype=torch.bool)
    kept[:100] = False
    trip = _trip(activations, activations, kept)
    assert trip.failure_rate == 0.5
    assert trip.fve == pytest.approx(1 - 1.0 / trip.variance, abs=1e-4)


@pytest.mark.invariant("centred-variance")
def test_the_bootstrap_resamples_documents_not_rows():
    activations = _activations(400)
    errors = torch.repeat_interleave(torch.rand(20, generator=torch.Generator().manual_seed(1)), 20)
    by_document = bootstrap_fve(
        errors, activations, [str(i // 20) for i in range(400)], resamples=500, seed=0
    )
    by_row = bootstrap_fve(errors, activations, [str(i) for i in range(400)], resamples=500, seed=0)
    assert by_document[1] - by_document[0] > 2 * (by_row[1] - by_row[0])
    fve = 1 - float(errors.mean()) / direction_variance(activations)
    assert by_document[0] < fve < by_document[1]


class OneFactJudge:
    """Documents are called by the truth of their only fact; an explanation claims what it says."""

    def judge(self, explanation, doc_id, context):
        verdict = "right" if explanation == doc_id else "wrong"
        return (
            [JudgedClaim("color", explanation, 0, len(explanation), verdict)] if explanation else []
        )

    def known(self, doc_id, context):
        return {"color": doc_id}


def test_claims_are_scored_beside_probe_and_chance():
    truth = ["red", "blue"] * 100
    said = ["red" if i % 10 else "" for i in range(200)]
    vectors = torch.tensor([[1.0, 0.0] if t == "red" else [0.0, 1.0] for t in truth]).numpy()
    rows = FactRows(vectors, [{"color": t} for t in truth], truth)
    options = {"heldout": rows, "probe_rows": rows}
    scores = measure_claims(OneFactJudge(), {"rl": said}, truth, [""] * 200, **options).kinds[
        "color"
    ]
    claimed = [i for i in range(200) if i % 10]
    right = sum(truth[i] == "red" for i in claimed)
    assert scores.n_claims == 180
    assert scores.precision == pytest.approx(right / 180)
    assert scores.recall == pytest.approx(right / 200)
    assert scores.best_reader == 1.0
    assert 0.3 < scores.chance < 0.7


@pytest.mark.invariant("failed-extraction")
def test_a_round_trip_rebuilds_what_was_extracted_and_charges_the_rest():
    activations = _activations(4)
    texts = [
        "<explanation>a</explanation>",
        "cut <explanation> off",
        "<explanation> </explanation>",
        "none",
    ]

    class ScriptedEngine:
        def generate(self, activations, **_):
            return [Rollout((1,), text, True) for text in texts]

    reconstructor = ScriptedReconstructor(activations[:1] * 3)
    trip = round_trip(
        ScriptedEngine(), reconstructor, activations, temperature=0, max_new_tokens=1, seed=0
    )
    assert trip.errors.tolist() == pytest.approx([0, 2, 2, 2], abs=1e-5)
    assert trip.extracted.tolist() == [True, False, False, False]
    assert trip.texts == ["a", "", "", ""]
    assert trip.failure_rate == 0.75
    assert trip.fve == pytest.approx(1 - 1.5 / direction_variance(activations), abs=1e-4)
