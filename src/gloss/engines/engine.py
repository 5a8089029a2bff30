"""The one protocol behind which explanations are generated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from gloss.contract import Explanation, ExtractionFailed, extract_explanation


@dataclass(frozen=True)
class Rollout:
    """One generated response: its token ids (with the stop token where it was reached), its text
    and what it explains.

    ``finished`` is False where the length cap cut it off.
    """

    token_ids: tuple[int, ...]
    text: str
    finished: bool

    @property
    def explanation(self) -> Explanation | ExtractionFailed:
        """The text between the explanation tags, or why there is none."""
        return extract_explanation(self.text)


class RolloutEngine(Protocol):
    """Generates explanations for activations."""

    def generate(
        self,
        activations: Tensor,
        *,
        temperature: float,
        max_new_tokens: int,
        seed: int,
        num_samples: int = 1,
    ) -> list[Rollout]:
        """``num_samples`` responses per activation [n, d_model], the samples of one activation side
        by side.

        Temperature 0 is greedy. The same seed gives the same responses.
        """
        ...
