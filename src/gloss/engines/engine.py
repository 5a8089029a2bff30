"""The one protocol behind which explanations are generated, and the requests of the decode loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NotRequired, Protocol, TypedDict, TypeVar

from torch import Tensor

from gloss.contract import Explanation, ExtractionFailed, extract_explanation

RequestT = TypeVar("RequestT", contravariant=True)


@dataclass(frozen=True)
class Rollout:
    """One generated response: its token ids (with the stop token where it was reached) and its text
    without.

    ``finished`` is False where the length cap cut it off.
    """

    token_ids: tuple[int, ...]
    text: str
    finished: bool

    @property
    def explanation(self) -> Explanation | ExtractionFailed:
        """The text between the explanation tags, or why there is none."""
        return extract_explanation(self.text)


class Engine(Protocol):
    """Generates explanations for activations."""

    def generate(
        self,
        activations: Tensor,
        *,
        temperature: float,
        max_new_tokens: int,
        seed: int,
        num_samples: int = 1,
        rows: Sequence[int] | None = None,
    ) -> list[Rollout]:
        """``num_samples`` responses per activation [n, d_model], the samples of one activation side
        by side.

        Temperature 0 is greedy. Sample s of activation i is drawn with ``row_seed(seed, rows[i],
        s)``, rows by default 0 … n − 1: a response does not depend on what else is asked for.
        """
        ...

    def load_weights(self, folder: Path) -> None:
        """Goes on with the AV's weights of a checkpoint folder, as training does after a step.

        Raises: EngineError if the engine cannot.
        """
        ...


class SamplingOptions(TypedDict):
    """The options of ``Engine.generate``."""

    temperature: float
    max_new_tokens: int
    seed: int
    num_samples: NotRequired[int]
    rows: NotRequired[Sequence[int] | None]


@dataclass(frozen=True, eq=False)
class RowRequest:
    """One explanation to write: an activation [d_model] and how to sample. Temperature 0 is greedy;
    ``seed`` is the response's own (see ``row_seed``)."""

    activation: Tensor
    temperature: float
    max_new_tokens: int
    seed: int


@dataclass(frozen=True, eq=False)
class ResidualEdit:
    """Offsets [positions, d_model] added to the residual stream behind block ``layer``."""

    layer: int
    positions: Sequence[int]
    offsets: Tensor


@dataclass(frozen=True, eq=False)
class TextRequest:
    """One text of the target to be continued; ``edit`` changes what it reads of the text."""

    token_ids: Sequence[int]
    temperature: float
    max_new_tokens: int
    seed: int
    edit: ResidualEdit | None = None


@dataclass(frozen=True, eq=False)
class NewToken:
    """One more token of the row added as ``key``; ``rollout`` is the whole response where this was
    its last.

    ``next_probabilities`` [vocabulary] come with the first token of a text.
    """

    key: int
    token_id: int
    rollout: Rollout | None
    next_probabilities: Tensor | None = None


class RowBatch(ABC, Generic[RequestT]):
    """At most ``max_rows`` rows that are written side by side, and join and leave at every step."""

    def __init__(self, *, max_rows: int) -> None:
        self.max_rows = max_rows

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """Rows that are being written or about to be."""

    @property
    def room(self) -> int:
        """How many rows can join now."""
        return self.max_rows - self.num_rows

    @abstractmethod
    def add(self, key: int, request: RequestT) -> None:
        """Lets a row join at the next step; ``key`` names it from then on.

        Raises: ConfigError, PositionError, ArchitectureError for a row that cannot be written.
        """

    @abstractmethod
    def abort(self, keys: Iterable[int]) -> None:
        """Takes rows out before their end; keys that are not here are no error."""

    @abstractmethod
    def step(self) -> list[NewToken]:
        """Moves every row on, and returns what is new."""

    @abstractmethod
    def close(self) -> None:
        """Aborts all rows for good."""

    def finish(self) -> dict[int, Rollout]:
        """Steps until every row is written; the responses by key."""
        found: dict[int, Rollout] = {}
        while self.num_rows:
            found |= {new.key: new.rollout for new in self.step() if new.rollout is not None}
        return found
