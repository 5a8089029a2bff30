"""Every measure of a run, once: where it stands in the results, its name, its meaning and how it
is written. Terminal and page show the same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from gloss.formatting import count, decimal, finite, interval_of, percent
from gloss.store.run_files import section

_fve = partial(decimal, digits=3)


@dataclass(frozen=True)
class Measure:
    """A number of ``results.json``; an optional one is left out where it was not measured."""

    key: str
    name: str
    meaning: str
    form: Callable[[Any], str] = _fve
    optional: bool = False

    def value(self, results: Mapping[str, Any]) -> Any:
        """What stands under the key, ``part.name`` for one inside a part."""
        part, _, name = self.key.rpartition(".")
        for one in part.split(".") if part else ():
            results = section(results, one)
        return results.get(name)


ROUND_TRIP = (
    Measure(
        "fve.ar_on_labels",
        "AR on labels",
        "Activations rebuilt from the labeller's own text, by the AR before RL{labelled}.",
        optional=True,
    ),
    Measure(
        "fve.sft",
        "SFT, greedy",
        "Activation to text and back before RL, with the AV's most likely words.",
        optional=True,
    ),
    Measure(
        "fve.sft_sampled",
        "SFT, sampled",
        "The same with words drawn at temperature 1: where RL starts.",
        optional=True,
    ),
    Measure("fve.rl", "RL, greedy", "Activation to text and back: the main number."),
    Measure(
        "fve.rl_sampled",
        "RL, sampled",
        "The same with words drawn at temperature 1: what any one sample is worth.",
    ),
)
MAIN = ROUND_TRIP[3]
CONTROLS = (
    Measure(
        "controls.mean_direction",
        "Mean direction",
        "Always the average direction at full length (the average itself scores 0).",
    ),
    Measure(
        "controls.shuffled_activations",
        "Shuffled activations",
        "Each explanation scored against an activation of another document.",
    ),
    Measure(
        "controls.empty_text",
        "Empty text",
        "The AR given no text at all.",
    ),
    Measure(
        "controls.random_activation",
        "Random activation",
        "A random vector in place of the reconstruction.",
    ),
)
BLIND = (
    Measure(
        "blind.controls.last_words",
        "Last words",
        "The text's last {guess} instead of the explanation, in the form in which it quotes.",
        optional=True,
    ),
    Measure(
        "blind.controls.other_token",
        "Another token",
        "The explanation of another token of the same text.",
        optional=True,
    ),
    Measure(
        "blind.controls.one_text",
        "One text for all",
        "The explanation that serves all activations best.",
        optional=True,
    ),
    Measure(
        "blind.controls.position_mean",
        "Mean of the position",
        "The mean direction of activations about as far into their text.",
        optional=True,
    ),
    Measure(
        "blind.controls.av_of_mean",
        "AV given the mean",
        "What the AV writes of the mean direction, for all.",
        optional=True,
    ),
    Measure(
        "blind.controls.av_of_noise",
        "AV given noise",
        "What the AV writes of a random direction, for all.",
        optional=True,
    ),
)
ABOVE_BLIND = Measure(
    "blind.fve_above",
    "Above the best blind control",
    "What the words carry that no guess without this activation does ({best}).",
    optional=True,
)
TEXT = (
    Measure(
        "extraction_failure_rate",
        "Extraction failures, greedy",
        "Explanations without a closing tag or without text; they count as orthogonal and are never"
        " left out.",
        percent,
    ),
    Measure(
        "extraction_failure_rate_sampled",
        "Extraction failures, sampled",
        "The same at temperature 1.",
        percent,
        optional=True,
    ),
    Measure(
        "fve_extracted.rl",
        "FVE of the extracted, greedy",
        "The greedy number over those explanations alone that could be extracted.",
        optional=True,
    ),
    Measure(
        "fve_extracted.rl_sampled",
        "FVE of the extracted, sampled",
        "The same at temperature 1.",
        optional=True,
    ),
    Measure(
        "loop_rate",
        "Loops, greedy",
        "Responses, extracted or not, in which a stretch of tokens stands three times in a row.",
        percent,
        optional=True,
    ),
    Measure("loop_rate_sampled", "Loops, sampled", "The same at temperature 1.", percent, True),
    Measure(
        "mean_explanation_tokens",
        "Mean length",
        "Tokens the AV writes per explanation.",
        partial(decimal, digits=1),
    ),
    Measure(
        "n_heldout",
        "Held-out activations",
        "What these numbers rest on, from {documents} that no training stage saw.",
        count,
    ),
)
TRUTH = (
    Measure(
        "truth.rl.facts.precision",
        "Facts right, greedy",
        "Claims of facts that are right of the text and in the activation.",
        percent,
        optional=True,
    ),
    Measure(
        "truth.rl_sampled.facts.precision",
        "Facts right, sampled",
        "The same of words drawn at temperature 1; {truth_before}.",
        percent,
        optional=True,
    ),
    Measure(
        "truth.rl.privileged.precision",
        "Privileged claims right",
        "Of what no text says in so many words: a plan, a motive, who asks.",
        percent,
        optional=True,
    ),
    Measure(
        "truth.rl.all.precision",
        "All claims right",
        "Facts, quotes and whatever else can be judged.",
        percent,
        optional=True,
    ),
    Measure(
        "truth.rl.names_not_held",
        "Names what is not held",
        "Explanations that tell a kind of fact that no activation holds.",
        percent,
        optional=True,
    ),
    Measure(
        "trust.score.auroc",
        "Trust score, AUROC",
        "Chance that a right claim scores above another, on documents it was not fitted on.",
        optional=True,
    ),
    Measure(
        "trust.score.calibration_error",
        "Trust score, calibration error",
        "How far the score is from the share that is right, mean over ten bins.",
        optional=True,
    ),
)
REWRITES = tuple(
    Measure(f"rewrites.{key}.fve", name, meaning, optional=True)
    for key, name, meaning in (
        ("light", "Light paraphrase", "Every second fact said in another wording."),
        ("heavy", "Heavy paraphrase", "Every fact in another wording, the sentences moved."),
        ("coherent", "Coherence only", "Without what says nothing or repeats a kind."),
        ("summary", "Summary", "The values alone, in one sentence."),
        ("reordered", "Reordered", "The same sentences, last first."),
        ("shuffled_words", "Shuffled words", "All words in random order."),
        ("quotes_only", "Quotes only", "What stands in quotation marks, nothing else."),
        ("prose_only", "Prose only", "The sentences that quote nothing."),
        ("empty_quotes", "Quotes emptied", "Every quotation without its words."),
    )
)
GROUPS = {
    "Round trip (FVE)": (*ROUND_TRIP, ABOVE_BLIND),
    "Truth of the claims": TRUTH,
    "Blind controls (FVE)": BLIND,
    "Controls (FVE)": CONTROLS,
    "Rewritten explanations (FVE)": REWRITES,
    "Text and data": TEXT,
}


@dataclass(frozen=True)
class MeasureRow:
    """A measure as it is shown."""

    name: str
    value: str
    meaning: str
    interval: str = ""
    main: bool = False


def measure_rows(results: Mapping[str, Any]) -> dict[str, list[MeasureRow]]:
    """The table of measures: round trip, controls, text and data."""
    number = finite(results.get("n_heldout_documents"))
    documents = "documents" if number is None else f"{count(number)} documents"
    of, rows = (finite(results.get(key)) for key in ("n_heldout_labelled", "n_heldout"))
    labelled = f", on the {count(of)} of these rows that have one" if of and of != rows else ""
    words = finite(section(section(results, "blind"), "last_words").get("count"))
    guess = "words" if words is None else f"{count(words)} words" if words > 1 else "word"
    best, _ = best_blind(results) or ("", 0.0)
    before = section(section(results, "truth"), "sft_sampled")
    share = finite(section(before, "facts").get("precision"))
    fields = {
        "documents": documents,
        "labelled": labelled,
        "guess": guess,
        "best": best,
        "truth_before": "SFT was not measured" if share is None else f"{percent(share)} before RL",
    }
    trained = has_stages(results)
    rows_of = {
        title: [
            MeasureRow(
                one.name if trained else _alone(one.name),
                one.form(one.value(results)),
                one.meaning.format(**fields),
                _interval(one, results),
                one is MAIN,
            )
            for one in group
            if not one.optional or finite(one.value(results)) is not None
        ]
        for title, group in GROUPS.items()
    }
    return {title: rows for title, rows in rows_of.items() if rows}


def _alone(name: str) -> str:
    """The name where nothing before RL stands beside it."""
    name = name.removeprefix("RL, ")
    return name[:1].upper() + name[1:]


def has_stages(results: Mapping[str, Any]) -> bool:
    """Whether the NLA was measured before its RL too: one of another's run was not."""
    return finite(section(results, "fve").get("sft")) is not None


def _interval(one: Measure, results: Mapping[str, Any]) -> str:
    if one is MAIN:
        return fve_interval(results)
    if one in TRUTH and one.key.endswith(".precision"):
        interval = interval_of(replace(one, key=_beside(one.key, "ci95")).value(results))
        return "" if interval is None else " to ".join(map(percent, interval))
    above = above_blind(results) if one is ABOVE_BLIND else None
    return "" if above is None or above[1] is None else " to ".join(map(_fve, above[1]))


def _beside(key: str, name: str) -> str:
    return f"{key.rpartition('.')[0]}.{name}"


def measured(group: Sequence[Measure], results: Mapping[str, Any]) -> list[Measure]:
    """Those of a group that have a number."""
    return [one for one in group if finite(one.value(results)) is not None]


def fve_interval(results: Mapping[str, Any]) -> str:
    """The 95 % interval of the greedy FVE after RL in words, empty where it was not measured."""
    interval = interval_of(section(results, "fve").get("rl_ci95"))
    return "" if interval is None else " to ".join(map(_fve, interval))


def gain_interval(results: Mapping[str, Any], over: str) -> tuple[float, float] | None:
    """The 95 % interval of what RL has over another line of the table; None where unmeasured."""
    gain = section(results, "gains").get(f"rl_over_{over}")
    return interval_of(gain.get("ci95")) if isinstance(gain, Mapping) else None


def best_blind(results: Mapping[str, Any]) -> tuple[str, float] | None:
    """The blind control that scores highest, by the name it has in a sentence."""
    scores = {one.name.lower(): float(one.value(results)) for one in measured(BLIND, results)}
    return max(scores.items(), key=lambda item: item[1], default=None)


def above_blind(results: Mapping[str, Any]) -> tuple[float, tuple[float, float] | None] | None:
    """FVE above the best blind control and its 95 % interval; None where it was not measured."""
    above = finite(ABOVE_BLIND.value(results))
    if above is None:
        return None
    best = max(
        measured(BLIND, results), key=lambda one: float(one.value(results)), default=ABOVE_BLIND
    )
    return above, gain_interval(results, best.key.rpartition(".")[2])


def controls(results: Mapping[str, Any]) -> dict[str, float]:
    """The controls that were measured, by the names they have in a sentence."""
    return {one.name.lower(): float(one.value(results)) for one in measured(CONTROLS, results)}


def best_control(results: Mapping[str, Any]) -> tuple[str, float] | None:
    """The control that scores highest, by its name."""
    return max(controls(results).items(), key=lambda item: item[1], default=None)
