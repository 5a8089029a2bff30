"""Generate explanations step by step for rows that come and go: one forward pass moves every row on
by one token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gloss.engines.engine import NewToken, Rollout, RowRequest
from gloss.engines.local import draw_tokens
from gloss.errors import ConfigError
from gloss.models import ActivationVerbalizer, SharedPrefix
from gloss.models.slot_cache import SlotCache
from gloss.target_model import check_positions, output_logits

_WINDOWS = ("sliding_window", "attention_chunk_size")


@dataclass
class _Row:
    key: int
    request: RowRequest
    generator: torch.Generator
    token_ids: list[int] = field(default_factory=list)


class DecodingBatch:
    """An engine over a frozen AV whose rows join and leave at every step; not thread-safe.

    At most ``max_rows`` are written side by side, each up to ``max_new_tokens`` long. What a row
    says depends on its request alone, up to the rounding of batched arithmetic; greedy rows are
    those of ``LocalEngine``."""

    def __init__(self, av: ActivationVerbalizer, *, max_rows: int) -> None:
        self.av, self.max_rows = av, max_rows
        self._prefix: SharedPrefix | None = None
        self._cache = SlotCache(len(av.prefix_ids))
        self._rows: list[_Row] = []
        self._joining: list[_Row] = []
        windows = [getattr(av.model.config.get_text_config(), name, None) for name in _WINDOWS]
        self._joins_midway = all(window is None for window in windows)

    @property
    def num_rows(self) -> int:
        """Rows that are being written or about to be."""
        return len(self._rows) + len(self._joining)

    @property
    def room(self) -> int:
        """How many rows can be admitted now; a window of attention shorter than the cache makes
        them wait for each other.
        """
        if self._rows and not self._joins_midway:
            return 0
        return self.max_rows - self.num_rows

    def add(self, key: int, request: RowRequest) -> None:
        """Lets a row join at the next step; ``key`` names it from then on.

        Raises: ConfigError if there is no room.
        """
        if self.room <= 0:
            raise ConfigError(
                "this row cannot join",
                expected=f"fewer than {self.max_rows} rows",
                found=f"{self.num_rows} rows",
            )
        check_positions(
            self.av.model,
            len(self.av.prefix_ids) + len(self.av.tail_ids) + request.max_new_tokens,
        )
        generator = torch.Generator().manual_seed(request.seed)
        self._joining.append(_Row(key, request, generator))

    @torch.inference_mode()
    def abort(self, keys: Iterable[int]) -> None:
        """Lets rows go before their end; keys that are not here are no error."""
        gone = set(keys)
        self._joining = [row for row in self._joining if row.key not in gone]
        self._leave([i for i, row in enumerate(self._rows) if row.key in gone])

    @torch.inference_mode()
    def step(self) -> list[NewToken]:
        """Writes one token of every row.

        Raises: ActivationError, InjectionError for an activation that cannot be injected.
        """
        hidden = [self._move_on()] if self._rows else []
        if self._joining:
            hidden.append(self._prefill())
            self._rows, self._joining = self._rows + self._joining, []
        if not hidden:
            return []
        drawn = self._draw(output_logits(self.av.model, torch.cat(hidden))).tolist()
        new = [self._take(row, token) for row, token in zip(self._rows, drawn, strict=True)]
        self._leave([i for i, token in enumerate(new) if token.rollout is not None])
        return new

    def close(self) -> None:
        """Drops all rows; their keys and values are freed with the engine."""
        self.abort([row.key for row in self._rows + self._joining])

    def _move_on(self) -> Tensor:
        """Last hidden states behind each row's newest token; [rows, d_model]."""
        cache, device = self._cache, self.av.model.device
        cache.before_step()
        newest = torch.tensor([[row.token_ids[-1]] for row in self._rows], device=device)
        positions, mask = cache.positions(device), cache.mask(device)
        output = self.av.backbone(
            inputs_embeds=self.av.embedding(newest),
            position_ids=positions,
            attention_mask=mask,
            past_key_values=cache.transformers_cache,
            use_cache=True,
        )
        hidden: Tensor = output.last_hidden_state[:, -1]
        return hidden

    def _prefill(self) -> Tensor:
        """Last hidden states behind the prompts of the joining rows, whose keys and values join the
        cache; [rows, d_model].
        """
        av = self.av
        self._prefix = self._prefix or av.shared_prefix()
        activations = torch.stack([row.request.activation for row in self._joining])
        inputs = av.embed_after_prefix(activations.to(av.model.device))
        cache = self._prefix.expand_with_room(len(inputs), inputs.shape[1])
        output = av.backbone(inputs_embeds=inputs, past_key_values=cache, use_cache=True)
        self._cache.join(cache, inputs.shape[1])
        hidden: Tensor = output.last_hidden_state[:, -1]
        return hidden

    def _draw(self, logits: Tensor) -> Tensor:
        requests = [row.request for row in self._rows]
        greedy = logits.argmax(dim=-1)
        if not any(request.temperature for request in requests):
            return greedy
        uniform = torch.stack([torch.rand(1, generator=row.generator) for row in self._rows]).to(
            logits.device
        )
        heat = torch.tensor([[request.temperature] for request in requests], device=logits.device)
        return torch.where(
            heat[:, 0] == 0, greedy, draw_tokens(logits, heat.where(heat > 0, 1.0), uniform)
        )

    def _take(self, row: _Row, token: int) -> NewToken:
        row.token_ids.append(token)
        finished = token in self.av.stop_ids
        if not finished and len(row.token_ids) < row.request.max_new_tokens:
            return NewToken(row.key, token, None)
        rollout = Rollout(tuple(row.token_ids), self.av.decode(row.token_ids), finished)
        return NewToken(row.key, token, rollout)

    def _leave(self, indices: Sequence[int]) -> None:
        if indices:
            self._rows = [self._rows[i] for i in self._cache.leave(indices)]
