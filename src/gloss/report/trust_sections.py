"""How far a run's explanations are to be believed, worked out from its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from gloss.formatting import count, decimal, finite, listed, percent, signed
from gloss.report.claims_tables import KindScores, kind_scores, pooled
from gloss.report.finding import Finding, Level
from gloss.report.measures import (
    CONTROLS,
    above_blind,
    best_blind,
    best_control,
    fve_interval,
    gain_interval,
    measured,
)
from gloss.report.truth_findings import truth_findings
from gloss.store.run_files import section

Standing = Literal[
    "as good as the best reader",
    "above chance, no reader",
    "short of the best reader",
    "no more than the commonest value",
    "chance",
    "too few claims",
    "not measured",
]
Numbers = Mapping[str, float | None]

BLIND_WARNING = "No better than a guess without the activation"
MIN_CLAIMS = 30
MIN_HELDOUT = 500
HIGH_FVE = 0.6
LOW_PRECISION = 0.6
NEAR_CEILING = 0.9
CONTROL_LIMIT = 0.05
FAILURE_LIMIT = 0.01
SAMPLING_GAP = 0.1
HELDOUT_DROP = 0.02


def findings(
    results: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]] = ()
) -> tuple[Finding, ...]:
    """Everything the numbers say for and against believing the explanations, worst first."""
    scores = kind_scores(results)
    fve = {name: finite(value) for name, value in section(results, "fve").items()}
    found = [
        *_blind(results, fve.get("rl")),
        *_claims(fve.get("rl"), scores),
        *_kinds(scores),
        _controls(results, fve.get("rl")),
        *_learning(results, fve, [finite(row.get("fve_heldout")) for row in metrics]),
        *truth_findings(results),
        *_data(results, fve),
    ]
    order = ("warning", "caution", "good", "unknown")
    return tuple(sorted(found, key=lambda finding: order.index(finding.level)))


def standing(row: KindScores) -> Standing:
    """Where a kind's claims stand between chance and what the best reader finds; above chance, and
    above the commonest value, is what has an interval, over documents, that says so."""
    if row.precision is None or row.above_chance is None:
        return "not measured"
    if row.n_claims < MIN_CLAIMS:
        return "too few claims"
    if row.above_chance[0] <= 0:
        return "chance"
    low = row.precision if row.precision_ci95 is None else row.precision_ci95[0]
    if row.majority is not None and low <= row.majority:
        return "no more than the commonest value"
    if row.best_reader is None:
        return "above chance, no reader"
    near = row.precision >= NEAR_CEILING * row.best_reader
    return "as good as the best reader" if near else "short of the best reader"


def _claims(fve: float | None, scores: Sequence[KindScores]) -> Iterator[Finding]:
    precision, ceiling = pooled(scores, "precision"), pooled(scores, "best_reader")
    if fve is None:
        return
    if precision is None:
        text = (
            f"FVE {decimal(fve)} says how well the AR rebuilds the activation from the text. It"
            " does not say that the sentences are true, and this run has no known truth to judge"
            " them by."
        )
        yield Finding("unknown", "Truth of the claims was not measured", text)
        return
    reached = f" (the best readers reach {percent(ceiling)} on these kinds)"
    beside = "" if ceiling is None else reached
    right = f"{percent(precision)} of the claims are right{beside}"
    if precision < LOW_PRECISION and fve >= HIGH_FVE:
        text = f"FVE is {decimal(fve)}, yet only {right}."
        yield Finding("warning", "High FVE, few claims right", text)
    else:
        level: Level = "good" if precision >= LOW_PRECISION else "caution"
        yield Finding(level, "Claims against known truth", f"{right}; FVE is {decimal(fve)}.")


def _against_chance(row: KindScores) -> str:
    reader = "" if row.best_reader is None else f", best reader {percent(row.best_reader)}"
    return f"{row.kind} {percent(row.precision)} against {percent(row.chance)}{reader}"


def _against_majority(row: KindScores) -> str:
    return f"{row.kind} {percent(row.precision)}, commonest value {percent(row.majority)}"


def _against_reader(row: KindScores) -> str:
    return f"{row.kind} {percent(row.precision)}, best reader {percent(row.best_reader)}"


_KINDS: tuple[tuple[set[Standing], Level, str, str, Callable[[KindScores], str]], ...] = (
    (
        {"chance"},
        "warning",
        "At or below chance",
        "They were not shown to be right more often than the same texts held against other"
        " documents ({each}).",
        _against_chance,
    ),
    (
        {"no more than the commonest value"},
        "warning",
        "No more than the commonest value",
        "Always naming the value that is true most often would do as well ({each}).",
        _against_majority,
    ),
    (
        {"short of the best reader"},
        "caution",
        "Above chance, short of the best reader",
        "A classifier of the same activation does better ({each}).",
        _against_reader,
    ),
    (
        {"above chance, no reader"},
        "caution",
        "Above chance, ceiling unknown",
        "No reader says what could be read from the activation ({each}).",
        _against_chance,
    ),
    (
        {"as good as the best reader"},
        "good",
        "As good as the best reader",
        "Right about as often as the best classifier of the activation, or more often ({each}).",
        _against_reader,
    ),
    (
        {"too few claims", "not measured"},
        "unknown",
        "Not judged",
        f"Fewer than {MIN_CLAIMS} claims, or no interval of what they are above chance. This run"
        " says nothing about them.",
        _against_chance,
    ),
)


def _kinds(scores: Sequence[KindScores]) -> Iterator[Finding]:
    for standings, level, title, text, shown in _KINDS:
        if rows := [row for row in scores if standing(row) in standings]:
            text = text.format(each="; ".join(map(shown, rows)))
            yield Finding(level, f"{title}: {listed([row.kind for row in rows])}", text)


def _blind(results: Mapping[str, Any], fve: float | None) -> Iterator[Finding]:
    """Whether the words carry more than a guess that had no activation."""
    above, best = above_blind(results), best_blind(results)
    if fve is None or above is None or best is None:
        text = "Without blind controls an NLA cannot be told from one that repeats the last words."
        yield Finding("unknown", "Not compared with a guess without the activation", text)
        return
    difference, interval = above
    text = (
        f"FVE {decimal(fve)}; the best guess that had no activation ({best[0]}) scores"
        f" {decimal(best[1])}."
    )
    low = difference if interval is None else interval[0]
    if interval is not None:
        ends = f"{signed(interval[0])} to {signed(interval[1])}"
        text += f" 95\u00a0% interval of the difference: {ends}."
    elif low > 0:
        yield Finding("unknown", "Above every guess, without an interval", text)
        return
    if low <= 0:
        yield Finding("warning", BLIND_WARNING, text)
    else:
        yield Finding("good", "Above every guess without the activation", text)


def _controls(results: Mapping[str, Any], fve: float | None) -> Finding:
    best = best_control(results)
    if fve is None or best is None:
        text = "Without controls an FVE cannot be told from an AR that ignores its text."
        return Finding("unknown", "No controls", text)
    name, value = best
    gains = [
        gain_interval(results, one.key.partition(".")[2]) for one in measured(CONTROLS, results)
    ]
    text = (
        f"FVE {decimal(fve)} stands {decimal(fve - value)} above the best control ({name},"
        f" {decimal(value)})."
    )
    if any(gain is not None and gain[0] <= 0 for gain in gains) or fve - value <= CONTROL_LIMIT:
        return Finding("warning", "No better than a control", text)
    if value > CONTROL_LIMIT:
        text += " That much needs no reading of the right explanation."
        return Finding("caution", "A control scores too", text)
    if None in gains:
        return Finding("unknown", "Above the controls, without an interval", text + _AGAIN)
    return Finding("good", "Above every control", text + f" {_EXCLUDED}")


_AGAIN = " How much of it is chance was not measured: gloss evaluate RUN_DIR does."
_EXCLUDED = "The 95\u00a0% interval of each difference, over documents, excludes 0."


def _learning(
    results: Mapping[str, Any], fve: Numbers, heldout: Sequence[float | None]
) -> Iterator[Finding]:
    before, after = fve.get("sft_sampled"), fve.get("rl_sampled")
    if before is not None and after is not None:
        difference = f"{decimal(before)} to {decimal(after)} ({signed(after - before)})"
        yield _rl(gain_interval(results, "sft_sampled"), f"Sampled FVE went from {difference}.")
    greedy, labels = fve.get("rl"), fve.get("ar_on_labels")
    over_labels = gain_interval(results, "ar_on_labels")
    if over_labels is not None and over_labels[0] > 0:
        text = (
            f"FVE {decimal(greedy)} against {decimal(labels)} from the labels. FVE does not tell"
            " what the words say that the labels do not; claims judged against truth can."
        )
        yield Finding("caution", "More is rebuilt from explanations than from labels", text)
    points = [value for value in heldout if value is not None]
    if points and max(points) - points[-1] > HELDOUT_DROP:
        peak, last = decimal(max(points)), decimal(points[-1])
        text = f"During RL it peaked at {peak} and ended at {last}."
        yield Finding("caution", "Held-out FVE fell at the end", text)


def _rl(interval: tuple[float, float] | None, text: str) -> Finding:
    """What an interval of the gain allows to say of RL."""
    if interval is None:
        return Finding("unknown", "Whether RL helped was not measured", text + _AGAIN)
    low, high = interval
    text += f" 95\u00a0% interval of the difference: {signed(low)} to {signed(high)}."
    if low > 0:
        return Finding("good", "RL helped", text)
    if high < 0:
        return Finding("warning", "RL did not help", text)
    return Finding("caution", "No effect of RL was shown", text)


def _data(results: Mapping[str, Any], fve: Numbers) -> Iterator[Finding]:
    greedy, sampled = fve.get("rl"), fve.get("rl_sampled")
    if greedy is not None and sampled is not None and greedy - sampled > SAMPLING_GAP:
        text = f"Greedy {decimal(greedy)}, sampled {decimal(sampled)}."
        yield Finding("caution", "Samples are much worse than greedy text", text)
    rate = finite(results.get("extraction_failure_rate"))
    if rate is not None and rate > FAILURE_LIMIT:
        extracted = decimal(section(results, "fve_extracted").get("rl"))
        text = (
            f"{percent(rate)} of the explanations could not be extracted and count as orthogonal."
        )
        text += f" FVE of those that could: {extracted}."
        yield Finding("caution", "Extraction fails often", text)
    loops = finite(results.get("loop_rate"))
    if loops is not None and loops > FAILURE_LIMIT:
        text = f"In {percent(loops)} of the responses a stretch of words comes again and again."
        yield Finding("caution", "Explanations run in loops", text)
    heldout = finite(results.get("n_heldout"))
    if heldout is not None and heldout < MIN_HELDOUT:
        interval = fve_interval(results)
        within = f", 95\u00a0% interval {interval}" if interval else ""
        text = f"{count(heldout)} held-out activations{within}."
        yield Finding("caution", "Few held-out activations", text)
