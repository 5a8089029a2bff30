"""The bodies of Neuronpedia's self-hosted NLA service, field for field; a contract test holds them
to its description."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gloss.errors import ConfigError
from gloss.foreign import shown, without_surrogates
from gloss.nla import TooLarge
from gloss.serve import limits
from gloss.text.document import PLAIN_FIELDS, Document, chat_messages, clean_value

Temperature = Annotated[float, Field(default=0.7, ge=0.0, le=limits.MAX_TEMPERATURE)]
Numbers = Annotated[list[float], Field(fail_fast=True)]
Stream = Annotated[bool, Field(default=False, description="Answer with server-sent events")]


class ChatMessageInput(BaseModel):
    """One message of a chat. What else it says, such as ``reasoning_content`` or ``tool_calls``, is
    for the chat template, which is refused if it leaves that out."""

    model_config = ConfigDict(extra="allow")

    role: str = Field(description="Chat role, e.g. user / assistant / system")
    content: str = Field(default="", description="Message text")
    channel: str | None = Field(default=None, description="Harmony channel, of assistant turns")

    @model_validator(mode="before")
    @classmethod
    def _null_beside_other_fields(cls, value: Any) -> Any:
        """A content of null is none, where the message says something else."""
        if not isinstance(value, dict) or value.get("content", "") is not None:
            return value
        said = {k: v for k, v in value.items() if k not in PLAIN_FIELDS and v not in (None, [], "")}
        return {k: v for k, v in value.items() if k != "content"} if said else value


class TextRequest(BaseModel):
    """What every request about a text has: the text, or a chat that the target's template
    renders. ``tools`` beside the messages are for the template too."""

    model_config = ConfigDict(extra="allow")

    text: str | None = Field(default=None, max_length=limits.MAX_TEXT_CHARS)
    messages: Annotated[list[ChatMessageInput], Field(fail_fast=True)] | None = Field(
        default=None, description="Rendered by the target's chat template, instead of `text`"
    )
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    enable_thinking: bool | None = None

    @field_validator("messages", mode="before")
    @classmethod
    def _are_few(cls, messages: Any) -> Any:
        """Refuses many before any of them is looked at, which is done in the event loop."""
        if isinstance(messages, list) and len(messages) > limits.MAX_MESSAGES:
            expected = f"at most {limits.MAX_MESSAGES}"
            raise TooLarge("too many messages", expected=expected, found=len(messages))
        return messages

    def document(self) -> Document:
        """The chat, or else the text. Raises: ConfigError if there is neither; CorpusError."""
        if self.messages is not None:
            _check_chat(self.messages)
            messages = [message.model_dump(exclude_none=True) for message in self.messages]
            options: dict[str, object] = {"add_generation_prompt": self.add_generation_prompt}
            if self.continue_final_message:
                options = {"continue_final_message": True}
            if self.enable_thinking is not None:
                options["enable_thinking"] = self.enable_thinking
            if tools := getattr(self, "tools", None):
                options["tools"] = _checked_tools(tools)
            return Document("chat", None, chat_messages(messages, "messages"), options)
        if self.text is None:
            raise ConfigError("nothing to read", expected="text or messages", found="neither")
        return Document("text", without_surrogates(self.text))


def _checked_tools(tools: object) -> Any:
    """Raises: ConfigError for what is no list of tools."""
    if not isinstance(tools, list) or not all(isinstance(one, dict) for one in tools):
        raise ConfigError("tools", expected="a list of objects", found=shown(tools))
    return clean_value(tools)


def _check_chat(messages: Sequence[ChatMessageInput]) -> None:
    """Raises: TooLarge for a chat beyond the bounds of one request, ConfigError for a role that
    no template means."""
    size = sum(len(text) for one in messages for text in (one.role, one.content, one.channel or ""))
    size += sum(len(repr(one.model_extra)) for one in messages if one.model_extra)
    if size > limits.MAX_CHAT_CHARS:
        expected = f"at most {limits.MAX_CHAT_CHARS} characters"
        raise TooLarge("the chat is too long", expected=expected, found=size)
    if unknown := {one.role for one in messages} - limits.ROLES:
        expected = f"one of {', '.join(sorted(limits.ROLES))}"
        raise ConfigError("unknown role", expected=expected, found=shown(min(unknown)))


class Scored(BaseModel):
    """How well a description rebuilds its activation, where there is a reconstructor."""

    mse: float | None = None
    cosine_similarity: float | None = None


class Sampled(BaseModel):
    """How descriptions are drawn."""

    temperature: Temperature
    max_new_tokens: int = Field(default=limits.DEFAULT_NEW_TOKENS, gt=0, le=limits.MAX_ASKED_TOKENS)


class TokenizeRequest(TextRequest):
    """A text to be cut into tokens."""


class ExtractRequest(TextRequest):
    """A text whose activations are wanted."""


class ExplainRequest(TextRequest, Sampled):
    """A text whose tokens are to be explained."""

    positions: Annotated[list[int], Field(fail_fast=True)] | None = Field(
        default=None,
        max_length=limits.MAX_POSITIONS,
        description="Token positions; negative ones count from the end. Omitted or empty: all.",
    )
    reverse: bool = Field(default=True, description="Last token first")
    stream: Stream


class CompletionRequest(TextRequest):
    """A text that the target is to go on with."""

    completion_tokens: int = Field(
        default=16, ge=1, description=f"Cut to {limits.MAX_COMPLETION_TOKENS}"
    )
    temperature: Temperature
    stream: Stream


class TokenInfo(BaseModel):
    """One token."""

    token: str
    token_id: int
    position: int
    fragment_index: int = Field(default=0, description="In a glyph that several tokens make up")
    fragment_count: int = Field(default=1, description="Tokens of that glyph; each shows all of it")
    role: str | None = None
    section: str | None = Field(default=None, description="header, content, footer or scaffold")
    channel: str | None = None
    message_index: int | None = None


class TokenizeResponse(BaseModel):
    """The tokens of a text, and of what the target went on with."""

    tokens: list[TokenInfo]
    prompt_length: int = Field(description="Number of tokens from the original input text")
    text: str = Field(description="Full text (original + any generated completion)")


class TokenActivation(BaseModel):
    """One token's raw activation."""

    token: str
    token_id: int
    position: int
    activation: Numbers
    l2_norm: float


class ExtractResponse(BaseModel):
    """The activations of a text."""

    layer_index: int
    tokens: list[TokenActivation]


class ExplainResult(TokenInfo, Scored):
    """One token's explanation. Neuronpedia keeps these records for ever: no field may change."""

    l2_norm: float
    description: str
    generated: bool = False


class ExplainResponse(BaseModel):
    """Explanations of a text."""

    layer_index: int
    results: list[ExplainResult]


class DescribeRequest(Sampled):
    """Activations to be explained."""

    activations: Annotated[list[Numbers], Field(fail_fast=True)] = Field(
        min_length=1, max_length=limits.MAX_DESCRIBE_BATCH
    )
    stream: Stream


class DescriptionResult(Scored):
    """One activation's explanation."""

    description: str


class DescribeResponse(BaseModel):
    """Explanations of activations."""

    results: list[DescriptionResult]


class ScoreRequest(BaseModel):
    """A text and the activation it is to describe."""

    description: str = Field(max_length=limits.MAX_EXPLANATION_CHARS)
    activation: Numbers


class ScoreResponse(BaseModel):
    """How well the text rebuilds the activation."""

    mse: float = Field(description="In [0, 4]: 0.2 is good, 1 mediocre, 2 orthogonal")
    cosine_similarity: float


class CompareRequest(Sampled):
    """Two activations."""

    activation_a: Numbers
    activation_b: Numbers


class CompareResponse(Scored):
    """The difference of two activations, explained."""

    description: str = Field(description="Of a - b")
    diff_norm: float


class HealthLimits(BaseModel):
    """The bounds of a request, so that a client can check before it asks."""

    max_input_chars: int
    max_positions_per_request: int
    max_new_tokens: int
    max_describe_batch: int
    max_description_chars: int
    max_completion_tokens: int


class HealthResponse(BaseModel):
    """What is loaded, and how. Fields about another engine's settings are null here."""

    status: str
    verbalizer_model: str
    d_model: int | None = None
    verbalizer_quantization: str | None = None
    verbalizer_kv_cache_dtype: str | None = None
    verbalizer_cuda_graph_max_bs: int | None = None
    verbalizer_torch_compile: bool | None = None
    verbalizer_device: str | None = None
    reconstructor_available: bool
    reconstructor_fp8: bool | None = None
    reconstructor_int4: bool | None = None
    reconstructor_device: str | None = None
    source_model: str | None = None
    extraction_layer: int | None = None
    source_truncated: bool | None = None
    source_fp8: bool | None = None
    source_device: str | None = None
    completion_available: bool
    num_cuda_devices: int
    max_concurrent: int
    max_concurrent_explains: int
    max_describe_requests: int
    reconstructor_max_concurrent: int
    source_max_concurrent: int
    limits: HealthLimits


class ExplainMetaFrame(BaseModel):
    """The first frame of a streamed ``/explain``."""

    layer_index: int
    total: int
    prompt_length: int


class ExplainProgressFrame(BaseModel):
    """What is written so far. Clients tell it from a result by the missing ``description``."""

    position: int
    text: str
    done: Literal[False] = False


class DescribeProgressFrame(BaseModel):
    """What is written so far of one activation's explanation."""

    index: int
    text: str
    done: Literal[False] = False


class CompletionPromptFrame(BaseModel):
    """The first frame of a streamed ``/completion``."""

    type: Literal["prompt"] = "prompt"
    prompt_length: int
    tokens: list[TokenInfo]


class CompletionTokenFrame(BaseModel):
    """One generated token."""

    type: Literal["token"] = "token"
    token: TokenInfo


class CompletionDoneFrame(BaseModel):
    """The whole text in the end."""

    type: Literal["done"] = "done"
    text: str
