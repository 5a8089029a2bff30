"""Settings of the data stages, read without torch and Parquet; unknown keys are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gloss.contract import (
    DEFAULT_AR_TEMPLATE,
    DEFAULT_AV_TEMPLATE,
    validate_ar_template,
    validate_av_template,
)
from gloss.errors import GlossError
from gloss.providers import Labeller, named_labeller

SPLITS = ("av_sft", "ar_sft", "rl", "heldout")
INJECT_PLACEHOLDER = "<INJECT>"


MANY = 1_000_000_000
"""More than any count of rows, tokens or steps that somebody means."""
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class Settings(BaseModel):
    """Frozen settings that refuse unknown keys; the text below a field is its help."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """What is set where nothing is said, as JSON values, in tables of its own too; without what
        must be said."""
        found: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            if not field.is_required():
                value = field.get_default(call_default_factory=True)
                tabled = isinstance(value, BaseModel)
                found[name] = value.model_dump(mode="json") if tabled else value
            elif isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
                found[name] = field.annotation.defaults()
        return found

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: Any) -> Any:
        kind = cls.model_fields[info.field_name].annotation
        if isinstance(value, bool) and {int, float} & {kind, *get_args(kind)}:
            raise ValueError("true or false where a number is expected")
        return value


class ExtractConfig(Settings):
    """Which activations are taken from the target."""

    layer: int | None = Field(default=None, ge=0, le=10_000)
    """Block whose output is taken, 0-based; about two thirds of the depth if not set."""
    positions_per_doc: int = Field(default=8, gt=0, le=100_000)
    """Most activations taken from one document."""
    min_position: int = Field(default=50, ge=0, le=MANY)
    """First token index that may be taken; early positions are outliers."""
    max_tokens: int = Field(default=4096, gt=0, le=MANY)
    """Tokens of a document that the target reads; the rest is cut off."""
    exclude_template_tokens: bool = True
    """Take no tokens that the chat template adds; special tokens are never taken."""
    max_norm_ratio: float | None = Field(default=4.0, gt=1, le=1e6)
    """Leave out activations with a norm above this many times the document's median, if set."""
    top_next_tokens: int = Field(default=0, ge=0, le=1000)
    """Most likely next tokens stored with each activation; above 0 runs the whole target."""
    batch_size: int = Field(default=64, gt=0, le=MANY)
    """Most documents in one forward pass."""
    batch_tokens: int = Field(default=16384, gt=0, le=MANY)
    """Most tokens in one forward pass, padding included."""
    shard_documents: int = Field(default=1024, gt=0, le=MANY)
    """Documents behind one Parquet file; a stopped extraction keeps complete ones."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format that the target runs in; activations are stored as float32."""
    attn_implementation: str | None = None
    """Attention kernel of Transformers; None takes its default."""
    max_refused: float = Field(default=0.05, ge=0, le=1)
    """Share of the documents that may be left out as unreadable or with an id that came before."""
    corpus: str = ""
    """Name of the corpus, only recorded in the sidecar."""
    seed: Seed = 0
    """Seed of positions."""

    @model_validator(mode="after")
    def _some_position_is_left(self) -> Self:
        if self.min_position >= self.max_tokens:
            raise ValueError(
                f"min_position {self.min_position} must be below max_tokens {self.max_tokens}"
            )
        return self


class SplitConfig(Settings):
    """Which share of the documents each part gets."""

    av_sft: float = Field(default=0.3, ge=0, le=1)
    """Share for the AV's warm start."""
    ar_sft: float = Field(default=0.3, ge=0, le=1)
    """Share for the AR's warm start."""
    rl: float = Field(default=0.3, ge=0, le=1)
    """Share for joint RL."""
    heldout: float = Field(default=0.1, ge=0, le=1)
    """Share that is never trained on."""
    seed: Seed = 0
    """Seed of the assignment."""

    @model_validator(mode="after")
    def _shares_add_up(self) -> Self:
        if abs((total := sum(self.shares.values())) - 1) > 1e-6:
            parts = ", ".join(SPLITS)
            raise ValueError(f"the shares of {parts} must add up to 1, they add up to {total:g}")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """Share of the documents by part."""
        return {name: getattr(self, name) for name in SPLITS}


class LabelConfig(Settings):
    """Who writes the labels, and how."""

    labeller: str = "extractive"
    """An installed labeller such as ``extractive`` or ``lab``, or your own as ``module:Class``."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of the labeller; it refuses those it does not know."""
    chunk_rows: int = Field(default=1024, gt=0, le=MANY)
    """Rows labelled at a time; a stopped labelling goes on after the last complete chunk."""
    seed: Seed = 0
    """Seed of labellers that draw."""

    def make_labeller(self) -> Labeller:
        """The labeller that these settings name. Raises: ConfigError, LabelError."""
        return named_labeller(self.labeller, self.settings, seed=self.seed)


class BuildConfig(Settings):
    """Prompt templates, which become part of the model."""

    av_template: str = DEFAULT_AV_TEMPLATE
    """The AV's prompt, with ``{injection_char}`` once where the activation goes."""
    ar_template: str = DEFAULT_AR_TEMPLATE
    """The AR's prompt, with ``{explanation}`` once and text behind it."""
    marker: str | None = Field(default=None, min_length=1)
    """The injection marker, a rare character that is one token; searched for if not set."""

    @field_validator("av_template", "ar_template")
    @classmethod
    def _template_is_usable(cls, template: str, info: Any) -> str:
        is_av = info.field_name == "av_template"
        if is_av and INJECT_PLACEHOLDER in template:
            raise ValueError(
                f"{INJECT_PLACEHOLDER} stands for the marker in datasets; write {{injection_char}}"
            )
        try:
            (validate_av_template if is_av else validate_ar_template)(template)
        except GlossError as error:
            raise ValueError(str(error)) from error
        return template
