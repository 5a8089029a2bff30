"""Whether an edit of an explanation did what it says: how often the target writes the words that
the edit brought in, beside controls.

written     a continuation holds the wanted words, whole and in order, in whatever case
shown       at one strength the edit's share is above every control's of that strength and above
            that without an edit, each by Fisher's exact test (one-sided, 5 % over all strengths)"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher

from gloss.nla.steering_result import SteeringRate

LEVEL = 0.05
_WORD = re.compile(r"\w+")


def new_words(original: str, edited: str) -> str:
    """The words that an edit brought in; empty if it only took away, or moved words about."""
    before, after = _WORD.findall(original), _WORD.findall(edited)
    changes = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    brought = [" ".join(after[start:end]) for what, _, _, start, end in changes if what != "equal"]
    found = [part for part in brought if part and not _holds(original, part)]
    return max(found, key=len, default="")


def rates_of(
    wanted: str, continuations: Mapping[tuple[str, float], Sequence[str]]
) -> tuple[SteeringRate, ...]:
    """Rates by what was done and its strength."""
    return tuple(
        SteeringRate(name, alpha, written, len(texts), wilson(written, len(texts)))
        for (name, alpha), texts in continuations.items()
        for written in [sum(_holds(text, wanted) for text in texts)]
    )


def wilson(count: int, total: int) -> tuple[float, float]:
    """95 % interval of a share."""
    from scipy.stats import binomtest

    found = binomtest(count, total).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def verdict(wanted: str, rates: Sequence[SteeringRate]) -> str:
    """One sentence; empty where nothing was counted."""
    edits = [one for one in rates if one.edit == "edit"]
    if not edits:
        return ""
    best = max(edits, key=lambda one: one.written)
    controls = [one for one in rates if one.edit == "none" or _beside(one, best)]
    highest = max(controls, key=lambda one: one.written)
    against = f"at most {highest.written} of {highest.samples} without it or along a control"
    said = f"{wanted!r} in {best.written} of {best.samples} at α {best.alpha:g}, {against}"
    if all(_above(best, one, LEVEL / len(edits)) for one in controls):
        return f"the edit did it: {said}"
    return f"not shown: {said}; more --samples, another α or token may tell"


def _beside(one: SteeringRate, best: SteeringRate) -> bool:
    return one.edit != "edit" and one.alpha == best.alpha


def _above(one: SteeringRate, other: SteeringRate, level: float) -> bool:
    from scipy.stats import fisher_exact

    table = [[rate.written, rate.samples - rate.written] for rate in (one, other)]
    return bool(fisher_exact(table, alternative="greater").pvalue < level)


def _holds(text: str, wanted: str) -> bool:
    said, sought = (
        " ".join(word.casefold() for word in _WORD.findall(one)) for one in (text, wanted)
    )
    return bool(sought) and f" {sought} " in f" {said} "
