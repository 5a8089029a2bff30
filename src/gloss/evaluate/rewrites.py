"""Explanations rewritten and read again: what of the FVE is in the meaning, what in the wording.

reordered       the same sentences, last first
shuffled_words  all words in random order
quotes_only     what stands in quotation marks, nothing else
prose_only      the sentences that quote nothing
empty_quotes    every quotation emptied
further ones    those of a judge that can say the same in other words, such as the lab's

kept            FVE of the rewritten explanations / FVE of the explanations, None at or below 0"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from torch import Tensor

from gloss.evaluate.intervals import Documents, bootstrap_gain
from gloss.evaluate.round_trip import RoundTrip
from gloss.models import (
    ORTHOGONAL_MSE,
    ActivationReconstructor,
    direction_mse,
    fraction_of_variance_explained,
)
from gloss.nla.claim_texts import split_claims
from gloss.plugins import ClaimJudge

_QUOTED = re.compile(r'"[^"\n]*"?')


def measure_rewrites(
    ar: ActivationReconstructor,
    trip: RoundTrip,
    activations: Tensor,
    judge: ClaimJudge | None,
    documents: Documents,
    *,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """FVE of every rewrite, what it loses with its 95 % interval, the share it keeps; activations
    [n, d_model]. An explanation that was not extracted stays an orthogonal one."""
    found, fve = {}, trip.fve
    for name, texts in rewritten(trip.texts, judge, seed=seed).items():
        errors = direction_mse(ar.reconstruct(texts), activations)
        errors[~trip.extracted] = ORTHOGONAL_MSE
        kept = fraction_of_variance_explained(errors, trip.variance)
        lost = bootstrap_gain(trip.errors, errors, trip.variance, documents)
        found[name] = {
            "fve": kept,
            "lost": fve - kept,
            "lost_ci95": lost,
            "kept": kept / fve if fve > 0 else None,
        }
    return found


def rewritten(texts: Sequence[str], judge: ClaimJudge | None, *, seed: int) -> dict[str, list[str]]:
    """Every text in every rewrite."""
    ways: dict[str, Callable[[str], str]] = {
        "reordered": lambda text: "\n".join(reversed(split_claims(text))),
        "shuffled_words": lambda text: _shuffled(text, seed),
        "quotes_only": lambda text: " ".join(_QUOTED.findall(text)),
        "prose_only": _without_quotes,
        "empty_quotes": lambda text: _QUOTED.sub('""', text),
    }
    found = {name: [way(text) for text in texts] for name, way in ways.items()}
    further: Callable[[str], dict[str, str]] | None = getattr(judge, "rewrites", None)
    if further is not None:
        each = [further(text) for text in texts]
        names = dict.fromkeys(name for one in each for name in one)
        found |= {
            name: [one.get(name, text) for one, text in zip(each, texts, strict=True)]
            for name in names
        }
    return found


def _shuffled(text: str, seed: int) -> str:
    words = text.split()
    Random(f"{seed} {text}").shuffle(words)
    return " ".join(words)


def _without_quotes(text: str) -> str:
    return "\n".join(claim for claim in split_claims(text) if '"' not in claim)
