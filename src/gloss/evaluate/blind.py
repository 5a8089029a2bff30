"""Blind controls: explanations that nobody read from the activation, scored by the same AR.

What an NLA's FVE is worth shows only above the best of them. The strongest is usually the cheapest:
the last words of the text, in the form in which the NLA's own explanations quote them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gloss.engines import Engine
from gloss.evaluate.round_trip import RoundTrip
from gloss.models import (
    ORTHOGONAL_MSE,
    ActivationReconstructor,
    direction_mse,
    fraction_of_variance_explained,
    mean_direction,
)
from gloss.seeds import keyed_bits

MAX_WORDS = 6
WORDS = "{words}"
PLAIN_FORMS = (f'"... {WORDS}"', WORDS)
CHOOSING_ROWS, CANDIDATE_TEXTS = 200, 8
_CONTROL_TOKEN = re.compile(
    r"(?:<\|[^|<>\n]*\|>|</?s>|<(?:start|end)_of_turn>)"
    r"(?:(?:system|developer|user|assistant|model|tool)\b)?"
)
_SENTENCE = re.compile(r'[^.!?\n"]*"[^"\n]*"[^.!?\n"]*[.!?]?')
_QUOTED = re.compile(r'"([^"\n]*)"')


@dataclass(frozen=True)
class LastWords:
    """The cheap guess that scores best: how many last words, in which form."""

    count: int
    form: str

    def text(self, context: str) -> str:
        """What it says of a text, without any activation."""
        return self.form.replace(WORDS, " ".join(words_of(context)[-self.count :]))


@dataclass(frozen=True)
class BlindControls:
    """Direction MSE [n] of each blind control, and the guess behind ``last_words``; None where the
    texts are not known."""

    errors: dict[str, Tensor]
    guess: LastWords | None

    def best(self, variance: float) -> tuple[str, float]:
        """The control that scores highest, and its FVE."""
        fves = {
            name: fraction_of_variance_explained(errors, variance)
            for name, errors in self.errors.items()
        }
        name = max(fves, key=fves.__getitem__)
        return name, fves[name]


def words_of(context: str) -> list[str]:
    """The words of a text, without a chat template's control tokens and roles."""
    return _CONTROL_TOKEN.sub(" ", context).split()


def quote_form(explanations: Sequence[str], contexts: Sequence[str]) -> str | None:
    """The sentence in which explanations most often quote the end of their text, with
    ``{words}`` for what is quoted; None if none does."""
    forms = Counter[str]()
    for text, context in zip(explanations, contexts, strict=True):
        ends = [word.strip('.,;:!?"') for word in words_of(context)[-MAX_WORDS:]]
        for sentence in _SENTENCE.findall(text):
            quoted = _QUOTED.search(sentence)
            said = [word.strip('.,;:!?"') for word in quoted[1].split()] if quoted else []
            said = [word for word in said if word]
            if quoted and said and said == ends[-len(said) :]:
                dots = "... " if quoted[1].startswith("...") else ""
                forms[sentence.replace(quoted[0], f'"{dots}{WORDS}"').strip()] += 1
    return forms.most_common(1)[0][0] if forms else None


def blind_controls(
    engine: Engine,
    ar: ActivationReconstructor,
    trip: RoundTrip,
    activations: Tensor,
    *,
    doc_ids: Sequence[str],
    contexts: Sequence[str],
    positions: Sequence[int | None],
    max_new_tokens: int,
    seed: int,
) -> BlindControls:
    """Direction MSE [n] of explanations that the single activation [n, d_model] had no part in.

    The text's last words, the AV's explanation of the mean and of a random direction, one text for
    all, another token's explanation of the same text, the mean direction of the same position: each
    where texts, documents and positions are known (empty strings and None where they are not)."""
    n = len(activations)

    def scored(texts: Sequence[str]) -> Tensor:
        return direction_mse(ar.reconstruct(list(texts)).expand(n, -1), activations)

    def of_vector(vector: Tensor) -> Tensor:
        (rollout,) = engine.generate(
            vector[None], temperature=0.0, max_new_tokens=max_new_tokens, seed=seed
        )
        return scored([getattr(rollout.explanation, "text", "")])

    own_seed = keyed_bits(seed, "", purpose="blind control") >> 1
    noise = torch.randn(activations.shape[1], generator=torch.Generator().manual_seed(own_seed))
    mean, guess = mean_direction(activations), None
    errors = {
        "av_of_noise": of_vector(noise),
        "one_text": _best_of([scored([text]) for text in _candidates(trip)], n),
    }
    if any(map(words_of, contexts)):
        guess = _best_guess(ar, trip, activations, contexts)
        errors["last_words"] = scored([guess.text(context) for context in contexts])
    if any(doc_ids):
        errors["other_token"] = _of_other_tokens(trip, activations, doc_ids)
    if any(at is not None for at in positions):
        errors["position_mean"] = _of_position_means(activations, positions)
    if bool(mean.any()):
        errors["av_of_mean"] = of_vector(mean)
    return BlindControls(errors, guess)


def last_words_errors(
    ar: ActivationReconstructor, trip: RoundTrip, activations: Tensor, contexts: Sequence[str]
) -> Tensor | None:
    """Direction MSE [n] of the best cheap guess alone; None where no text is known."""
    if not any(map(words_of, contexts)):
        return None
    guess = _best_guess(ar, trip, activations, contexts)
    return direction_mse(ar.reconstruct([guess.text(one) for one in contexts]), activations)


def _best_guess(
    ar: ActivationReconstructor, trip: RoundTrip, activations: Tensor, contexts: Sequence[str]
) -> LastWords:
    """Chosen on some of the rows that are measured: if anything, too good."""
    rows = range(0, len(contexts), max(1, len(contexts) // CHOOSING_ROWS))
    own = quote_form(trip.texts, contexts)
    forms = dict.fromkeys([*([own] if own else []), *PLAIN_FORMS])
    guesses = [LastWords(count, form) for form in forms for count in range(1, MAX_WORDS + 1)]

    def error(guess: LastWords) -> float:
        vectors = ar.reconstruct([guess.text(contexts[row]) for row in rows])
        return float(direction_mse(vectors, activations[list(rows)]).mean())

    return min(guesses, key=error)


def _candidates(trip: RoundTrip) -> list[str]:
    """Texts that may stand for all: the commonest explanations."""
    return [text for text, _ in Counter(trip.texts).most_common(CANDIDATE_TEXTS)]


def _best_of(errors: Sequence[Tensor], n: int) -> Tensor:
    orthogonal = torch.full((n,), ORTHOGONAL_MSE)
    return min(errors, key=lambda each: float(each.mean()), default=orthogonal)


def _of_other_tokens(trip: RoundTrip, activations: Tensor, doc_ids: Sequence[str]) -> Tensor:
    """Each row rebuilt from the next row's explanation of its document; orthogonal without one."""
    rows_of: dict[str, list[int]] = {}
    for row, doc_id in enumerate(doc_ids):
        rows_of.setdefault(doc_id, []).append(row)
    errors = torch.full((len(doc_ids),), ORTHOGONAL_MSE)
    for rows in rows_of.values():
        for row, other in zip(rows, [*rows[1:], *rows[:1]], strict=True):
            if other != row and bool(trip.extracted[other]):
                errors[row] = direction_mse(trip.vectors[[other]], activations[[row]])[0]
    return errors


def _of_position_means(activations: Tensor, positions: Sequence[int | None]) -> Tensor:
    """Each row's error to the mean direction of the other rows that stand about as far into their
    text (position within a power of two); orthogonal where there are none."""
    units = torch.nn.functional.normalize(activations.double(), dim=1)
    classes = torch.tensor([-1 if at is None else (at + 1).bit_length() for at in positions])
    errors = torch.full((len(classes),), ORTHOGONAL_MSE)
    for one in set(classes.tolist()):
        here = torch.nonzero(classes == one).flatten()
        others = (units[here].sum(dim=0) - units[here]).to(activations.dtype)
        here, others = here[others.any(dim=1)], others[others.any(dim=1)]
        errors[here] = direction_mse(others, activations[here])
    return errors
