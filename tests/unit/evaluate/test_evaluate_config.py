"""What an evaluation measures if nobody says otherwise, and what nobody can ask of it."""

import inspect

import pytest
from pydantic import ValidationError

from gloss.evaluate import EvaluateConfig, measure_claims, random_examples, readers

DEFAULTS = {
    "max_rows": 1000,
    "max_new_tokens": 150,
    "bootstrap_resamples": 2000,
    "probe_rows": 4000,
    "trust_rows": 400,
    "steering_texts": 100,
    "examples": 12,
    "attn_implementation": None,
    "seed": 0,
}
BOUNDS = {
    "max_rows": (2, 1_000_000_000),
    "max_new_tokens": (1, 100_000),
    "bootstrap_resamples": (100, 1_000_000),
    "probe_rows": (0, 1_000_000_000),
    "trust_rows": (0, 1_000_000_000),
    "steering_texts": (0, 1_000_000_000),
    "examples": (0, 100_000),
}


def test_published_numbers_rest_on_these_settings_unless_a_run_says_otherwise():
    assert EvaluateConfig().model_dump() == DEFAULTS
    assert inspect.signature(measure_claims).parameters["resamples"].default == 2000
    assert (readers.RESAMPLES, readers.KEPT, readers.MAX_ITERATIONS) == (5, 0.8, 2000)
    assert random_examples.CONTEXT_CHARS == 400


@pytest.mark.invariant("runs-6")
@pytest.mark.parametrize(("name", "bounds"), BOUNDS.items())
def test_both_bounds_are_inside_and_what_is_beyond_is_refused(name, bounds):
    least, most = bounds
    for good in bounds:
        assert getattr(EvaluateConfig(**{name: good}), name) == good
    for wrong in (least - 1, most + 1):
        with pytest.raises(ValidationError):
            EvaluateConfig(**{name: wrong})
