"""How far a run's explanations are to be believed, worked out from its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gloss.report.claims_tables import KindScores, kind_scores, pooled_ceiling, pooled_precision
from gloss.report.formatting import count, decimal, finite, listed, percent, signed
from gloss.report.headline import best_control, fve_interval
from gloss.report.run_files import section

Level = Literal["good", "caution", "warning", "unknown"]
Standing = Literal[
    "as good as the probe",
    "above chance, no probe",
    "short of the probe",
    "chance",
    "too few claims",
    "not measured",
]

MIN_CLAIMS = 30
HIGH_FVE = 0.6
LOW_PRECISION = 0.6
NEAR_CEILING = 0.9
CONTROL_LIMIT = 0.05
FAILURE_LIMIT = 0.01
SAMPLING_GAP = 0.1
HELDOUT_DROP = 0.02


@dataclass(frozen=True)
class Finding:
    """One sentence to weigh the explanations by, with what it rests on."""

    level: Level
    title: str
    text: str


def findings(
    results: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]] = ()
) -> tuple[Finding, ...]:
    """Everything the numbers say for and against believing the explanations, worst first."""
    scores = kind_scores(results)
    found = [
        *_private_code(results, scores),
        *_kinds(scores),
        *_controls(results),
        *_learning(results, metrics),
        *_sampling(results),
        *_failures(results),
        *_sample_size(results),
    ]
    order = {"warning": 0, "caution": 1, "good": 2, "unknown": 3}
    return tuple(sorted(found, key=lambda finding: order[finding.level]))


def standing(row: KindScores) -> Standing:
    """Where a kind's claims stand between chance and what a linear probe reads."""
    error = row.error_of_difference
    if row.precision is None or row.chance is None or error is None:
        return "not measured"
    if row.n_claims < MIN_CLAIMS:
        return "too few claims"
    if row.precision - row.chance <= 2 * error:
        return "chance"
    if row.probe_ceiling is None:
        return "above chance, no probe"
    return (
        "as good as the probe"
        if row.precision >= NEAR_CEILING * row.probe_ceiling
        else "short of the probe"
    )


def _private_code(results: Mapping[str, Any], scores: Sequence[KindScores]) -> list[Finding]:
    fve, precision = finite(section(results, "fve").get("rl")), pooled_precision(scores)
    if fve is None:
        return []
    if precision is None:
        text = (
            f"FVE {decimal(fve)} says that the text carries the activation to the AR. It does not"
            " say that the sentences are true, and this run has no known truth to judge them by."
            " Check claims by other means before repeating them."
        )
        return [Finding("unknown", "Truth of the claims was not measured", text)]
    ceiling = pooled_ceiling(scores)
    beside = "" if ceiling is None else f" (linear probes reach {percent(ceiling)} on these kinds)"
    right = f"{percent(precision)} of the claims are right{beside}"
    if fve >= HIGH_FVE and precision < LOW_PRECISION:
        text = (
            f"FVE is {decimal(fve)}, yet only {right}. The AR rebuilds the activations from"
            " sentences that so often are not true, so much of the signal must travel in the"
            " choice of words and not in what they say. Take any single claim as unproven."
        )
        return [Finding("warning", "The pair may be using words as a private code", text)]
    if fve >= HIGH_FVE and ceiling is not None and precision < NEAR_CEILING * ceiling:
        text = (
            f"FVE is {decimal(fve)} and {right}: the text tells the AR more than its sentences"
            " state truly."
        )
        return [Finding("caution", "Reconstruction is ahead of truth", text)]
    return [
        Finding(
            "good" if precision >= LOW_PRECISION else "caution",
            "Claims against known truth",
            f"{right}; FVE is {decimal(fve)}.",
        )
    ]


def _kinds(scores: Sequence[KindScores]) -> list[Finding]:
    groups: dict[Standing, list[KindScores]] = {}
    for row in scores:
        groups.setdefault(standing(row), []).append(row)
    found = []
    if rows := groups.get("chance"):
        each = "; ".join(
            f"{row.kind} {percent(row.precision)} against {percent(row.chance)}" for row in rows
        )
        text = (
            "They are no more often right than explanations of other activations would be"
            f" ({each}). Ignore them."
        )
        found.append(
            Finding("warning", f"At or below chance: {_names(rows)}", text + _unread(rows))
        )
    if rows := groups.get("short of the probe"):
        each = "; ".join(_against_ceiling(row) for row in rows)
        text = (
            f"A linear probe on the same activation does better ({each}). Believe one only where"
            " samples agree."
        )
        found.append(Finding("caution", f"Above chance, short of the probe: {_names(rows)}", text))
    if rows := groups.get("above chance, no probe"):
        each = "; ".join(
            f"{row.kind} {percent(row.precision)} against {percent(row.chance)}" for row in rows
        )
        text = f"No probe says what could be read from the activation ({each})."
        found.append(Finding("caution", f"Above chance, ceiling unknown: {_names(rows)}", text))
    if rows := groups.get("as good as the probe"):
        each = "; ".join(_against_ceiling(row) for row in rows)
        text = f"Right about as often as a linear probe on the activation, or more often ({each})."
        found.append(Finding("good", f"As good as the probe: {_names(rows)}", text))
    if rows := [*groups.get("too few claims", []), *groups.get("not measured", [])]:
        text = (
            f"Fewer than {MIN_CLAIMS} claims, or nothing to compare them with. This run says"
            " nothing about them."
        )
        found.append(Finding("unknown", f"Not judged: {_names(rows)}", text))
    return found


def _unread(rows: Sequence[KindScores]) -> str:
    readable = [row.kind for row in rows if (row.probe_ceiling or 0.0) - (row.chance or 0.0) > 0.1]
    if not readable:
        return ""
    verb = "is" if len(readable) == 1 else "are"
    return (
        f" The activation does hold them: {listed(readable)} {verb} within reach of a linear probe."
    )


def _against_ceiling(row: KindScores) -> str:
    return f"{row.kind} {percent(row.precision)}, probe {percent(row.probe_ceiling)}"


def _names(rows: Sequence[KindScores]) -> str:
    return listed([row.kind for row in rows])


def _controls(results: Mapping[str, Any]) -> list[Finding]:
    fve, best = finite(section(results, "fve").get("rl")), best_control(results)
    if fve is None or best is None:
        return [
            Finding(
                "unknown",
                "No controls",
                "Without controls an FVE cannot be told from an AR that ignores its text.",
            )
        ]
    name, value = best
    text = (
        f"FVE {decimal(fve)} stands {decimal(fve - value)} above the best control ({name},"
        f" {decimal(value)})."
    )
    if fve - value <= CONTROL_LIMIT:
        return [
            Finding(
                "warning",
                "No better than a control",
                f"{text} The explanations carry nothing the AR uses.",
            )
        ]
    if value > CONTROL_LIMIT:
        return [
            Finding(
                "caution",
                "A control scores too",
                f"{text} That much needs no reading of the right explanation.",
            )
        ]
    return [Finding("good", "The AR does read the text", text)]


def _learning(results: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> list[Finding]:
    fve = section(results, "fve")
    before, after, labels = (
        finite(fve.get(name)) for name in ("sft_sampled", "rl_sampled", "ar_on_labels")
    )
    found = []
    if before is not None and after is not None:
        text = (
            f"Sampled FVE went from {decimal(before)} to {decimal(after)}"
            f" ({signed(after - before)})."
        )
        gained = after - before > 0
        found.append(
            Finding(
                "good" if gained else "warning", "RL helped" if gained else "RL did not help", text
            )
        )
    greedy = finite(fve.get("rl"))
    if greedy is not None and labels is not None and greedy > labels:
        text = (
            f"FVE {decimal(greedy)} against {decimal(labels)} from the labels. Either the AV"
            " describes what the labeller could not see, or the two halves agreed on meanings a"
            " reader does not share. FVE cannot tell which; only claims judged against truth can."
        )
        found.append(Finding("caution", "More is rebuilt from explanations than from labels", text))
    points = [value for row in metrics if (value := finite(row.get("fve_heldout"))) is not None]
    if points and max(points) - points[-1] > HELDOUT_DROP:
        text = (
            f"It peaked at {decimal(max(points))} and ended at {decimal(points[-1])}: an earlier"
            " stop was better."
        )
        found.append(Finding("caution", "Held-out FVE fell at the end", text))
    return found


def _sampling(results: Mapping[str, Any]) -> list[Finding]:
    greedy, sampled = (finite(section(results, "fve").get(name)) for name in ("rl", "rl_sampled"))
    if greedy is None or sampled is None or greedy - sampled <= SAMPLING_GAP:
        return []
    text = (
        f"Greedy {decimal(greedy)}, sampled {decimal(sampled)}. Draw several samples and keep what"
        " they share."
    )
    return [Finding("caution", "Samples are much worse than greedy text", text)]


def _failures(results: Mapping[str, Any]) -> list[Finding]:
    rate = finite(results.get("extraction_failure_rate"))
    if rate is None or rate <= FAILURE_LIMIT:
        return []
    text = (
        f"{percent(rate)} of the explanations could not be extracted; raise the length cap or train"
        " longer."
    )
    return [Finding("caution", "Extraction fails often", text)]


def _sample_size(results: Mapping[str, Any]) -> list[Finding]:
    n = finite(results.get("n_heldout"))
    if n is None or n >= 500:
        return []
    interval = fve_interval(results)
    within = f", 95\u00a0% interval {interval}" if interval else ""
    text = f"{count(n)} held-out activations{within}. Differences of a few points mean little."
    return [Finding("caution", "Few held-out activations", text)]
