"""What a question asks for. No torch here: what cannot be meant is refused before loading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from gloss.engines.engine_names import check_temperature
from gloss.errors import ConfigError
from gloss.nla import boundary
from gloss.text.document import Document
from gloss.text.positions import (
    check_positions,
    check_selection,
    plain_positions,
    whole_position,
)

if TYPE_CHECKING:
    from torch import Tensor

Messages = Sequence[Mapping[str, str]]
"""A chat: role and content of each message."""
Text = str | Messages | Document
Positions = str | int | slice | Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which activations of a source are meant: options of ``Questions.explain``.

    Raises: PositionError, ConfigError for what no text could meet.
    """

    positions: Positions | None = None
    tokens: str | None = None
    max_activations: int | None = None
    pool: Literal["mean"] | None = None
    minus: Text | Tensor | None = None
    minus_position: int | None = None

    def __post_init__(self) -> None:
        if self.positions is not None:
            object.__setattr__(self, "positions", plain_positions(self.positions))
        if isinstance(self.positions, str):
            check_positions(self.positions)
        if self.minus_position is not None:
            object.__setattr__(self, "minus_position", whole_position(self.minus_position))
        if self.max_activations is not None:
            most = boundary.whole("max_activations", self.max_activations, least=1)
            object.__setattr__(self, "max_activations", most)
        object.__setattr__(self, "pool", boundary.one_of("pool", self.pool, (None, "mean")))
        if self.tokens is not None:
            check_selection(boundary.text("tokens", self.tokens))
            if self.positions is not None:
                what = "positions and tokens both say what to explain"
                raise ConfigError(what, expected="one of them")

    @property
    def of_text(self) -> bool:
        """Whether something is chosen that only a text has."""
        chosen = (self.positions, self.tokens, self.max_activations, self.pool, self.minus_position)
        return any(one is not None for one in chosen)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How responses are drawn: options of ``Questions.explain``.

    Raises: ConfigError for less than one sample, or a best of responses that are all the same.
    """

    samples: int = 1
    best_of: int = 1
    temperature: float | None = None
    max_new_tokens: int | None = None
    seed: int = 0
    score: bool | None = None
    prompt: str | None = None

    def __post_init__(self) -> None:
        for name in ("samples", "best_of", "max_new_tokens"):
            value = getattr(self, name)
            if value is not None or name != "max_new_tokens":
                object.__setattr__(self, name, boundary.counts(least=1, **{name: value})[0])
        object.__setattr__(self, "seed", boundary.seed_of(self.seed))
        if self.temperature is not None:
            temperature = boundary.finite("temperature", self.temperature, least=0)
            check_temperature(temperature)
            object.__setattr__(self, "temperature", temperature)
        score = boundary.one_of("score", self.score, (None, True, False))
        object.__setattr__(self, "score", score)
        if self.prompt is not None:
            object.__setattr__(self, "prompt", boundary.text("prompt", self.prompt))
        if self.best_of > 1 and self.temperature == 0:
            what, expected = "best-of needs different responses", "a temperature above 0"
            raise ConfigError(what, expected=expected, found=0)

    @property
    def applied_temperature(self) -> float:
        """The temperature in force: by default greedy for one response, 1 for several."""
        if self.temperature is not None:
            return self.temperature
        return 0.0 if self.samples * self.best_of == 1 else 1.0

    @property
    def num_draws(self) -> int:
        """Different responses per activation: greedy ones are all the same."""
        return self.samples * self.best_of if self.applied_temperature else 1


def parts_of(options: Mapping[str, Any]) -> tuple[Selection, Sampling]:
    """The selection and the sampling among the options of ``Questions.explain``."""
    selection, sampling = (
        {one.name: options[one.name] for one in fields(kind)} for kind in (Selection, Sampling)
    )
    return Selection(**selection), Sampling(**sampling)
