"""What a question asks for: which activations are meant, and how they are put into words. No torch
here: what cannot be meant is refused before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gloss.errors import ConfigError
from gloss.text.document import Document
from gloss.text.positions import check_positions, check_selection

if TYPE_CHECKING:
    from torch import Tensor

Messages = Sequence[Mapping[str, str]]
"""A chat: role and content of each message."""
Text = str | Messages | Document
Positions = str | int | Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which activations of a source are meant.

    ``positions`` (an index, negative from the end, several, ``"all"`` or ``"3,7-9"``), or
    ``tokens`` (all, last, every:N or regex:PATTERN); by default the last token of a plain text and
    the last content token of each message of a chat. At most ``max_activations`` of them are taken,
    evenly spread. ``pool`` "mean" takes the mean of the chosen tokens (by default every content
    token) of each message. ``minus`` is subtracted: activations, row by row or one from all, or the
    activation of a text's last token, or its ``minus_position``; without ``minus`` that position is
    one of the same text.
    Raises: PositionError, ConfigError for what no text could meet.
    """

    positions: Positions | None = None
    tokens: str | None = None
    max_activations: int | None = None
    pool: Literal["mean"] | None = None
    minus: Text | Tensor | None = None
    minus_position: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.positions, str):
            check_positions(self.positions)
        if self.tokens is not None:
            check_selection(self.tokens)
            if self.positions is not None:
                raise ConfigError(
                    "positions and tokens both say what to explain", expected="one of them"
                )

    @property
    def of_text(self) -> bool:
        """Whether something is chosen that only a text has."""
        chosen = (self.positions, self.tokens, self.max_activations, self.pool, self.minus_position)
        return any(one is not None for one in chosen)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How responses are drawn, as for ``Questions.explain``.

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
        for name in ("samples", "best_of"):
            if getattr(self, name) < 1:
                raise ConfigError(name, expected="at least 1", found=getattr(self, name))
        if self.temperature is not None and not self.temperature >= 0:
            raise ConfigError("temperature", expected="0 or more", found=self.temperature)
        if self.best_of > 1 and self.temperature == 0:
            raise ConfigError(
                "best-of needs different responses", expected="a temperature above 0", found=0
            )

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
