"""The examples that need an AR: any of the lab, those of the page the smoke preset's after SFT."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping

from examples.how_to_be_fooled.lab_rows import JUDGE, READ, Found, end_of, rows
from gloss.evaluate.blind import MAX_WORDS, LastWords, quote_form, words_of
from gloss.evaluate.rewrites import rewritten
from gloss.lab.statements import word_class
from gloss.models import ActivationReconstructor, direction_mse
from gloss.nla.claim_texts import split_claims

_QUOTED = re.compile(r'"[^"]*"')


def last_words(ar: ActivationReconstructor) -> Found:
    """An AR reads the last words of the text, and what the label writer says of it."""
    read = rows(*READ)
    form = quote_form(read.labels(), read.contexts) or ""
    guesses = [LastWords(count, form) for count in range(1, MAX_WORDS + 1)]

    def fve(guess: LastWords) -> float:
        return read.fve(ar.reconstruct([guess.text(context) for context in read.contexts]))

    return {
        "FVE of labels, written from the text": read.fve(ar.reconstruct(read.labels())),
        "FVE of the best quote of last words": max(map(fve, guesses)),
        "FVE of an empty text": read.fve(ar.reconstruct([""])),
    }


def false_quotes(ar: ActivationReconstructor) -> Found:
    """Labels that err in nothing but their quote, a word of the right class: what is lost without
    it."""
    read, drawn = rows(*READ), random.Random(0)
    ends = [words_of(context)[-1].strip(".,?") for context in read.contexts]
    whole, without, which = list[str](), list[str](), list[int]()
    for row, label in enumerate(read.labels(error_rate=0.0)):
        *facts, quote = split_claims(label)
        like = [w for w in ends if w != ends[row] and word_class(w) == word_class(ends[row])]
        false = _QUOTED.sub(f'"... {drawn.choice(like)}"', quote)
        verdicts = [c.verdict for c in JUDGE.judge(false, read.doc_ids[row], read.contexts[row])]
        if facts and verdicts == ["wrong"]:
            whole.append("\n".join([*facts, false]))
            without.append("\n".join(facts))
            which.append(row)
    activations = read.activations[which]
    before, after = (direction_mse(ar.reconstruct(some), activations) for some in (whole, without))
    lost = (after - before) / read.variance
    return {
        "text": end_of(read.contexts[which[0]]),
        "last line": whole[0].splitlines()[-1],
        "false last lines": len(lost),
        "FVE lost without one, mean": float(lost.mean()),
        "share that costs FVE to leave out": float((lost > 0).float().mean()),
        "FVE lost without a wrong fact, mean": _lost_without_wrong_facts(ar),
    }


def _lost_without_wrong_facts(ar: ActivationReconstructor) -> float:
    read, whole, without, which = rows(*READ), list[str](), list[str](), list[int]()
    for row, label in enumerate(read.labels()):
        at = read.doc_ids[row], read.contexts[row]
        claims = split_claims(label)
        for i, claim in enumerate(claims[:-1]):
            if [one.verdict for one in JUDGE.judge(claim, *at)] == ["wrong"]:
                whole.append(label)
                without.append("\n".join([*claims[:i], *claims[i + 1 :]]))
                which.append(row)
    activations = read.activations[which]
    before, after = (direction_mse(ar.reconstruct(some), activations) for some in (whole, without))
    return float((after - before).mean()) / read.variance


def order(ar: ActivationReconstructor) -> Found:
    """The same sentences in other orders and in other words."""
    read = rows(*READ)
    texts = rewritten(read.labels(), JUDGE, seed=0)
    names = {
        "light": "every second fact in other words",
        "reordered": "the same sentences, last first",
        "shuffled_words": "the same words, shuffled",
    }
    return {
        "as written": read.fve(ar.reconstruct(read.labels())),
        **{name: read.fve(ar.reconstruct(texts[key])) for key, name in names.items()},
    }


def best_of_many(ar: ActivationReconstructor) -> Found:
    """The best rows beside all."""
    read = rows(*READ)
    errors = direction_mse(ar.reconstruct(read.labels()), read.activations)
    best = (1 - errors / read.variance).sort(descending=True).values
    return {
        "FVE of the best five rows": float(best[:5].mean()),
        "FVE of all rows": float(best.mean()),
        "share of rows below 0": float((best < 0).float().mean()),
    }


EXAMPLES: Mapping[str, Callable[[ActivationReconstructor], Found]] = {
    "last-words": last_words,
    "false-quotes": false_quotes,
    "order": order,
    "best-of-many": best_of_many,
}
