"""How likely each claim of an explanation is to be true, from what shows without knowing the truth.

    features     of a claim, see ``FEATURES``                              [claims, features]
    z            = (features − mean) / scale, then all products of two      [claims, terms]
    probability  = logistic(intercept + z · coefficients)

An evaluation that knows the truth fits the numbers; they lie in a file beside the AV. They hold for
texts like those that they were fitted on, and for that NLA alone."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError, model_validator

from gloss.durable import read_json
from gloss.errors import CheckpointError, first_line
from gloss.nla.claim_texts import split_claims

TRUST_SCORE_NAME = "trust_score.json"
FEATURES = (
    "fve",
    "fve_lost",
    "sample_fve",
    "in_samples",
    "samples_saying",
    "elsewhere",
    "others_saying",
    "base_rate",
    "quotes",
    "num_claims",
)
"""fve of the explanation; fve_lost when the claim alone is left out; sample_fve, the mean of
samples of the same activation. Share of the claim's words, rare ones counting more, in the nearest
sentence: in_samples and elsewhere (explanations of other tokens), mean over texts; samples_saying
and others_saying, share of texts with ``SAYING`` or more; base_rate in explanations of other texts.
quotes: whether it quotes; num_claims of the explanation."""
SAYING = 0.8
MANY_TEXTS, MANY_CHARS = 1000, 100_000
_WORD = re.compile(r"\w+")
Array = np.ndarray[Any, np.dtype[np.float64]]


class CalibrationBin(BaseModel):
    """Claims of like score: how likely they were said to be true, and how many were."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    predicted: FiniteFloat
    """Mean score of the bin's claims, 0 to 1."""
    true: FiniteFloat
    """Share of them that is true."""
    n: int
    """How many claims."""


class TrustScore(BaseModel):
    """The fitted score and how well it held on documents that it was not fitted on."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    reference: tuple[str, ...]
    """Explanations of other texts, for base rates and for how rare a word is."""
    mean: tuple[FiniteFloat, ...]
    """Of each feature."""
    scale: tuple[FiniteFloat, ...]
    """Standard deviation of each feature."""
    coefficients: tuple[FiniteFloat, ...]
    """Of z, then of its products in the order of ``terms``."""
    intercept: FiniteFloat
    """What is added."""
    auroc: FiniteFloat
    """Chance that a true claim scores above a false one; 0.5 is guessing."""
    calibration_error: FiniteFloat
    """Expected calibration error: mean distance of score and share of true claims, over ten bins of
    equally many claims."""
    calibration: tuple[CalibrationBin, ...]
    """Those bins."""
    true_share: FiniteFloat
    """Share of the claims that is true."""
    n_claims: int
    """Claims that it was fitted on."""
    n_documents: int
    """Documents that they are from."""

    @model_validator(mode="after")
    def _fits(self) -> TrustScore:
        count = len(FEATURES)
        if len(self.mean) != count or len(self.scale) != count or min(self.scale) <= 0:
            raise ValueError(f"mean and scale of {count} features are needed, scales above 0")
        if len(self.coefficients) != count + count * (count + 1) // 2:
            raise ValueError("coefficients of the features and their products are needed")
        if (
            len(self.reference) > MANY_TEXTS
            or max(map(len, self.reference), default=0) > MANY_CHARS
        ):
            raise ValueError("too many or too long explanations of other texts")
        return self

    @cached_property
    def wording(self) -> Wording:
        """Compares claims with texts."""
        return Wording(self.reference)

    def probabilities(self, features: Array) -> list[float]:
        """How likely each claim is to be true, 0 to 1; features [claims, features], NaN where one
        is not known."""
        z = terms((features - np.array(self.mean)) / np.array(self.scale))
        logits = (z @ np.array(self.coefficients) + self.intercept).clip(-50, 50)
        return [1 / (1 + math.exp(-float(logit))) for logit in logits]


def terms(z: Array) -> Array:
    """Standardised features [n, f] and the products of any two of them; 0 stands for NaN, and
    nothing counts further than 5 from the mean."""
    z = np.nan_to_num(z.clip(-5, 5))
    first, second = np.triu_indices(z.shape[1])
    return np.concatenate([z, z[:, first] * z[:, second]], axis=1)


@dataclass(frozen=True)
class Wording:
    """How much of a claim other texts say, rare words counting more; ``reference`` are unrelated
    texts, which tell how rare a word is."""

    reference: Sequence[str]
    _base: dict[str, float] = field(default_factory=dict)

    @cached_property
    def _documents(self) -> Counter[str]:
        return Counter(word for text in self.reference for word in _words(text))

    @cached_property
    def _sentences(self) -> list[list[frozenset[str]]]:
        return [_sentence_words(text) for text in self.reference]

    def shares(self, claim: str, texts: Sequence[str]) -> list[float]:
        """Of each text the largest share of the claim's words in one of its sentences, 0 to 1."""
        return self._shares(claim, [_sentence_words(text) for text in texts])

    def base_rate(self, claim: str) -> float | None:
        """Mean share of the claim that unrelated texts say; None without any."""
        if not self.reference:
            return None
        if claim not in self._base:
            shares = self._shares(claim, self._sentences)
            self._base[claim] = sum(shares) / len(shares)
        return self._base[claim]

    def _shares(self, claim: str, texts: Sequence[Sequence[frozenset[str]]]) -> list[float]:
        weights = {word: self._weight(word) for word in _words(claim)}
        total = sum(weights.values()) or 1.0
        return [
            max(
                (sum(weights[word] for word in weights.keys() & said) for said in sentences),
                default=0,
            )
            / total
            for sentences in texts
        ]

    def _weight(self, word: str) -> float:
        return math.log((len(self.reference) + 2) / (self._documents[word] + 1))


def claim_features(
    wording: Wording,
    claims: Sequence[str],
    *,
    fve: float | None,
    lost: Sequence[float | None],
    samples: Sequence[tuple[str | None, float | None]],
    others: Sequence[str],
) -> Array:
    """The features of one explanation's claims [claims, features], NaN where one is not known.

    ``lost`` is of each claim what FVE loses without it; ``samples`` are texts of the same
    activation with their FVE, ``others`` explanations of other tokens of the same text."""
    drawn = [text for text, _ in samples if text is not None]
    sample_fve = _mean([each for _, each in samples if each is not None])
    rows = []
    for claim, without in zip(claims, lost, strict=True):
        in_samples, elsewhere = wording.shares(claim, drawn), wording.shares(claim, others)
        rows.append(
            [
                fve,
                without,
                sample_fve,
                _mean(in_samples),
                _mean([share >= SAYING for share in in_samples]),
                _mean(elsewhere),
                _mean([share >= SAYING for share in elsewhere]),
                wording.base_rate(claim),
                float('"' in claim),
                float(len(claims)),
            ]
        )
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(FEATURES))


def read_trust_score(file: Path) -> TrustScore:
    """A fitted score. Raises: CheckpointError if the file holds something else."""
    try:
        return TrustScore.model_validate(read_json(file))
    except ValidationError as error:
        first = error.errors()[0]
        found = f"{'.'.join(map(str, first['loc']))}: {first_line(ValueError(first['msg']))}"
        remedy = "Measure it again: gloss evaluate, or delete the file"
        raise CheckpointError("no trust score", where=file, found=found, remedy=remedy) from error


def _sentence_words(text: str) -> list[frozenset[str]]:
    return [_words(sentence) for sentence in split_claims(text)]


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.casefold()))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
