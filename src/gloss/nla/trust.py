"""What speaks for one explanation and against it: controls, other samples, neighbouring tokens,
each claim's share.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from torch import Tensor

from gloss.errors import ConfigError
from gloss.nla.explaining import text_of
from gloss.nla.request import Sampling, Text
from gloss.nla.results import Claim, Control, Neighbour, Sample, Score, Trust, Verdict
from gloss.text.positions import parse_positions
from gloss.text.tokens import ReadText

if TYPE_CHECKING:
    from gloss.nla.questions import Questions

SAME_CLAIM = 0.6
"""Share of words in common from which two claims count as the same."""
_FAR = 8
"""Other tokens of the text whose explanations serve as a control."""
_BULLET = re.compile(r"^\s*(?:[-*•·–—]+|\(?\d{1,2}[.)])\s+")
_QUOTES = {'"': '"', "“": "”", "«": "»"}


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
    """What speaks for one token's explanation and against it: controls, ``samples`` more at
    temperature 1, the ``neighbours`` on each side, and each claim's share.

    Without ``explanation`` it is the AV's greedy one.
    Raises: PositionError, CorpusError; ConfigError if none can be extracted.
    """
    self.require("av", "ar", "target")
    read = self.read(source)
    (site,) = parse_positions(position, len(read.tokens))
    vectors = await self.executor.activations(read.token_ids)
    around = range(site - neighbours, site + neighbours + 1)
    near = [p for p in around if p != site and 0 <= p < len(vectors)]
    far = _spread([p for p in range(1, len(vectors)) if abs(p - site) > neighbours], _FAR)
    asked = [site, *near, *far]
    greedy = await self.rollouts(vectors[asked], Sampling(temperature=0.0), asked)
    texts = dict(zip(asked, map(text_of, greedy), strict=True))
    explanation = texts[site] if explanation is None else explanation
    if explanation is None:
        raise ConfigError(
            "no explanation could be extracted here",
            found=greedy[0].text,
            remedy="Choose another token",
        )
    drawn = await _samples(self, vectors[site : site + 1], site, samples, seed)
    elsewhere = [text for p in far if (text := texts[p]) is not None]
    near_texts = [Neighbour(p, read.tokens[p].token, texts[p]) for p in near]
    own, controls, claims = await _shares(
        self, vectors[site], explanation, drawn, near_texts, elsewhere, seed
    )
    said = [text for one in drawn if (text := one.text) is not None]
    return Trust(
        position=site,
        explanation=explanation,
        fve=own.fve,
        cosine=own.cosine,
        direction_mse=own.direction_mse,
        controls=controls,
        samples=drawn,
        agreement=agreement(said),
        claims=claims,
        neighbours=tuple(near_texts),
        truth=_truth(self, read, site, explanation),
    )


async def _samples(
    questions: Questions, vector: Tensor, site: int, count: int, seed: int
) -> tuple[Sample, ...]:
    if count == 0:
        return ()
    sampling = Sampling(temperature=1.0, samples=count, seed=seed)
    texts = await questions.texts(vector, sampling, [site])
    known = [text for text in texts if text is not None]
    scores = iter(await questions.scores(known, vector.expand(len(known), -1)))
    return tuple(Sample(text, None if text is None else next(scores).fve) for text in texts)


async def _shares(
    questions: Questions,
    vector: Tensor,
    explanation: str,
    drawn: Sequence[Sample],
    near: Sequence[Neighbour],
    elsewhere: Sequence[str],
    seed: int,
) -> tuple[Score, tuple[Control, ...], tuple[Claim, ...]]:
    """The explanation's own score, those of the controls, and each claim's share."""
    claims = split_claims(explanation) or [explanation]
    order, several = range(len(claims)), len(claims) > 1
    prefixes = ["\n".join(claims[: i + 1]) for i in order]
    without = ["\n".join(claims[:i] + claims[i + 1 :]) for i in order] if several else []
    shuffled = shuffled_words(explanation, seed)
    texts = [explanation, "", shuffled, *prefixes, *without, *elsewhere]
    scores = await questions.scores(texts, vector.expand(len(texts), -1))
    own, empty, mixed, rest = scores[0], scores[1], scores[2], scores[3:]
    said = [text for one in drawn if (text := one.text) is not None]
    nearby = [text for one in near if (text := one.text) is not None]
    controls = (
        Control("mean direction", questions.nla.mean_direction_fve(vector)),
        Control("empty text", empty.fve),
        Control("shuffled words", mixed.fve),
        Control("texts of other tokens", _mean_fve(rest[len(prefixes) + len(without) :])),
    )
    judged = tuple(
        Claim(
            text=claim,
            prefix_fve=rest[i].fve,
            fve_lost=_lost(own, rest[len(prefixes) + i]) if several else None,
            in_samples=share_making(claim, said),
            at_neighbours=share_making(claim, nearby),
        )
        for i, claim in enumerate(claims)
    )
    return own, controls, judged


def _truth(
    questions: Questions, read: ReadText, site: int, explanation: str
) -> tuple[Verdict, ...] | None:
    if questions.known_truth is None:
        return None
    found = questions.known_truth.verdicts(read.text, read.tokens[site].end, explanation)
    if found is None:
        return None
    return tuple(Verdict(one.kind, one.value, one.verdict) for one in found)


def split_claims(explanation: str) -> list[str]:
    """The claims of an explanation: its lines without bullets, cut at semicolons and after
    sentences, but not inside quotes.
    """
    claims = []
    for line in explanation.splitlines():
        claims += [claim for piece in _pieces(_BULLET.sub("", line)) if (claim := piece.strip())]
    return claims


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


def _pieces(line: str) -> Iterator[str]:
    """The line cut after ; and after . ! ? before white space, where no quotation is open."""
    start, closing = 0, ""
    for i, char in enumerate(line):
        if closing:
            closing = "" if char == closing else closing
        elif char in _QUOTES and _QUOTES[char] in line[i + 1 :]:
            closing = _QUOTES[char]
        elif char == ";" or (
            char in ".!?" and line[i + 1 : i + 2].isspace() and _ends_sentence(line[:i])
        ):
            yield line[start : i + (char != ";")]
            start = i + 1
    yield line[start:]


def _ends_sentence(before: str) -> bool:
    """Not after an initial, a number of a list or an abbreviation of one letter: "J. Smith", "1.
    First".
    """
    word = before.rsplit(None, 1)[-1] if before.strip() else ""
    return len(word) > 1 and not word.isdigit()
