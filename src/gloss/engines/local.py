"""Generate explanations in this process: shared prompt prefix, one batch, rows leave it when they
end.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gloss.engines.engine import Rollout
from gloss.models import ActivationVerbalizer, SharedPrefix, linear_weights_cast_once
from gloss.target_model import check_positions, output_logits

CROWDED = 0.875
"""Rows that ended stay in the batch, unread, until no more than this share of it is alive: leaving
costs a copy of the cache.
"""


class LocalEngine:
    """A rollout engine over a live AV; training steps on the AV are seen by the next call.

    ``batch_size`` bounds how many responses are generated side by side.
    """

    def __init__(self, av: ActivationVerbalizer, *, batch_size: int = 256) -> None:
        self.av, self.batch_size = av, batch_size

    @torch.inference_mode()
    def generate(
        self,
        activations: Tensor,
        *,
        temperature: float,
        max_new_tokens: int,
        seed: int,
        num_samples: int = 1,
    ) -> list[Rollout]:
        """See ``Engine.generate``."""
        check_positions(
            self.av.model, len(self.av.prefix_ids) + len(self.av.tail_ids) + max_new_tokens
        )
        rows = activations.to(self.av.model.device).repeat_interleave(num_samples, dim=0)
        generator = torch.Generator(device=rows.device).manual_seed(seed)
        rollouts: list[Rollout] = []
        with linear_weights_cast_once(self.av.model):
            prefix = self.av.shared_prefix()
            for start in range(0, len(rows), self.batch_size):
                chunk = rows[start : start + self.batch_size]
                rollouts += self._generate_batch(
                    chunk, prefix, temperature, max_new_tokens, generator
                )
        return rollouts

    def _generate_batch(
        self,
        rows: Tensor,
        prefix: SharedPrefix,
        temperature: float,
        max_new_tokens: int,
        generator: torch.Generator,
    ) -> list[Rollout]:
        av, n = self.av, len(rows)
        backbone, embedding = av.backbone, av.embedding
        responses = torch.full((n, max_new_tokens), av.pad_id, device=rows.device)
        finished = torch.zeros(n, dtype=torch.bool, device=rows.device)
        slots = alive = torch.arange(n, device=rows.device)
        cache = prefix.expand_with_room(n, len(av.tail_ids) + max_new_tokens)
        inputs = av.embed_after_prefix(rows)
        stops = torch.tensor(av.stop_ids, device=rows.device)
        for step in range(max_new_tokens):
            hidden = backbone(
                inputs_embeds=inputs, past_key_values=cache, use_cache=True
            ).last_hidden_state[:, -1]
            drawn = _sample(output_logits(av.model, hidden[slots]), temperature, generator)
            responses[alive, step] = drawn
            ended = torch.isin(drawn, stops)
            tokens = torch.full((len(hidden),), av.pad_id, device=rows.device)
            tokens[slots] = drawn
            if bool(ended.any()):
                finished[alive[ended]] = True
                alive, slots = alive[~ended], slots[~ended]
                if len(alive) == 0:
                    break
                if len(alive) <= CROWDED * len(hidden):
                    cache.batch_select_indices(slots)
                    tokens, slots = tokens[slots], torch.arange(len(slots), device=rows.device)
            inputs = embedding(tokens.unsqueeze(1))
        return [
            self._rollout(ids, bool(done))
            for ids, done in zip(responses.tolist(), finished.tolist(), strict=True)
        ]

    def _rollout(self, ids: list[int], finished: bool) -> Rollout:
        if finished:
            ids = ids[: next(i for i, token in enumerate(ids) if token in self.av.stop_ids) + 1]
        return Rollout(token_ids=tuple(ids), text=self.av.decode(ids), finished=finished)


def _sample(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """One token per row; [n, vocabulary] → [n]."""
    if temperature == 0.0:
        return logits.argmax(dim=-1)
    return draw_tokens(
        logits, temperature, torch.rand(len(logits), 1, generator=generator, device=logits.device)
    )


def draw_tokens(logits: Tensor, temperature: float | Tensor, uniform: Tensor) -> Tensor:
    """The tokens where uniform draws fall on the cumulated softmax of logits / T, T above 0.

    Shapes: logits [n, vocabulary], uniform [n, 1] in [0, 1), temperature one number or [n, 1];
    result [n]."""
    cumulated = torch.softmax(logits.float() / temperature, dim=-1).cumsum(dim=-1)
    drawn = torch.searchsorted(cumulated, uniform * cumulated[:, -1:], right=True)
    return drawn.squeeze(1).clamp_max(logits.shape[-1] - 1)
