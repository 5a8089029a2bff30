"""Goes on with a text by the target model, one token a step."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gloss.engines.local import draw_tokens
from gloss.target_model import Target, check_positions


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
        from transformers import DynamicCache

        check_positions(target.model, len(token_ids) + max_new_tokens)
        self._target, self._temperature, self._left = target, temperature, max_new_tokens
        self._generator = torch.Generator().manual_seed(seed)
        self._cache = DynamicCache(config=target.model.config)
        self._next = list(token_ids)

    @torch.inference_mode()
    def step(self) -> int | None:
        """The next token's id; None behind the last one, or at an end-of-text token."""
        if self._left == 0:
            return None
        model = self._target.model
        ids = torch.tensor([self._next], device=model.device)
        output = model(input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        logits = output.logits[:, -1]
        if self._temperature == 0:
            token = int(logits.argmax())
        else:
            uniform = torch.rand(1, 1, generator=self._generator).to(logits.device)
            token = int(draw_tokens(logits, self._temperature, uniform))
        self._left -= 1
        self._next = [token]
        return None if token in _stop_ids(self._target) else token


def _stop_ids(target: Target) -> set[int]:
    recorded = getattr(getattr(target.model, "generation_config", None), "eos_token_id", None)
    others = recorded if isinstance(recorded, (list, tuple)) else [recorded]
    return {int(i) for i in (target.tokenizer.eos_token_id, *others) if i is not None}
