"""How far a run's explanations are to be believed, worked out from its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gloss.formatting import count, decimal, finite, listed, percent, signed
from gloss.report.claims_tables import KindScores, kind_scores, pooled
from gloss.report.measures import best_control, fve_interval
from gloss.store.run_files import section

Level = Literal["good", "caution", "warning", "unknown"]
Standing = Literal[
    "as good as the probe",
    "above chance, no probe",
    "short of the probe",
    "chance",
    "too few claims",
    "not measured",
]
Numbers = Mapping[str, float | None]

MIN_CLAIMS = 30
MIN_HELDOUT = 500
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
    fve = {name: finite(value) for name, value in section(results, "fve").items()}
    found = [
        *_private_code(fve.get("rl"), scores),
        *_kinds(scores),
        _controls(fve.get("rl"), best_control(results)),
        *_learning(fve, [finite(row.get("fve_heldout")) for row in metrics]),
        *_data(results, fve),
    ]
    order = ("warning", "caution", "good", "unknown")
    return tuple(sorted(found, key=lambda finding: order.index(finding.level)))


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
    near = row.precision >= NEAR_CEILING * row.probe_ceiling
    return "as good as the probe" if near else "short of the probe"


def _private_code(fve: float | None, scores: Sequence[KindScores]) -> Iterator[Finding]:
    precision, ceiling = pooled(scores, "precision"), pooled(scores, "probe_ceiling")
    if fve is None:
        return
    if precision is None:
        text = (
            f"FVE {decimal(fve)} says that the text carries the activation to the AR. It does not"
            " say that the sentences are true, and this run has no known truth to judge them by."
            " Check claims by other means before repeating them."
        )
        yield Finding("unknown", "Truth of the claims was not measured", text)
        return
    beside = "" if ceiling is None else f" (linear probes reach {percent(ceiling)} on these kinds)"
    right = f"{percent(precision)} of the claims are right{beside}"
    if fve >= HIGH_FVE and precision < LOW_PRECISION:
        text = (
            f"FVE is {decimal(fve)}, yet only {right}. The AR rebuilds the activations from"
            " sentences that so often are not true, so much of the signal must travel in the"
            " choice of words and not in what they say. Take any single claim as unproven."
        )
        yield Finding("warning", "The pair may be using words as a private code", text)
    elif fve >= HIGH_FVE and ceiling is not None and precision < NEAR_CEILING * ceiling:
        text = (
            f"FVE is {decimal(fve)} and {right}: the text tells the AR more than its sentences"
            " state truly."
        )
        yield Finding("caution", "Reconstruction is ahead of truth", text)
    else:
        level: Level = "good" if precision >= LOW_PRECISION else "caution"
        yield Finding(level, "Claims against known truth", f"{right}; FVE is {decimal(fve)}.")


def _against_chance(row: KindScores) -> str:
    return f"{row.kind} {percent(row.precision)} against {percent(row.chance)}"


def _against_probe(row: KindScores) -> str:
    return f"{row.kind} {percent(row.precision)}, probe {percent(row.probe_ceiling)}"


_KINDS: tuple[tuple[set[Standing], Level, str, str, Callable[[KindScores], str]], ...] = (
    (
        {"chance"},
        "warning",
        "At or below chance",
        "They are no more often right than explanations of other activations would be ({each})."
        " Ignore them.",
        _against_chance,
    ),
    (
        {"short of the probe"},
        "caution",
        "Above chance, short of the probe",
        "A linear probe on the same activation does better ({each}). Believe one only where samples"
        " agree.",
        _against_probe,
    ),
    (
        {"above chance, no probe"},
        "caution",
        "Above chance, ceiling unknown",
        "No probe says what could be read from the activation ({each}).",
        _against_chance,
    ),
    (
        {"as good as the probe"},
        "good",
        "As good as the probe",
        "Right about as often as a linear probe on the activation, or more often ({each}).",
        _against_probe,
    ),
    (
        {"too few claims", "not measured"},
        "unknown",
        "Not judged",
        f"Fewer than {MIN_CLAIMS} claims, or nothing to compare them with. This run says nothing"
        " about them.",
        _against_chance,
    ),
)


def _kinds(scores: Sequence[KindScores]) -> Iterator[Finding]:
    for standings, level, title, text, shown in _KINDS:
        if rows := [row for row in scores if standing(row) in standings]:
            text = text.format(each="; ".join(map(shown, rows)))
            unread = _unread(rows) if level == "warning" else ""
            yield Finding(level, f"{title}: {listed([row.kind for row in rows])}", text + unread)


def _unread(rows: Sequence[KindScores]) -> str:
    readable = [row.kind for row in rows if (row.probe_ceiling or 0.0) - (row.chance or 0.0) > 0.1]
    if not readable:
        return ""
    are = "is" if len(readable) == 1 else "are"
    within = f"{listed(readable)} {are} within reach of a linear probe"
    return f" The activation does hold them: {within}."


def _controls(fve: float | None, best: tuple[str, float] | None) -> Finding:
    if fve is None or best is None:
        text = "Without controls an FVE cannot be told from an AR that ignores its text."
        return Finding("unknown", "No controls", text)
    name, value = best
    text = (
        f"FVE {decimal(fve)} stands {decimal(fve - value)} above the best control ({name},"
        f" {decimal(value)})."
    )
    if fve - value <= CONTROL_LIMIT:
        text += " The explanations carry nothing the AR uses."
        return Finding("warning", "No better than a control", text)
    if value > CONTROL_LIMIT:
        text += " That much needs no reading of the right explanation."
        return Finding("caution", "A control scores too", text)
    return Finding("good", "The AR does read the text", text)


def _learning(fve: Numbers, heldout: Sequence[float | None]) -> Iterator[Finding]:
    before, after = fve.get("sft_sampled"), fve.get("rl_sampled")
    greedy, labels = fve.get("rl"), fve.get("ar_on_labels")
    if before is not None and after is not None:
        gain = signed(after - before)
        text = f"Sampled FVE went from {decimal(before)} to {decimal(after)} ({gain})."
        if after > before:
            yield Finding("good", "RL helped", text)
        else:
            yield Finding("warning", "RL did not help", text)
    if greedy is not None and labels is not None and greedy > labels:
        text = (
            f"FVE {decimal(greedy)} against {decimal(labels)} from the labels. Either the AV"
            " describes what the labeller could not see, or the two halves agreed on meanings a"
            " reader does not share. FVE cannot tell which; only claims judged against truth can."
        )
        yield Finding("caution", "More is rebuilt from explanations than from labels", text)
    points = [value for value in heldout if value is not None]
    if points and max(points) - points[-1] > HELDOUT_DROP:
        peak, last = decimal(max(points)), decimal(points[-1])
        text = f"It peaked at {peak} and ended at {last}: an earlier stop was better."
        yield Finding("caution", "Held-out FVE fell at the end", text)


def _data(results: Mapping[str, Any], fve: Numbers) -> Iterator[Finding]:
    greedy, sampled = fve.get("rl"), fve.get("rl_sampled")
    if greedy is not None and sampled is not None and greedy - sampled > SAMPLING_GAP:
        text = (
            f"Greedy {decimal(greedy)}, sampled {decimal(sampled)}. Draw several samples and keep"
            " what they share."
        )
        yield Finding("caution", "Samples are much worse than greedy text", text)
    rate = finite(results.get("extraction_failure_rate"))
    if rate is not None and rate > FAILURE_LIMIT:
        text = (
            f"{percent(rate)} of the explanations could not be extracted; raise the length cap or"
            " train longer."
        )
        yield Finding("caution", "Extraction fails often", text)
    heldout = finite(results.get("n_heldout"))
    if heldout is not None and heldout < MIN_HELDOUT:
        interval = fve_interval(results)
        within = f", 95\u00a0% interval {interval}" if interval else ""
        text = f"{count(heldout)} held-out activations{within}."
        text += " Differences of a few points mean little."
        yield Finding("caution", "Few held-out activations", text)
