"""Goes on with a text by the target model, one token a step."""

from __future__ import annotations

from collections.abc import Sequence

from gloss.engines import DecodingBatch, TextRequest
from gloss.target_model import Target


class Continuation:
    """A text [token ids] that the target goes on with; temperature 0 is greedy."""

    def __init__(
        self,
        target: Target,
        token_ids: Sequence[int],
        *,
        temperature: float,
        seed: int,
        max_new_tokens: int,
    ) -> None:
        self._batch = DecodingBatch(target, max_rows=1)
        if max_new_tokens:
            self._batch.add(0, TextRequest(token_ids, temperature, max_new_tokens, seed))

    def step(self) -> int | None:
        """The next token's id; None behind the last one, or at an end-of-text token."""
        for token in self._batch.step():
            if token.rollout is None or not token.rollout.finished:
                return token.token_id
        return None
