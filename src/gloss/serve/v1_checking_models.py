"""The bodies of Gloss's own paths that check, steer, compare and search."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from gloss.serve import limits
from gloss.serve.v1_models import (
    MAX_SAMPLES,
    MAX_SEED,
    ExplanationText,
    OwnRequest,
    SamplingFields,
    SourceRequest,
)

MAX_ALPHAS = 16
Alpha = Annotated[float, Field(ge=-100, le=100)]


class TrustIn(SourceRequest):
    """One explanation to be checked; without ``explanation`` the AV's greedy one."""

    position: int = -1
    explanation: ExplanationText | None = None
    samples: int = Field(default=4, ge=0, le=MAX_SAMPLES)
    """Explanations drawn at temperature 1."""
    neighbours: int = Field(default=2, ge=0, le=8)
    """Tokens on each side that are explained too."""
    seed: int = Field(default=0, ge=0, lt=MAX_SEED)


class Control(BaseModel):
    """FVE of what knows nothing of this token."""

    name: str
    fve: float | None


class SampleOut(BaseModel):
    """One more explanation of the same activation."""

    text: str | None
    fve: float | None


class NeighbourOut(BaseModel):
    """The greedy explanation of a token nearby."""

    position: int
    token: str
    text: str | None


class ClaimOut(BaseModel):
    """One line or sentence of the explanation and what speaks for it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text: str
    prefix_fve: float | None
    """FVE of the explanation up to and with this claim."""
    fve_lost: float | None
    """FVE that is lost when this claim alone is left out; null for the only claim."""
    in_samples: float | None
    """Share of the samples that make it too; null without samples."""
    at_neighbours: float | None
    """Share of the neighbours whose explanation makes it too."""


class VerdictOut(BaseModel):
    """A claim about a text whose truth is known: right, wrong, or absent (nothing to judge it
    by).
    """

    kind: str
    value: str
    verdict: str


class TrustOut(BaseModel):
    """What speaks for an explanation and against it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    position: int
    explanation: str
    fve: float | None
    cosine: float
    direction_mse: float
    controls: list[Control]
    """Mean direction, empty text, the explanation's words shuffled, texts of other tokens."""
    samples: list[SampleOut]
    agreement: float | None
    """Mean share of words that two samples have in common, 0 to 1."""
    claims: list[ClaimOut]
    neighbours: list[NeighbourOut]
    truth: list[VerdictOut] | None
    """Every claim that the explanation makes about a text of the laboratory; null for other texts.
    """


class SteerIn(SourceRequest):
    """An edit of an explanation, and where it is to change the target."""

    positions: list[int] = Field(default=[-1], min_length=1, max_length=64)
    """Tokens whose activations are moved; the explanation is that of the last one."""
    original: ExplanationText | None = None
    """The explanation before the edit; by default the AV's greedy one."""
    edited: ExplanationText | None = None
    """The explanation after the edit."""
    edit: tuple[str, str] | None = None
    """Instead of ``edited``: words of the explanation and what to replace them by."""
    unrelated: tuple[ExplanationText, ExplanationText] | None = None
    """An edit that has nothing to do with it, as a control; by default between explanations of two
    other tokens.
    """
    alphas: list[Alpha] = Field(default=[0.5, 1.0, 2.0], min_length=1, max_length=MAX_ALPHAS)
    max_new_tokens: int = Field(default=24, ge=1, le=limits.MAX_COMPLETION_TOKENS)
    top_tokens: int = Field(default=10, ge=1, le=50)
    """Next tokens whose probabilities are shown."""
    seed: int = Field(default=0, ge=0, lt=MAX_SEED)
    """Seed of the random direction."""


class ContinuationOut(BaseModel):
    """What the target wrote: ``edit`` is none, edit, random or unrelated."""

    edit: str
    alpha: float
    text: str


class NextToken(BaseModel):
    """The probability of one next token without an edit and with it."""

    token: str
    token_id: int
    before: float
    after: float


class NextTokens(BaseModel):
    """The likeliest next tokens under one α of the edit."""

    alpha: float
    tokens: list[NextToken]


class SteerOut(BaseModel):
    """The target's continuations, greedy."""

    positions: list[int]
    token: str
    original: str
    edited: str
    continuations: list[ContinuationOut]
    next: list[NextTokens]


class Side(SourceRequest):
    """One side of a comparison: a token of a text, or an activation. Its ``nla`` reads it; by
    default that of the comparison.
    """

    position: int = -1
    activation: list[float] | None = None


class CompareIn(OwnRequest, SamplingFields):
    """Two activations, whose difference (first − second) is explained."""

    sides: tuple[Side, Side]


class SideOut(BaseModel):
    """One side, explained."""

    position: int | None
    token: str | None
    norm: float
    text: str | None
    fve: float | None


class CompareOut(BaseModel):
    """What is between two activations."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text: str | None
    """The difference explained; null where it is zero or no explanation could be extracted."""
    norm: float
    """Of the difference."""
    similarity: float
    """Cosine of the two activations."""
    fve: float | None
    cosine: float | None
    sides: tuple[SideOut, SideOut]


class SearchIn(BaseModel):
    """Explanations to be searched."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    texts: list[ExplanationText | None] = Field(max_length=20_000)
    query: str = Field(min_length=1, max_length=1000)
    fixed: bool = True
    """Whether the query is words as they stand; otherwise a regular expression."""
    case_sensitive: bool = False
    limit: int = Field(default=1000, ge=1, le=20_000)


class Hit(BaseModel):
    """One text that was found and where: [start, end) in characters."""

    index: int
    spans: list[tuple[int, int]]


class SearchOut(BaseModel):
    """Hits in the order of the texts."""

    hits: list[Hit]
    num_found: int
