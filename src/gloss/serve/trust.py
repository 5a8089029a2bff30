"""What speaks for one explanation and against it: controls, other samples, neighbouring tokens,
each claim's share.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from gloss.errors import ConfigError
from gloss.models import direction_mse
from gloss.nla import NLA, Score
from gloss.plugins import KnownTruth
from gloss.reading.themes import split_claims
from gloss.serve import v1_checking_models as m
from gloss.serve.reader import Reader, Sampling
from gloss.text.tokens import ReadText

SAME_CLAIM = 0.6
"""Share of words in common from which two claims count as the same."""
_FAR = 8
"""Other tokens of the text whose explanations serve as a control."""


async def trust(
    reader: Reader, read: ReadText, body: m.TrustIn, known: KnownTruth | None = None
) -> m.TrustOut:
    """The panel of one token's explanation; ``known`` judges its claims where the truth about the
    text is known.

    Raises: PositionError, CheckpointError; ConfigError if the AV's own explanation cannot be
    extracted."""
    reader.require("av", "ar", "target")
    (site,) = reader.positions(body.position, read)
    vectors = await reader.activations(read)
    near = [
        p
        for p in range(site - body.neighbours, site + body.neighbours + 1)
        if p != site and 0 <= p < len(vectors)
    ]
    far = _spread([p for p in range(1, len(vectors)) if abs(p - site) > body.neighbours], _FAR)
    asked = [site, *near, *far]
    length = reader.nla.max_new_tokens
    greedy = await reader.explanations(
        vectors[asked], Sampling(temperature=0.0, max_new_tokens=length), score=False
    )
    texts = dict(zip(asked, [one.explanation for one in greedy], strict=True))
    explanation = body.explanation if body.explanation is not None else texts[site]
    if explanation is None:
        raise ConfigError(
            "no explanation could be extracted here",
            found=greedy[0].text,
            remedy="Choose another token",
        )
    drawn = await _samples(reader, vectors[site : site + 1], body)
    elsewhere = [text for p in far if (text := texts[p]) is not None]
    near_texts = [(p, texts[p]) for p in near]
    panel = await _panel(
        reader, read, body, vectors[site], explanation, drawn, near_texts, elsewhere
    )
    verdicts = (
        known.verdicts(read.text, read.tokens[site].end, explanation) if known is not None else None
    )
    if verdicts is not None:
        panel.truth = [
            m.VerdictOut(kind=v.kind, value=v.value, verdict=v.verdict) for v in verdicts
        ]
    return panel


async def _samples(reader: Reader, vector: Tensor, body: m.TrustIn) -> list[m.SampleOut]:
    if body.samples == 0:
        return []
    sampling = Sampling(
        temperature=1.0,
        max_new_tokens=reader.nla.max_new_tokens,
        seed=body.seed,
        samples=body.samples,
    )
    rows = await reader.explanations(vector, sampling)
    return [
        m.SampleOut(text=one.explanation, fve=one.score.fve if one.score else None) for one in rows
    ]


async def _panel(
    reader: Reader,
    read: ReadText,
    body: m.TrustIn,
    vector: Tensor,
    explanation: str,
    drawn: list[m.SampleOut],
    near: list[tuple[int, str | None]],
    elsewhere: list[str],
) -> m.TrustOut:
    claims = split_claims(explanation) or [explanation]
    prefixes = ["\n".join(claims[: i + 1]) for i in range(len(claims))]
    without = (
        ["\n".join(claims[:i] + claims[i + 1 :]) for i in range(len(claims))]
        if len(claims) > 1
        else []
    )
    shuffled = shuffled_words(explanation, body.seed)
    texts = [explanation, "", shuffled, *prefixes, *without, *elsewhere]
    scores = await reader.score(texts, vector.expand(len(texts), -1))
    own, empty, mixed, rest = scores[0], scores[1], scores[2], scores[3:]
    said = [text for sample in drawn if (text := sample.text) is not None]
    nearby = [text for _, text in near if text is not None]
    return m.TrustOut(
        position=reader.positions(body.position, read)[0],
        explanation=explanation,
        fve=own.fve,
        cosine=own.cosine,
        direction_mse=own.direction_mse,
        controls=[
            m.Control(name="mean direction", fve=mean_direction_fve(reader.nla, vector)),
            m.Control(name="empty text", fve=empty.fve),
            m.Control(name="shuffled words", fve=mixed.fve),
            m.Control(
                name="texts of other tokens", fve=_mean_fve(rest[len(prefixes) + len(without) :])
            ),
        ],
        samples=drawn,
        agreement=agreement(said),
        claims=[
            m.ClaimOut(
                text=claim,
                prefix_fve=rest[i].fve,
                fve_lost=_lost(own, rest[len(prefixes) + i]) if without else None,
                in_samples=share_making(claim, said),
                at_neighbours=share_making(claim, nearby),
            )
            for i, claim in enumerate(claims)
        ],
        neighbours=[
            m.NeighbourOut(position=p, token=read.tokens[p].token, text=text) for p, text in near
        ],
        truth=None,
    )


def agreement(texts: Sequence[str]) -> float | None:
    """Mean share of words that two of the texts have in common, 0 to 1; None for fewer than two."""
    shares = [_common_words(a, b) for a, b in combinations(texts, 2)]
    return sum(shares) / len(shares) if shares else None


def share_making(claim: str, texts: Sequence[str]) -> float | None:
    """Share of the texts that make a claim too, in about the same words; None for no texts."""
    if not texts:
        return None
    return sum(
        any(_common_words(claim, other) >= SAME_CLAIM for other in split_claims(text))
        for text in texts
    ) / len(texts)


def shuffled_words(text: str, seed: int) -> str:
    """The words of a text in random order."""
    words = text.split()
    random.Random(seed).shuffle(words)
    return " ".join(words)


def mean_direction_fve(nla: NLA, vector: Tensor) -> float | None:
    """FVE of predicting the mean direction that the checkpoint records for an activation [d_model];
    None where it records none.
    """
    recorded: Any = nla.recorded.get("mean_direction")
    if recorded is None:
        return None
    return nla.fve(float(direction_mse(torch.tensor(recorded, dtype=torch.float32), vector)))


def _common_words(first: str, second: str) -> float:
    a, b = (set(re.findall(r"\w+", text.casefold())) for text in (first, second))
    return len(a & b) / len(a | b) if a | b else float(first == second)


def _lost(own: Score, without: Score) -> float | None:
    return None if own.fve is None or without.fve is None else own.fve - without.fve


def _mean_fve(scores: Sequence[Score]) -> float | None:
    known = [score.fve for score in scores if score.fve is not None]
    return sum(known) / len(known) if known else None


def _spread(positions: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of the positions, evenly spread."""
    if len(positions) <= count:
        return list(positions)
    return [positions[i * len(positions) // count] for i in range(count)]
