"""The headline numbers, each with one plain sentence on what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gloss.report.formatting import NOT_MEASURED, count, decimal, finite, percent
from gloss.report.run_files import section

CONTROL_NAMES = {
    "mean_direction": "mean direction",
    "shuffled_activations": "shuffled activations",
    "empty_text": "empty text",
    "random_activation": "random activation",
}

_ROUND_TRIP = (
    (
        "ar_on_labels",
        "AR on labels",
        "Activations rebuilt from the labeller's own text: where the AR stands before RL.",
    ),
    (
        "sft",
        "SFT, greedy",
        "Activation to text and back before RL, with the AV's most likely words.",
    ),
    ("sft_sampled", "SFT, sampled", "The same with words drawn at temperature 1: where RL starts."),
    ("rl", "RL, greedy", "Activation to text and back after joint RL: the main number."),
    (
        "rl_sampled",
        "RL, sampled",
        "The same with words drawn at temperature 1: what any one sample is worth.",
    ),
)
_CONTROLS = (
    (
        "mean_direction",
        "Always the average direction at full length (the average itself scores 0).",
    ),
    (
        "shuffled_activations",
        (
            "Each explanation scored against another activation: high only if texts are"
            " interchangeable."
        ),
    ),
    ("empty_text", "The AR given no text at all: high only if it scores without reading."),
    ("random_activation", "A random vector in place of the reconstruction: the floor."),
)


@dataclass(frozen=True)
class Measure:
    """One row of the headline table."""

    name: str
    value: str
    meaning: str
    interval: str = ""
    main: bool = False


@dataclass(frozen=True)
class MeasureGroup:
    """Rows of the headline table under one heading."""

    title: str
    measures: tuple[Measure, ...]


def headline(results: Mapping[str, Any]) -> tuple[MeasureGroup, ...]:
    """The headline table: round trip, controls, text."""
    fve, controls = section(results, "fve"), section(results, "controls")
    round_trip = tuple(
        Measure(
            name,
            decimal(fve.get(key), 3),
            meaning,
            fve_interval(results) if key == "rl" else "",
            key == "rl",
        )
        for key, name, meaning in _ROUND_TRIP
    )
    control_rows = tuple(
        Measure(CONTROL_NAMES[key].capitalize(), decimal(controls.get(key), 3), meaning)
        for key, meaning in _CONTROLS
    )
    return (
        MeasureGroup("Round trip (FVE)", round_trip),
        MeasureGroup("Controls (FVE)", control_rows),
        MeasureGroup("Text and data", _text_measures(results)),
    )


def fve_interval(results: Mapping[str, Any]) -> str:
    """The 95 % interval of the greedy FVE after RL in words, empty where it was not measured."""
    interval = section(results, "fve").get("rl_ci95")
    if not isinstance(interval, list | tuple) or len(interval) != 2:
        return ""
    low, high = (decimal(bound, 3) for bound in interval)
    return "" if NOT_MEASURED in (low, high) else f"{low} to {high}"


def best_control(results: Mapping[str, Any]) -> tuple[str, float] | None:
    """The control that scores highest, by its shown name."""
    values = {
        name: finite(section(results, "controls").get(key)) for key, name in CONTROL_NAMES.items()
    }
    measured = {name: value for name, value in values.items() if value is not None}
    return max(measured.items(), key=lambda item: item[1]) if measured else None


def _text_measures(results: Mapping[str, Any]) -> tuple[Measure, ...]:
    documents = finite(results.get("n_heldout_documents"))
    origin = "documents" if documents is None else f"{count(documents)} documents"
    failures = [
        Measure(
            "Extraction failures, greedy",
            percent(results.get("extraction_failure_rate")),
            "Explanations without a closing tag or without text; they count as orthogonal and are"
            " never left out.",
        )
    ]
    if finite(results.get("extraction_failure_rate_sampled")) is not None:
        sampled = percent(results["extraction_failure_rate_sampled"])
        failures.append(
            Measure("Extraction failures, sampled", sampled, "The same at temperature 1.")
        )
    return (
        *failures,
        Measure(
            "Mean length",
            decimal(results.get("mean_explanation_tokens"), 1),
            "Tokens the AV writes per explanation.",
        ),
        Measure(
            "Held-out activations",
            count(results.get("n_heldout")),
            f"What these numbers rest on, from {origin} that no training stage saw.",
        ),
    )
