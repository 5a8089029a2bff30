"""The bodies of Gloss's own paths."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gloss.serve import limits
from gloss.serve.interop_models import CompletionRequest, TextRequest, TokenInfo

MAX_SAMPLES, MAX_SEED = 16, 2**48
ExplanationText = Annotated[str, Field(max_length=limits.MAX_EXPLANATION_CHARS)]


class OwnRequest(BaseModel):
    """What every request of Gloss's own has; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    nla: str | None = None
    """Name of a loaded NLA; the first if not given."""


class SourceRequest(OwnRequest, TextRequest):
    """A text or a chat."""

    add_generation_prompt: bool = False
    """Whether the chat template opens an answer behind the messages."""


class ContinueIn(SourceRequest, CompletionRequest):
    """A text or a chat that the target is to go on with."""


class Vectors(BaseModel):
    """Activations beside or instead of a text."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    activations: list[list[float]] | str | None = None
    """Activations [n, d_model]: lists of numbers, or base64 of little-endian float32 with their
    ``shape``.
    """
    shape: tuple[int, int] | None = None
    """[n, d_model] of base64 activations."""


class SamplingFields(BaseModel):
    """How explanations are drawn."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    temperature: float | None = Field(default=None, ge=0.0, le=limits.MAX_TEMPERATURE)
    """0 is greedy; by default greedy for one sample, 1 for several."""
    max_new_tokens: int | None = Field(default=None, gt=0, le=limits.MAX_ASKED_TOKENS)
    """Length cap; by default the NLA's own. Cut to the server's."""
    seed: int = Field(default=0, ge=0, lt=MAX_SEED)
    """The same seed gives the same explanations."""


class ExplainIn(SourceRequest, Vectors, SamplingFields):
    """Tokens of a text, or activations, to be explained."""

    positions: Annotated[list[int], Field(max_length=limits.MAX_POSITIONS)] | int | str | None = (
        None
    )
    """An index (negative from the end), several, "all", or "3,7-9"; by default all."""
    samples: int = Field(default=1, ge=1, le=MAX_SAMPLES)
    """Explanations per token."""
    score: bool = True
    """Whether the AR reads them back, where there is one."""
    stream: bool = False
    """Whether to answer with an event stream."""


class ExplanationOut(BaseModel):
    """One finished explanation."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    position: int
    """Token position, or row of given activations."""
    sample: int
    token: str | None
    token_id: int | None
    role: str | None
    section: str | None
    message_index: int | None
    text: str | None
    """The explanation; null where none could be extracted from ``response``."""
    response: str
    """What the AV wrote, tags and all."""
    fve: float | None
    """1 − direction MSE / variance of the NLA's training activations; null where the checkpoint
    does not record it.
    """
    baseline: float | None
    """FVE of always predicting the recorded mean direction; null where none is recorded."""
    cosine: float | None
    direction_mse: float | None
    norm: float
    flags: list[str]
    """Reasons to distrust it: early position, special token, norm outlier, extraction failed."""
    done: Literal[True] = True


class ExplainStartFrame(BaseModel):
    """First frame of a streamed explain."""

    nla: str
    layer: int
    total: int
    num_tokens: int | None


class ExplainPartFrame(BaseModel):
    """An explanation as far as it is written."""

    position: int
    sample: int
    text: str
    done: Literal[False] = False


class ErrorFrame(BaseModel):
    """An error behind the beginning of a stream; the last frame."""

    error: str
    kind: str
    status: int


class ExplainOut(BaseModel):
    """Explanations in the order asked for, the samples of one token side by side."""

    nla: str
    layer: int
    explanations: list[ExplanationOut]


class TokensIn(SourceRequest):
    """A text to be cut into tokens as the target reads it."""


class TokensOut(BaseModel):
    """The tokens and the text as rendered."""

    tokens: list[TokenInfo]
    text: str


class ActivationsIn(SourceRequest):
    """A text whose activations are wanted."""

    positions: Annotated[list[int], Field(max_length=limits.MAX_POSITIONS)] | int | str | None = (
        None
    )
    """As for explain; by default all."""


class ArrayOut(BaseModel):
    """Activations as base64 of little-endian float32 [n, d_model]."""

    activations: str
    shape: tuple[int, int]


class ReconstructIn(OwnRequest):
    """Explanations to be read by the AR."""

    explanations: list[ExplanationText] = Field(min_length=1, max_length=limits.MAX_DESCRIBE_BATCH)


class ScoreIn(SourceRequest, Vectors):
    """Explanations scored against one token of a text, one activation, or one activation each."""

    explanations: list[ExplanationText] = Field(min_length=1, max_length=limits.MAX_DESCRIBE_BATCH)
    position: int = -1
    """The token, where a text is given."""


class ScoreOut(BaseModel):
    """How well one text rebuilds its activation."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    direction_mse: float
    cosine: float
    fve: float | None
    percentile: float | None
    """Share of the checkpoint's held-out explanations that score no better, 0 to 100; null where it
    records none.
    """


class ScoresOut(BaseModel):
    """Scores in the order of the explanations."""

    scores: list[ScoreOut]


class NlaOut(BaseModel):
    """A loaded NLA."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: str
    target: str | None
    layer: int
    d_model: int
    has_av: bool
    has_ar: bool
    has_target: bool
    chat: bool
    """Whether the target has a chat template."""
    fve: float | None
    """Held-out FVE that the checkpoint records."""
    median_norm: float | None
    max_new_tokens: int
    direction_variance: float | None


class NlasOut(BaseModel):
    """All loaded NLAs, the default one first."""

    nlas: list[NlaOut]


class RolloutsIn(OwnRequest):
    """Activations whose raw responses are wanted, as a rollout engine gives them."""

    activations: str
    shape: tuple[int, int]
    temperature: float = Field(default=0.0, ge=0.0, le=limits.MAX_TEMPERATURE)
    max_new_tokens: int = Field(default=150, gt=0, le=limits.MAX_ASKED_TOKENS)
    seeds: list[Annotated[int, Field(ge=0, lt=2**63)]]
    """One for each activation; its sample s is drawn with s more."""
    num_samples: int = Field(default=1, ge=1, le=64)


class RolloutOut(BaseModel):
    """One response, with its stop token where it was reached."""

    token_ids: list[int]
    text: str
    finished: bool


class RolloutsOut(BaseModel):
    """Responses, the samples of one activation side by side."""

    rollouts: list[RolloutOut]


class VectorsOut(BaseModel):
    """Activations read from an uploaded file, with what it says of their rows."""

    vectors: list[list[float]]
    num_rows: int
    layer: int | None
    columns: dict[str, list[Any]]


class RunEntry(BaseModel):
    """A run folder."""

    id: str
    state: Literal["unfinished", "finished"]
    preset: str | None
    fve: float | None
    updated: float | None


class ExampleOut(BaseModel):
    """A text whose truth is known."""

    doc_id: str
    text: str


class ExamplesOut(BaseModel):
    """Texts whose truth is known."""

    examples: list[ExampleOut]


class RunsOut(BaseModel):
    """Run folders, the newest first."""

    runs: list[RunEntry]


class RunOut(BaseModel):
    """What a run wrote down, as its files have it."""

    id: str
    metrics: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    results: dict[str, Any] | None
