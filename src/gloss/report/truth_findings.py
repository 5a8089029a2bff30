"""What claims judged against truth, rewrites and the trust score say for and against believing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gloss.formatting import count, decimal, finite, interval_of, listed, percent, signed
from gloss.report.finding import Finding, Level
from gloss.report.measures import REWRITES, measured
from gloss.store.run_files import section

NOT_HELD_LIMIT = 0.05
GOOD_AUROC, GOOD_CALIBRATION = 0.8, 0.1
KEPT = 0.8
IN_OTHER_WORDS = ("light", "heavy", "coherent", "summary")


def truth_findings(results: Mapping[str, Any]) -> Iterator[Finding]:
    """Findings on truth over all kinds, each only where it was measured."""
    truth = section(results, "truth")
    yield from _privileged(section(section(truth, "rl"), "privileged"))
    yield from _not_held(finite(section(truth, "rl").get("names_not_held")))
    yield from _what_rl_did(truth)
    yield from _trust_score(section(results, "trust"))
    yield from _rewrites(results)
    yield from _steering(section(results, "steering"))


def _privileged(right: Mapping[str, Any]) -> Iterator[Finding]:
    share, within = finite(right.get("precision")), interval_of(right.get("ci95"))
    if share is None:
        return
    text = (
        f"{percent(share)} of {count(right.get('n_claims'))} claims of what no text says are right"
    )
    if within is not None:
        text += f" (95\u00a0% interval {percent(within[0])} to {percent(within[1])})"
    level: Level = "good" if within is not None and within[0] > 0.5 else "caution"
    text += ". There are no words to repeat for them, though a reader of the text may guess some."
    yield Finding(level, "Privileged claims", text)


def _not_held(share: float | None) -> Iterator[Finding]:
    if share is not None and share > NOT_HELD_LIMIT:
        text = f"{percent(share)} of the explanations tell a kind of fact that no activation holds."
        yield Finding("caution", "Tells what the activation does not hold", text)


def _what_rl_did(truth: Mapping[str, Any]) -> Iterator[Finding]:
    """Facts right after RL minus before, greedy and sampled."""
    shown, levels = [], set[Level]()
    for how, key in (("greedy", "rl_over_sft"), ("sampled", "rl_over_sft_sampled")):
        gain = section(section(truth, key), "facts")
        change, within = finite(gain.get("precision")), interval_of(gain.get("ci95"))
        if change is None or within is None:
            continue
        ends = f"{signed(within[0])} to {signed(within[1])}"
        shown.append(f"{how} {signed(change)} (95\u00a0% interval {ends})")
        levels.add("good" if within[0] > 0 else "warning" if within[1] < 0 else "caution")
    if shown:
        titles: dict[Level, str] = {
            "warning": "RL made claims less often true",
            "good": "RL made claims truer",
            "caution": "RL was not shown to make claims truer",
        }
        level = next(one for one in titles if one in levels)
        yield Finding(level, titles[level], f"Share of facts that is right: {'; '.join(shown)}.")


def _trust_score(trust: Mapping[str, Any]) -> Iterator[Finding]:
    score = section(trust, "score")
    auroc, error = finite(score.get("auroc")), finite(score.get("calibration_error"))
    if auroc is None or error is None:
        return
    good = auroc >= GOOD_AUROC and error <= GOOD_CALIBRATION
    single = {name: finite(value) for name, value in section(trust, "auroc_of").items()}
    beside = [f"{_SINGLE[n]} {decimal(v)}" for n, v in single.items() if n in _SINGLE and v]
    text = (
        f"A right claim scores above another with a chance of {decimal(auroc)}; the score is off by"
        f" {decimal(error)} on average, on {count(score.get('n_claims'))} claims."
    )
    if beside:
        text += f" Alone: {', '.join(beside)}."
    title = "The trust score tells true claims" if good else "The trust score tells little"
    yield Finding("good" if good else "caution", title, text)


_SINGLE = {
    "fve_lost": "FVE lost without the claim",
    "in_samples": "said in other samples",
    "elsewhere_above_base": "said at other tokens more than in other texts",
}


def _rewrites(results: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether the FVE is in the meaning: what light paraphrase, and the others, keep."""
    kept = {}
    for one in measured(REWRITES, results):
        key = one.key.split(".")[1]
        share = finite(section(section(results, "rewrites"), key).get("kept"))
        if share is not None:
            kept[key] = one.name.lower(), share
    worded = [f"{name} {percent(share)}" for key, (name, share) in kept.items()]
    if not kept:
        text = "What of the FVE survives other words, and how much the quotes carry alone."
        yield Finding("unknown", "Rewrites were not measured", text)
        return
    text = f"Of the FVE they keep: {', '.join(worded)}."
    lost = [name for key, (name, share) in kept.items() if key in IN_OTHER_WORDS and share < KEPT]
    if lost:
        title = f"Other words lose it: {listed(lost)}"
        text += " The AR reads wording and order, beside what is said."
        yield Finding("caution", title, text)
    elif any(key in IN_OTHER_WORDS for key in kept):
        yield Finding("good", "The meaning carries it, not the wording", text)
    else:
        yield Finding("unknown", "Not said in other words", text)


_STEERED = ("edit", "averaged")
_CONTROLS = ("none", "unrelated", "random", "elsewhere")


def _steering(steering: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether the target acts as an edited explanation says, and as nothing else makes it."""
    rates = section(steering, "rates")
    shares = {name: finite(section(rates, name).get("rate")) for name in rates}
    known = {name: share for name, share in shares.items() if share is not None}
    within = {name: interval_of(section(rates, name).get("ci95")) or (0.0, 1.0) for name in known}
    edits, controls = ([n for n in names if n in known] for names in (_STEERED, _CONTROLS))
    if not edits or not controls:
        return
    highest = max(controls, key=known.__getitem__)
    more = {
        "averaged": "the same edit averaged over explanations of other texts",
        "patch": "the activation of a text that truly says so",
    }
    beside = [f"{what} {percent(known[name])}" for name, what in more.items() if name in known]
    text = "; ".join(
        [
            f"With the {steering.get('kind')} edited in its explanation,"
            f" {percent(known[edits[0]])} of {count(steering.get('n_texts'))} texts go on as the"
            " edit says",
            *beside,
            f"best control ({highest}) {percent(known[highest])}.",
        ]
    )
    if max(within[name][0] for name in edits) > within[highest][1]:
        yield Finding("good", "The target acts on what an edit says", text)
    else:
        yield Finding("caution", "Edits were not shown to act", text)
