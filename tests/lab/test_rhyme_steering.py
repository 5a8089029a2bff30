"""The lab's texts for steering, and what is measured on them with halves that know the answers."""

import re

import pytest
import torch

from gloss.contract import wrap_explanation
from gloss.engines import Rollout
from gloss.evaluate.steering import measure_steering
from gloss.lab import generate_documents, lab_target_folder, render
from gloss.lab.rhyme_steering import RhymeSteering
from gloss.lab.truth import values
from gloss.lab.wording_facts import RHYMES
from gloss.plugins import steering_bench
from gloss.target_model import capture_activations, load_target

LAYER = 2
BENCH = RhymeSteering()


@pytest.fixture(scope="module")
def target():
    return load_target(lab_target_folder())


@pytest.fixture(scope="module")
def of_rhyme(target):
    """By rhyme the mean activation at line breaks that call for it, of other texts."""
    found = {value: [] for value in values("rhyme")}
    for document in generate_documents(500, 77):
        for fact in document.facts:
            if fact.kind == "rhyme":
                ids = target.tokenizer.encode(render(document)[: fact.start + 2])
                row = torch.tensor([ids])
                with torch.inference_mode():
                    found[fact.value].append(
                        capture_activations(target.model, row, None, LAYER)[0, -1]
                    )
    return {value: torch.stack(some).mean(dim=0) for value, some in found.items()}


class SaysTheRhyme:
    """Explains the activations of a bench's cases in order: what they truly hold."""

    def __init__(self, cases):
        self.cases = cases

    def generate(self, activations, *, num_samples=1, **_):
        assert len(activations) == len(self.cases)
        texts = [f"The rhyme will be {case.value}. {case.unrelated[1]}." for case in self.cases]
        rollouts = [Rollout((1,), wrap_explanation(text), True) for text in texts]
        return [rollout for rollout in rollouts for _ in range(num_samples)]


class Reads:
    """Rebuilds from the rhyme that a text names; a hero it does not read."""

    def __init__(self, vectors):
        self.vectors = vectors

    def reconstruct(self, texts):
        return torch.stack([self.vectors[re.search(r"be (\w+)", text)[1]] for text in texts])


def measured(target, vectors, *, cases=20, tuned_on=6):
    engine = SaysTheRhyme(BENCH.cases(cases + tuned_on, 0))
    return measure_steering(
        engine,
        Reads(vectors),
        target,
        LAYER,
        BENCH,
        cases=cases,
        tuned_on=tuned_on,
        max_new_tokens=20,
        seed=0,
    )


def test_a_case_is_two_texts_that_differ_in_one_phrase_alone():
    cases = BENCH.cases(30, 0)
    assert cases == BENCH.cases(30, 0) != BENCH.cases(30, 1)
    assert len({case.text for case in cases}) > 25
    for case in cases:
        assert case.text.endswith(",\n")
        assert case.partner.endswith(",\n")
        shared = case.text[: case.text.rfind("\n", 0, -1) + 1]
        assert case.partner.startswith(shared)
        calls = {b: f"{before} {a},\n" for a, (before, _, _, b) in RHYMES.items()}
        assert case.text.removesuffix(calls[case.value]) == case.partner.removesuffix(
            calls[case.intended]
        )
        assert case.intended not in case.text
        assert case.unrelated[0] == "hero"
        assert case.unrelated[1] in case.text
        assert case.unrelated[1] != case.unrelated[2]


def test_an_edit_replaces_the_value_that_is_named():
    said = "The hero is Karl.\nThe rhyme will be bell.\nBell."
    assert BENCH.edited(said, "rhyme", "horn") == said.replace("be bell", "be horn")
    assert BENCH.edited(said, "mood", "calm") is None


@pytest.mark.parametrize(
    ("line", "rhyme"),
    [
        ("Eating all the fine sweet cake.\nSam", "cake"),
        ("\nPlaying on the silver bell", "bell"),
        ("Eating all the cake of Sam.", None),
        ("", None),
    ],
)
def test_a_continuation_shows_what_its_line_ends_on(line, rhyme):
    assert BENCH.shown("rhyme", line) == rhyme


@pytest.mark.invariant("steering-rates")
def test_who_knows_the_direction_of_a_rhyme_steers_and_no_control_does(target, of_rhyme):
    found = measured(target, of_rhyme)
    rates = {name: one["rate"] for name, one in found["rates"].items()}
    assert rates["patch"] >= 0.9
    assert rates["edit"] == rates["averaged"] >= 0.7
    assert max(rates[name] for name in ("none", "random", "unrelated", "elsewhere")) <= 0.1
    assert rates["none"] == rates["unrelated"] == 0.0  # the hero's edit changes nothing here
    assert found["named"] == 1.0
    low, high = found["rates"]["edit"]["ci95"]
    assert low < rates["edit"] <= high


@pytest.mark.invariant("steering-rates")
def test_who_takes_one_rhyme_for_another_does_not(target, of_rhyme):
    names = sorted(of_rhyme)
    turned = dict(zip(names, [of_rhyme[name] for name in (*names[7:], *names[:7])], strict=True))
    rates = measured(target, turned)["rates"]
    assert rates["patch"]["rate"] >= 0.9
    assert rates["edit"]["rate"] <= 0.1
    assert rates["averaged"]["rate"] <= 0.1


def test_a_judge_without_texts_steers_nothing():
    assert steering_bench(None) is None
    assert steering_bench(object()) is None
