"""What speaks for one explanation and against it: controls, samples, neighbours, claims' shares."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from itertools import combinations, islice
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor

from gloss.errors import ConfigError
from gloss.nla import boundary
from gloss.nla.claim_texts import split_claims
from gloss.nla.request import Sampling, Text
from gloss.nla.results import (
    Claim,
    Control,
    Neighbour,
    Sample,
    Score,
    ScoreQuality,
    TokenExplanation,
    Trust,
    Verdict,
)
from gloss.nla.selection import bare_rows
from gloss.nla.trust_score import TrustScore, claim_features
from gloss.text.positions import parse_positions, whole_position
from gloss.text.tokens import ReadText

if TYPE_CHECKING:
    from gloss.nla.questions import Questions

Value = TypeVar("Value")
SAME_CLAIM = 0.6
"""Share of words in common from which two claims count as the same."""
_GREEDY = Sampling(temperature=0.0, score=False)
_FAR = 8
"""Other tokens of the text whose explanations serve as a control."""


async def trust(
    self: Questions,
    source: Text,
    *,
    position: int = -1,
    explanation: str | None = None,
    samples: int = 4,
    neighbours: int = 2,
    seed: int = 0,
) -> Trust:
    """What speaks for one token's explanation (by default the greedy one) and against it: controls,
    ``samples`` more at temperature 1, the ``neighbours`` on each side, and each claim's share.

    Raises: PositionError, CorpusError; ConfigError if none can be extracted."""
    self.require("av", "ar", "target")
    samples, neighbours = boundary.counts(samples=samples, neighbours=neighbours)
    seed, explanation = boundary.seed_of(seed), boundary.text_or_none("explanation", explanation)
    read = await self.read(source)
    (site,) = parse_positions(whole_position(position), len(read.tokens))
    vectors = await self.executor.activations(read.token_ids)
    near, far = _sites(len(vectors), site, neighbours)
    asked = [site, *near, *far]
    greedy = await self.explain_chosen(bare_rows(vectors[asked], asked), _GREEDY)
    texts = {p: one.text for p, one in zip(asked, greedy, strict=True)}
    explanation = texts[site] if explanation is None else explanation
    if explanation is None:
        what, remedy = "no explanation could be extracted here", "Choose another token"
        raise ConfigError(what, found=greedy[0].response, remedy=remedy)
    draws = Sampling(temperature=1.0, samples=samples or 1, seed=seed)
    drawn = await self.explain_chosen(bare_rows(vectors[[site]], [site]), draws) if samples else []
    said, nearby = _known(one.text for one in drawn), _known(texts[p] for p in near)
    distant = _known(texts[p] for p in far)
    claims = split_claims(explanation) or [explanation]
    (own, empty, shuffled), prefixes, without, others = await _scored(
        self,
        vectors[site],
        [explanation, "", shuffled_words(explanation, seed)],
        ["\n".join(claims[: i + 1]) for i in range(len(claims))],
        ["\n".join(claims[:i] + claims[i + 1 :]) for i in range(len(claims)) if len(claims) > 1],
        distant,
    )
    score, losses = self.nla.trust_score, [_lost(own, one) for one in without] or [None]
    likely = _likely(score, claims, own.fve, losses, drawn, distant)
    mean = self.nla.mean_direction_fve(vectors[site])
    return Trust(
        position=site,
        explanation=explanation,
        fve=own.fve,
        cosine=own.cosine,
        direction_mse=own.direction_mse,
        controls=_controls(mean, empty.fve, shuffled.fve, [one.fve for one in others]),
        samples=tuple(Sample(one.text, one.fve) for one in drawn),
        agreement=agreement(said),
        claims=_claims(claims, prefixes, losses, likely, said, nearby),
        neighbours=tuple(Neighbour(p, read.tokens[p].token, texts[p]) for p in near),
        truth=_truth(self, read, site, explanation),
        likely_true=_mean(_known(likely)),
        score_quality=None if score is None else ScoreQuality.of(score),
    )


def _claims(
    claims: Sequence[str],
    prefixes: Sequence[Score],
    losses: Sequence[float | None],
    likely: Sequence[float | None],
    said: Sequence[str],
    nearby: Sequence[str],
) -> tuple[Claim, ...]:
    return tuple(
        Claim(one, prefix.fve, lost, share_making(one, said), share_making(one, nearby), chance)
        for one, prefix, lost, chance in zip(claims, prefixes, losses, likely, strict=True)
    )


def _likely(
    score: TrustScore | None,
    claims: Sequence[str],
    fve: float | None,
    lost: Sequence[float | None],
    drawn: Sequence[TokenExplanation],
    others: Sequence[str],
) -> Sequence[float | None]:
    """How likely each claim is to be true; None without a fitted score or anything to compare."""
    if score is None or not drawn or not others:
        return [None] * len(claims)
    samples = [(one.text, one.fve) for one in drawn]
    texts: dict[str, Any] = {"samples": samples, "others": others}
    return score.probabilities(claim_features(score.wording, claims, fve=fve, lost=lost, **texts))


def _controls(
    mean: float | None, empty: float | None, shuffled: float | None, others: Sequence[float | None]
) -> tuple[Control, ...]:
    return (
        Control("mean direction", mean),
        Control("empty text", empty),
        Control("shuffled words", shuffled),
        Control("texts of other tokens", _mean(_known(others))),
    )


def _sites(num_tokens: int, site: int, neighbours: int) -> tuple[list[int], list[int]]:
    """Tokens beside the one at ``site``, and some far from it."""
    around = range(max(0, site - neighbours), min(num_tokens, site + neighbours + 1))
    far = [p for p in range(1, num_tokens) if abs(p - site) > neighbours]
    return [p for p in around if p != site], _spread(far, _FAR)


async def _scored(
    questions: Questions, vector: Tensor, *groups: Sequence[str]
) -> list[list[Score]]:
    """The scores of groups of texts against one activation, all read back together."""
    texts = [text for group in groups for text in group]
    scores = iter(await questions.scores(texts, vector.expand(len(texts), -1)))
    return [list(islice(scores, len(group))) for group in groups]


def _known(values: Iterable[Value | None]) -> list[Value]:
    return [value for value in values if value is not None]


def _truth(
    questions: Questions, read: ReadText, site: int, explanation: str
) -> tuple[Verdict, ...] | None:
    if questions.known_truth is None:
        return None
    found = questions.known_truth.verdicts(read.text, read.tokens[site].end, explanation)
    if found is None:
        return None
    return tuple(Verdict(one.kind, one.value, one.verdict) for one in found)


def agreement(texts: Sequence[str]) -> float | None:
    """Mean share of words that two of the texts have in common, 0 to 1; None for fewer than two."""
    return _mean([_common_words(a, b) for a, b in combinations(texts, 2)])


def share_making(claim: str, texts: Sequence[str]) -> float | None:
    """Share of the texts that make a claim too, in about the same words; None for no texts."""
    return _mean(
        [
            any(_common_words(claim, other) >= SAME_CLAIM for other in split_claims(text))
            for text in texts
        ]
    )


def shuffled_words(text: str, seed: int) -> str:
    """The words of a text in random order."""
    words = text.split()
    random.Random(seed).shuffle(words)
    return " ".join(words)


def _common_words(first: str, second: str) -> float:
    a, b = (set(re.findall(r"\w+", text.casefold())) for text in (first, second))
    return len(a & b) / len(a | b) if a | b else float(first == second)


def _lost(own: Score, without: Score) -> float | None:
    return None if own.fve is None or without.fve is None else own.fve - without.fve


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _spread(positions: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of the positions, evenly spread."""
    if len(positions) <= count:
        return list(positions)
    return [positions[i * len(positions) // count] for i in range(count)]
