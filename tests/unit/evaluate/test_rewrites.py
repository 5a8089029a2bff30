"""Explanations rewritten and read again."""

import pytest
import torch

from gloss.engines import Rollout
from gloss.evaluate import Documents, RoundTrip, measure_rewrites
from gloss.evaluate.rewrites import rewritten

TEXT = 'The mood is calm. It is about baking.\nIt ends with "the sea".'


def test_every_rewrite_of_a_text():
    found = {name: texts[0] for name, texts in rewritten([TEXT], None, seed=0).items()}
    assert found["reordered"] == 'It ends with "the sea".\nIt is about baking.\nThe mood is calm.'
    assert found["quotes_only"] == '"the sea"'
    assert found["prose_only"] == "The mood is calm.\nIt is about baking."
    assert found["empty_quotes"] == 'The mood is calm. It is about baking.\nIt ends with "".'
    assert sorted(found["shuffled_words"].split()) == sorted(TEXT.split())
    assert found["shuffled_words"] != " ".join(TEXT.split())
    assert rewritten([TEXT], None, seed=0) == rewritten([TEXT], None, seed=0)
    assert rewritten([""], None, seed=0) == {name: [""] for name in found}


class OtherWords:
    def rewrites(self, text):
        return {"light": text.upper()} if text else {}


class ReadsBaking:
    """Rebuilds e1 from a text that says baking, else e2."""

    def reconstruct(self, texts):
        return torch.stack([torch.eye(2)[0 if "baking" in text else 1] for text in texts])


@pytest.mark.invariant("rewrites")
def test_what_a_rewrite_keeps_of_the_fve():
    """Four activations e1, of which one was not extracted: errors 0, 0, 0, 2 at a variance of 1."""
    activations = torch.tensor([[1.0, 0.0]] * 4)
    said = [f"<explanation>{TEXT}</explanation>"] * 3 + ["cut"]
    rollouts = [Rollout((1,), text, True) for text in said]
    errors = torch.tensor([0.0, 0.0, 0.0, 2.0])
    extracted = torch.tensor([True, True, True, False])
    trip = RoundTrip(rollouts, activations, errors, extracted, 1.0)
    documents = Documents.of(list("abcd"), resamples=200, seed=0)
    found = measure_rewrites(ReadsBaking(), trip, activations, OtherWords(), documents, seed=0)
    assert trip.fve == 0.5
    assert found["reordered"]["fve"] == pytest.approx(0.5)
    assert found["reordered"]["kept"] == pytest.approx(1.0)
    assert found["quotes_only"]["fve"] == pytest.approx(-1.0)
    assert found["quotes_only"]["lost"] == pytest.approx(1.5)
    low, high = found["quotes_only"]["lost_ci95"]
    assert 0 <= low < 1.5 < high <= 2.0
    assert found["light"]["fve"] == pytest.approx(-1.0)  # "BAKING" is not read
    worse = RoundTrip(rollouts, activations, errors + 1, extracted, 1.0)
    kept = measure_rewrites(ReadsBaking(), worse, activations, None, documents, seed=0)
    assert kept["reordered"]["kept"] is None
    assert "light" not in kept
