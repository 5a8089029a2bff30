from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from gloss.report.claims_tables import KindScores, kind_scores, pooled, read_example
from gloss.report.figures import moving_mean, spread
from gloss.report.trust_sections import findings, standing


def levels(results: dict[str, Any], metrics: list[dict[str, Any]] | None = None) -> dict[str, str]:
    return {finding.title: finding.level for finding in findings(results, metrics or [])}


def row(
    precision: float | None,
    ceiling: float | None,
    above: tuple[float, float] | None,
    n: int,
) -> KindScores:
    return KindScores("hero", precision, 0.1, ceiling, 0.1, n, n, above)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (row(0.09, 0.71, (-0.03, 0.05), 540), "chance"),
        (row(0.02, 0.71, (-0.09, -0.02), 540), "chance"),
        (row(0.20, 0.71, (0.03, 0.17), 540), "short of the best reader"),
        (row(0.20, 0.71, (0.0, 0.2), 540), "chance"),
        (row(0.69, 0.71, (0.5, 0.64), 540), "as good as the best reader"),
        (row(0.63, 0.71, (0.5, 0.64), 540), "short of the best reader"),
        (row(0.69, None, (0.5, 0.64), 540), "above chance, no reader"),
        (row(0.90, 0.92, (0.6, 0.9), 29), "too few claims"),
        (row(0.90, 0.92, (0.6, 0.9), 30), "as good as the best reader"),
        (row(0.90, 0.92, None, 540), "not measured"),
        (row(None, 0.92, None, 0), "not measured"),
    ],
)
@pytest.mark.invariant("numbers-7")
def test_standing_of_a_kind(scores: KindScores, expected: str) -> None:
    assert standing(scores) == expected


@pytest.mark.invariant("numbers-7")
@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.61, 0.68), "as good as the best reader"),
        ((0.60, 0.68), "no more than the commonest value"),
        ((0.50, 0.78), "no more than the commonest value"),
        (None, "as good as the best reader"),
    ],
)
def test_one_value_for_everything_is_no_reading(
    interval: tuple[float, float] | None, expected: str
) -> None:
    """Above chance, and the commonest value is true of 60 %."""
    scores = KindScores(
        "hero", 0.65, 0.1, 0.7, 0.1, 540, 540, (0.5, 0.6), majority=0.6, precision_ci95=interval
    )
    assert standing(scores) == expected


@pytest.mark.parametrize(
    ("interval", "title", "level"),
    [
        ([0.251, 0.307], "Above every guess without the activation", "good"),
        ([-0.01, 0.06], "No better than a guess without the activation", "warning"),
        ([0.0, 0.06], "No better than a guess without the activation", "warning"),
        (None, "Above every guess, without an interval", "unknown"),
    ],
)
def test_a_guess_without_the_activation_is_beaten_only_beyond_chance(
    results: dict[str, Any], interval: list[float], title: str, level: str
) -> None:
    results["gains"]["rl_over_last_words"]["ci95"] = interval
    (found,) = [one for one in findings(results) if "guess" in one.title]
    assert (found.title, found.level) == (title, level)
    assert "(last words) scores 0.61" in found.text
    del results["blind"]
    assert levels(results)["Not compared with a guess without the activation"] == "unknown"


def test_high_fve_with_false_claims_is_a_warning(results: dict[str, Any]) -> None:
    assert levels(results)["High FVE, few claims right"] == "warning"
    for scores in results["claims"].values():
        scores.update(precision=0.86, best_reader=0.9)
    titles = levels(results)
    assert "High FVE, few claims right" not in titles
    assert titles["Claims against known truth"] == "good"


def test_claims_at_chance_are_named_with_their_numbers(results: dict[str, Any]) -> None:
    found = next(
        finding for finding in findings(results) if finding.title == "At or below chance: hero"
    )
    assert found.level == "warning"
    assert "hero 9\u00a0% against 8\u00a0%, best reader 71\u00a0%" in found.text


@pytest.mark.invariant("numbers-9")
def test_findings_say_only_what_the_numbers_of_the_run_show(results: dict[str, Any]) -> None:
    """No cause and no rule of thumb that this run did not measure."""
    metrics = [{"step": step, "fve_heldout": value} for step, value in enumerate((0.9, 0.8))]
    results.update(extraction_failure_rate=0.3, n_heldout=20, loop_rate=0.2)
    results["fve"]["rl_sampled"] = 0.1
    said = " ".join(f"{one.title} {one.text}" for one in findings(results, metrics)).casefold()
    for unmeasured in (
        "private",
        "within reach",
        "choice of words",
        "more often true",
        "agree",
        "does hold",
        "earlier stop",
        "carries",
    ):
        assert unmeasured not in said


def test_without_known_truth_nothing_is_said_for_the_claims(results: dict[str, Any]) -> None:
    results["claims"] = {}
    assert levels(results)["Truth of the claims was not measured"] == "unknown"


@pytest.mark.invariant("numbers-7")
def test_a_tick_over_the_controls_needs_every_interval(results: dict[str, Any]) -> None:
    assert levels(results)["Above every control"] == "good"
    results["gains"]["rl_over_random_activation"]["ci95"] = [-0.01, 0.4]
    assert levels(results)["No better than a control"] == "warning"
    results["gains"]["rl_over_random_activation"]["ci95"] = None
    assert levels(results)["Above the controls, without an interval"] == "unknown"
    results["controls"]["empty_text"] = 0.2
    assert levels(results)["A control scores too"] == "caution"
    results["controls"]["empty_text"] = 0.88
    assert levels(results)["No better than a control"] == "warning"


@pytest.mark.invariant("numbers-7")
@pytest.mark.parametrize(
    ("interval", "title", "level"),
    [
        ([0.284, 0.321], "RL helped", "good"),
        ([-0.01, 0.6], "No effect of RL was shown", "caution"),
        ([0.0, 0.6], "No effect of RL was shown", "caution"),
        ([-0.2, -0.1], "RL did not help", "warning"),
        (None, "Whether RL helped was not measured", "unknown"),
    ],
)
def test_rl_helped_only_if_the_interval_of_the_difference_excludes_zero(
    results: dict[str, Any], interval: list[float] | None, title: str, level: str
) -> None:
    """The plain difference, 0.55 to 0.85, is the same in all of these."""
    results["gains"]["rl_over_sft_sampled"]["ci95"] = interval
    assert levels(results)[title] == level


def test_samples_far_below_greedy_text_are_a_caution(results: dict[str, Any]) -> None:
    results["fve"]["rl_sampled"] = 0.5
    assert levels(results)["Samples are much worse than greedy text"] == "caution"


@pytest.mark.invariant("numbers-7")
def test_more_than_labels_needs_an_interval_too(results: dict[str, Any]) -> None:
    title = "More is rebuilt from explanations than from labels"
    assert levels(results)[title] == "caution"
    results["gains"]["rl_over_ar_on_labels"]["ci95"] = [-0.01, 0.06]
    assert title not in levels(results)


def test_heldout_fve_that_fell_is_a_caution(results: dict[str, Any]) -> None:
    points = [{"step": step, "fve_heldout": value} for step, value in enumerate((0.7, 0.85, 0.8))]
    assert levels(results, points)["Held-out FVE fell at the end"] == "caution"
    assert "Held-out FVE fell at the end" not in levels(results, points[:2])


def test_failures_and_few_rows_are_cautions(results: dict[str, Any]) -> None:
    results.update(extraction_failure_rate=0.04, n_heldout=120, loop_rate=0.06)
    titles = levels(results)
    text = next(one.text for one in findings(results) if one.title == "Extraction fails often")
    assert text.endswith("FVE of those that could: 0.90.")
    assert titles["Explanations run in loops"] == "caution"
    assert titles["Extraction fails often"] == "caution"
    assert titles["Few held-out activations"] == "caution"


def test_warnings_come_first(results: dict[str, Any]) -> None:
    order = [finding.level for finding in findings(results)]
    assert order == sorted(order, key=["warning", "caution", "good", "unknown"].index)


def test_pooled_precision_weighs_by_claims() -> None:
    scores = [row(1.0, 0.8, None, 30), row(0.0, None, None, 10)]
    assert pooled(scores, "precision") == pytest.approx(0.75)
    assert pooled(scores, "best_reader") == pytest.approx(0.8)
    assert pooled([row(None, None, None, 0)], "precision") is None


def test_kinds_far_above_chance_come_first(results: dict[str, Any]) -> None:
    kinds = [scores.kind for scores in kind_scores(results)]
    assert kinds[0] == "topic"
    assert kinds[-1] == "hero"


def test_segments_join_to_the_explanation_whatever_the_claims(results: dict[str, Any]) -> None:
    example = results["examples"][0]
    size = len(example["explanation"])
    claim = {"kind": "k", "value": "v", "verdict": "right"}
    places = [(-1, 4), (5, 2), (size - 3, size + 9), (2, 12), (None, None), (3, 5)]
    example["claims"] += [{**claim, "start": start, "end": end} for start, end in places]
    parts = read_example(example).parts
    assert "".join(part.text for part in parts) == example["explanation"]
    assert "carries a lantern" in [part.text for part in parts if part.claim]


def test_spread_keeps_labels_apart_and_in_order() -> None:
    placed = spread([-0.3, -0.3, -0.2, 0.85, 0.86], 0.05, -0.3)
    assert placed[0] >= -0.3
    assert all(b - a >= 0.05 - 1e-9 for a, b in pairwise(placed))
    assert placed[3] == pytest.approx(0.83)
    assert spread([0.1, 0.5], 0.05, 0.0) == pytest.approx([0.1, 0.5])


def test_moving_mean_keeps_length_and_short_curves() -> None:
    assert moving_mean([1.0, 2.0, 6.0]) == [1.0, 2.0, 6.0]
    smooth = moving_mean([float(i % 2) for i in range(40)])
    assert len(smooth) == 40
    assert smooth[20] == pytest.approx(0.4)


def steered(**rates: tuple[float, float, float]) -> dict[str, Any]:
    found = {name: {"rate": rate, "ci95": [low, high]} for name, (rate, low, high) in rates.items()}
    return {"steering": {"kind": "rhyme", "n_texts": 100, "rates": found}}


def test_an_edit_acts_where_its_interval_stands_above_the_best_controls() -> None:
    controls = {"none": (0.0, 0.0, 0.04), "random": (0.02, 0.0, 0.07)}
    weak, strong = (0.1, 0.05, 0.17), (0.42, 0.33, 0.52)
    (found,) = [
        one
        for one in findings(steered(edit=weak, averaged=strong, patch=(1.0, 0.96, 1.0), **controls))
        if one.title == "The target acts on what an edit says"
    ]
    assert found.level == "good"
    assert "10\u00a0% of 100 texts" in found.text
    assert "other texts 42\u00a0%" in found.text
    assert "truly says so 100\u00a0%" in found.text
    assert "best control (random) 2\u00a0%" in found.text
    assert levels(steered(edit=weak, **controls))["Edits were not shown to act"] == "caution"
    assert not any("dit" in title for title in levels(steered(edit=strong)))  # without controls
