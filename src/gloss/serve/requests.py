"""The requests of Gloss's own paths and their bounds; fields have the names that the methods of
``NLA`` have for the same thing."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from torch import Tensor

from gloss.errors import ActivationError, ConfigError
from gloss.nla import Sampling, Selection
from gloss.nla.remote.answers import decode_array
from gloss.nla.request import parts_of
from gloss.serve import limits
from gloss.serve.interop_models import Numbers, TextRequest
from gloss.store.sources import VectorRows
from gloss.text.document import Document

ExplanationText = Annotated[str, Field(max_length=limits.MAX_EXPLANATION_CHARS)]
Texts = Annotated[
    list[ExplanationText], Field(min_length=1, max_length=limits.MAX_DESCRIBE_BATCH, fail_fast=True)
]
Positions = Annotated[list[int], Field(max_length=limits.MAX_POSITIONS, fail_fast=True)] | int | str
Seed = Annotated[int, Field(ge=0, lt=2**48)]
Temperature = Annotated[float, Field(ge=0.0, le=limits.MAX_TEMPERATURE)]
NewTokens = Annotated[int, Field(gt=0, le=limits.MAX_ASKED_TOKENS)]
Samples = Annotated[int, Field(ge=1, le=16)]
Strings = Annotated[list[str], Field(fail_fast=True)]
Whole = Annotated[list[int], Field(fail_fast=True)]
Given = TypeVar("Given")
Alpha = Annotated[float, Field(ge=-100, le=100)]
_STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)


def as_vectors(rows: list[list[float]], width: int) -> Tensor:
    """Activations of a request, [n, d_model]. Raises: ActivationError for another width."""
    for row in rows:
        if len(row) != width:
            raise ActivationError("wrong activation width", expected=width, found=len(row))
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, width)


class OwnRequest(BaseModel):
    """What every request of Gloss's own has; unknown fields are refused."""

    model_config = _STRICT

    nla: str | None = None
    """Name of a loaded NLA; the first if not given."""

    def options(self) -> dict[str, Any]:
        """What is wanted beside whom and about what: keywords of the method of ``Questions``."""
        return {name: getattr(self, name) for name in type(self).model_fields.keys() - _NO_OPTIONS}


class TextFields(TextRequest):
    """A text or a chat."""

    model_config = _STRICT

    add_generation_prompt: bool = False
    """Whether the chat template opens an answer behind the messages."""
    tools: list[dict[str, Any]] | None = None
    """Tools that the chat template writes into the chat."""

    def document_or(self, activations: Given | None) -> Document | Given:
        """The text or chat, or the activations. Raises: ConfigError for nothing or both."""
        if activations is None:
            return self.document()
        if self.text is not None or self.messages is not None:
            raise ConfigError(
                "what is to be explained?", expected="a text or activations", found="both"
            )
        return activations


class RowColumns(BaseModel):
    """What is known of given activations; each value comes back with its explanation."""

    model_config = _STRICT

    doc_id: Strings | None = None
    position: Whole | None = None
    token: Strings | None = None
    token_id: Whole | None = None
    context: Strings | None = None
    flags: Annotated[list[Strings], Field(fail_fast=True)] | None = None


class SourceFields(TextFields):
    """A text or a chat, or activations."""

    activations: Annotated[list[Numbers], Field(fail_fast=True)] | str | None = None
    """Activations [n, d_model]: lists of numbers, or base64 of little-endian float32 with their
    ``shape``."""
    shape: tuple[int, int] | None = None
    """[n, d_model] of base64 activations."""
    columns: RowColumns | None = None
    first_row: int = Field(default=0, ge=0)
    """Number of the first activation, where they are rows of a file: it keys the samples."""

    def source(self, width: int) -> Document | Tensor | VectorRows:
        """What is meant. Raises: ConfigError for nothing or both; CorpusError, ActivationError."""
        if self.activations is None:
            return self.document_or(None)
        given = self.activations
        vectors = (
            decode_array(given, self.shape) if isinstance(given, str) else as_vectors(given, width)
        )
        if self.columns is None and self.first_row == 0:
            return self.document_or(vectors)
        columns = {} if self.columns is None else self.columns.model_dump(exclude_none=True)
        for name, values in columns.items():
            if len(values) != len(vectors):
                raise ActivationError(
                    f"column {name}", expected=f"{len(vectors)} values", found=len(values)
                )
        return self.document_or(VectorRows(self.first_row, vectors, columns))


class SamplingFields(BaseModel):
    """How explanations are drawn."""

    model_config = _STRICT

    temperature: Temperature | None = None
    """0 is greedy; by default greedy for one response, 1 for several."""
    max_new_tokens: NewTokens | None = None
    """Length cap; by default the NLA's own. Cut to the server's."""
    seed: Seed = 0
    """The same seed gives the same explanations."""


class ExplainRequest(OwnRequest, SourceFields, SamplingFields):
    """Tokens of a text or a chat, or activations, to be explained."""

    positions: Positions | None = None
    """An index (negative from the end), several, "all", or "3,7-9"; by default the last token of a
    text and the last content token of each message of a chat."""
    tokens: str | None = Field(default=None, max_length=1000)
    """Instead of ``positions``: all, last, every:N or regex:PATTERN."""
    max_activations: int | None = Field(default=None, ge=1)
    """At most so many of the chosen tokens, evenly spread."""
    pool: Literal["mean"] | None = None
    """"mean" explains the mean of the chosen tokens of each message."""
    minus: SourceFields | None = None
    """What is subtracted: activations, or that of a text's last token or ``minus_position``."""
    minus_position: int | None = None
    samples: Samples = 1
    """Explanations per activation."""
    best_of: Samples = 1
    """Responses of which each sample is the one that the AR reads best."""
    score: bool | None = None
    """Whether the AR reads them back; by default where there is one."""
    prompt: str | None = Field(default=None, max_length=limits.MAX_EXPLANATION_CHARS)
    """AV prompt instead of the recorded one; holds <INJECT> once."""
    stream: bool = False
    """Whether to answer with an event stream."""

    def parts(self, width: int) -> tuple[Selection, Sampling]:
        """Which activations of the source are meant, and how they are put into words. Raises:
        ConfigError, CorpusError, ActivationError."""
        return parts_of({**vars(self), "minus": self.minus and self.minus.source(width)})


class TokensRequest(OwnRequest, TextFields):
    """A text or a chat to be cut into tokens as the target reads it."""


class ActivationsRequest(OwnRequest, TextFields):
    """A text or a chat whose activations are wanted."""

    positions: Positions = "all"
    """As for explain."""


class ContinueRequest(OwnRequest, TextFields):
    """A text or a chat that the target is to continue."""

    max_new_tokens: int = Field(
        default=16,
        ge=1,
        le=limits.MAX_COMPLETION_TOKENS,
        validation_alias=AliasChoices("max_new_tokens", "completion_tokens"),
    )
    temperature: Temperature = 0.0
    """0 is greedy."""
    seed: Seed = 0
    stream: bool = False
    """Whether to answer with an event stream."""


class ReconstructRequest(OwnRequest):
    """Explanations to be read by the AR."""

    explanations: Texts


class ScoreRequest(OwnRequest, SourceFields):
    """Explanations scored against one token of a text, one activation, or one activation each."""

    explanations: Texts
    position: int = -1
    """The token, where a text is given."""


class SteerRequest(OwnRequest, TextFields):
    """An edit of an explanation, and where it is to change the target."""

    positions: Positions = -1
    """Tokens whose activations are moved; the explanation is that of the last one."""
    original: ExplanationText | None = None
    """The explanation before the edit; by default the AV's greedy one."""
    edited: ExplanationText | None = None
    """The explanation after the edit."""
    edit: tuple[str, str] | None = None
    """Instead of ``edited``: words of the explanation and what to replace them by."""
    unrelated: tuple[ExplanationText, ExplanationText] | None = None
    """An edit that has nothing to do with it, as a control; by default between explanations of two
    other tokens."""
    alphas: list[Alpha] = Field(default=[0.5, 1.0, 2.0], min_length=1, max_length=16)
    wanted: ExplanationText | None = None
    """Words that the edit should bring about; by default those that it brought in."""
    samples: int = Field(default=8, ge=0, le=32)
    """Continuations drawn at temperature 1 in which they are counted."""
    max_new_tokens: int = Field(default=24, ge=1, le=limits.MAX_COMPLETION_TOKENS)
    top_tokens: int = Field(default=10, ge=1, le=50)
    """Next tokens whose probabilities are shown."""
    seed: Seed = 0
    """Seed of the random direction."""


class TrustRequest(OwnRequest, TextFields):
    """One explanation to be checked; without ``explanation`` the AV's greedy one."""

    position: int = -1
    explanation: ExplanationText | None = None
    samples: int = Field(default=4, ge=0, le=16)
    """Explanations drawn at temperature 1."""
    neighbours: int = Field(default=2, ge=0, le=8)
    """Tokens on each side that are explained too."""
    seed: Seed = 0


class SideFields(OwnRequest, TextFields):
    """One side of a comparison: a token of a text, or an activation. Its ``nla`` reads it; by
    default that of the comparison."""

    position: int = -1
    activation: Numbers | None = None

    def source(self, width: int) -> Document | Tensor:
        """What is meant. Raises: ConfigError for nothing or both; CorpusError, ActivationError."""
        given = self.activation
        return self.document_or(None if given is None else as_vectors([given], width))


class CompareRequest(OwnRequest, SamplingFields):
    """Two activations, whose difference (first − second) is explained."""

    sides: tuple[SideFields, SideFields]


class RolloutsRequest(OwnRequest):
    """Activations whose raw responses are wanted, as an engine gives them."""

    activations: str
    shape: tuple[int, int]
    temperature: Temperature = 0.0
    max_new_tokens: NewTokens = 150
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(fail_fast=True)]
    """One for each activation; its sample s is drawn with s more."""
    num_samples: int = Field(default=1, ge=1, le=64)


_NO_OPTIONS = {*OwnRequest.model_fields, *SourceFields.model_fields, "sides", "stream"}
