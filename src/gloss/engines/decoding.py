"""The one decode loop: one forward pass moves every row on by one token, and rows come and go in
between.

    for each step:
        hidden  = one token of every running row, behind the cache
        hidden += the prompts of rows that join, a forward pass for each length
        tokens  = argmax, or where the row's uniform draw falls on the softmax of logits / T
        rows that ended leave the cache

A row is an activation that the AV explains, or a text that the target goes on with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from gloss.engines.engine import (
    NewToken,
    ResidualEdit,
    Rollout,
    RowBatch,
    RowRequest,
    TextRequest,
)
from gloss.errors import ConfigError, PositionError
from gloss.models import (
    ActivationVerbalizer,
    SharedPrefix,
    common_prefix_length,
    further_stop_ids,
)
from gloss.models.slot_cache import SlotCache
from gloss.seeds import uniform_draws
from gloss.target_model import Target, backbone_of, check_positions, edit_residual, output_logits
from gloss.text.token_texts import text_of_ids

Request = RowRequest | TextRequest


@dataclass
class _Row:
    key: int
    request: Request
    token_ids: list[int] = field(default_factory=list)

    @property
    def num_left(self) -> int:
        return self.request.max_new_tokens - len(self.token_ids)


class DecodingBatch(RowBatch[Request]):
    """Rows that an AV explains (``RowRequest``) or a target continues (``TextRequest``), at most
    ``max_rows`` side by side; not thread-safe.

    What a row says depends on its request alone, up to the rounding of batched arithmetic. The
    model's weights must not change while there are rows."""

    def __init__(self, model: ActivationVerbalizer | Target, *, max_rows: int) -> None:
        super().__init__(max_rows=max_rows)
        self._cache = SlotCache()
        self._rows: list[_Row] = []
        self._joining: list[_Row] = []
        self._prompts = (
            _ActivationPrompts(model)
            if isinstance(model, ActivationVerbalizer)
            else _TextPrompts(model)
        )
        self._model, self._backbone = model.model, backbone_of(model.model)
        self._embedding = model.model.get_input_embeddings()

    @property
    def num_rows(self) -> int:
        """See ``RowBatch``."""
        return len(self._rows) + len(self._joining)

    def add(self, key: int, request: Request) -> None:
        """See ``RowBatch``.

        Raises: ConfigError if there is no room, no text or no token to write; PositionError for an
        edit of a token that is not there; ArchitectureError for more tokens than the model has
        positions."""
        if self.room <= 0 or request.max_new_tokens < 1:
            raise ConfigError(
                "this row cannot join",
                expected=f"at least 1 token, and fewer than {self.max_rows} rows",
                found=f"{request.max_new_tokens} tokens, {self.num_rows} rows",
            )
        length = self._prompts.length(request)
        if not length:
            raise ConfigError("the text is empty", expected="at least one token")
        edit = request.edit if isinstance(request, TextRequest) else None
        for position in edit.positions if edit else ():
            if not 0 <= position < length:
                raise PositionError(
                    "no such token", expected=f"position 0 to {length - 1}", found=position
                )
        check_positions(self._model, length + request.max_new_tokens)
        self._joining.append(_Row(key, request))

    @torch.inference_mode()
    def abort(self, keys: Iterable[int]) -> None:
        """See ``RowBatch``."""
        gone = set(keys)
        self._joining = [row for row in self._joining if row.key not in gone]
        self._remove([i for i, row in enumerate(self._rows) if row.key in gone])

    def close(self) -> None:
        """See ``RowBatch``; keys and values are freed with the batch."""
        self.abort([row.key for row in self._rows + self._joining])

    @torch.inference_mode()
    def step(self) -> list[NewToken]:
        """Writes one token of every row.

        Raises: ActivationError, InjectionError for an activation that cannot be injected.
        """
        hidden = [self._move_on()] if self._rows else []
        joining, self._joining = self._joining, []
        joining.sort(key=self._prompt_length)
        for _, group in groupby(joining, key=self._prompt_length):
            rows = list(group)
            hidden.append(self._prefill(rows))
            self._rows += rows
        if not hidden:
            return []
        logits = output_logits(self._model, torch.cat(hidden))
        first = self._first_probabilities(logits)
        drawn = self._draw(logits).tolist()
        new = [self._take(row, token, first) for row, token in zip(self._rows, drawn, strict=True)]
        self._remove([i for i, token in enumerate(new) if token.rollout is not None])
        return new

    def _prompt_length(self, row: _Row) -> int:
        return self._prompts.length(row.request)

    def _move_on(self) -> Tensor:
        """Last hidden states behind each row's newest token; [rows, d_model]."""
        cache, device = self._cache, self._model.device
        newest = torch.tensor([[row.token_ids[-1]] for row in self._rows], device=device)
        with cache.stepping(max(row.num_left for row in self._rows)):
            output = self._backbone(
                inputs_embeds=self._embedding(newest),
                position_ids=cache.positions(device),
                attention_mask=cache.mask(device),
                past_key_values=cache.transformers_cache,
                use_cache=True,
            )
        hidden: Tensor = output.last_hidden_state[:, -1]
        return hidden

    def _prefill(self, rows: Sequence[_Row]) -> Tensor:
        """Last hidden states behind prompts of one length, whose keys and values join the cache;
        [rows, d_model]."""
        prefix, inputs, edits = self._prompts.encode([row.request for row in rows])
        longest = max(row.request.max_new_tokens for row in rows)
        with (
            self._cache.joining(prefix, len(rows), inputs.shape[1], longest),
            _edited(self._model, edits, skipped=prefix.num_tokens),
        ):
            output = self._backbone(
                inputs_embeds=inputs,
                past_key_values=self._cache.transformers_cache,
                use_cache=True,
            )
        hidden: Tensor = output.last_hidden_state[:, -1]
        return hidden

    def _first_probabilities(self, logits: Tensor) -> dict[int, Tensor]:
        """Next-token probabilities [vocabulary] behind texts that just joined, by key."""
        fresh = [
            i
            for i, row in enumerate(self._rows)
            if isinstance(row.request, TextRequest) and not row.token_ids
        ]
        probabilities = logits[fresh].float().softmax(dim=-1).cpu() if fresh else ()
        return {self._rows[i].key: one for i, one in zip(fresh, probabilities, strict=True)}

    def _draw(self, logits: Tensor) -> Tensor:
        """One token per row; [rows, vocabulary] → [rows]."""
        temperatures = torch.tensor([[row.request.temperature] for row in self._rows])
        if not bool(temperatures.any()):
            return logits.argmax(dim=-1)
        steps = [len(row.token_ids) for row in self._rows]
        uniform = torch.from_numpy(uniform_draws([row.request.seed for row in self._rows], steps))
        temperatures = temperatures.to(logits.device)
        drawn = draw_tokens(
            logits,
            temperatures.where(temperatures > 0, 1.0),
            uniform.unsqueeze(1).to(logits.device),
        )
        if bool(temperatures.all()):
            return drawn
        return torch.where(temperatures[:, 0] == 0, logits.argmax(dim=-1), drawn)

    def _take(self, row: _Row, token: int, first: dict[int, Tensor]) -> NewToken:
        row.token_ids.append(token)
        finished, rollout = token in self._prompts.stop_ids, None
        if finished or not row.num_left:
            text = self._prompts.decode(row.token_ids)
            rollout = Rollout(tuple(row.token_ids), text, finished)
        return NewToken(row.key, token, rollout, first.get(row.key))

    def _remove(self, indices: Sequence[int]) -> None:
        if indices:
            self._rows = [self._rows[i] for i in self._cache.remove(indices)]


def draw_tokens(logits: Tensor, temperatures: Tensor, uniform: Tensor) -> Tensor:
    """The tokens where uniform draws fall on the cumulated softmax of logits / T, T above 0.

    Shapes: logits [n, vocabulary], temperatures [n, 1], uniform [n, 1] in [0, 1); result [n]."""
    cumulated = torch.softmax(logits.float() / temperatures, dim=-1).cumsum(dim=-1)
    drawn = torch.searchsorted(cumulated, uniform * cumulated[:, -1:], right=True)
    return drawn.squeeze(1).clamp_max(logits.shape[-1] - 1)


Encoded = tuple[SharedPrefix, Tensor, list[ResidualEdit | None]]
"""What all prompts begin with, embeddings behind it [n, tokens, d_model], edits by row."""


class _ActivationPrompts:
    """The AV's prompt around activations; its beginning is computed once."""

    def __init__(self, av: ActivationVerbalizer) -> None:
        self._av, self.stop_ids = av, frozenset(av.stop_ids)
        self._prefix: SharedPrefix | None = None
        self.decode = av.decode

    def length(self, request: Request) -> int:
        assert isinstance(request, RowRequest), "an AV explains activations"
        return len(self._av.prefix_ids) + len(self._av.tail_ids)

    def encode(self, requests: Sequence[Any]) -> Encoded:
        self._prefix = self._prefix or self._av.shared_prefix()
        activations = torch.stack([request.activation for request in requests])
        embedded = self._av.embed_after_prefix(activations.to(self._av.model.device))
        return self._prefix, embedded, [None] * len(requests)


class _TextPrompts:
    """Texts of the target; what those of one length begin with alike is computed once."""

    def __init__(self, target: Target) -> None:
        self._model, tokenizer = target.model, target.tokenizer
        config = getattr(self._model, "generation_config", None)
        ends = (tokenizer.eos_token_id, *further_stop_ids(tokenizer, config))
        self.stop_ids = frozenset(int(end) for end in ends if end is not None)
        self._tokenizer = tokenizer

    def decode(self, token_ids: Sequence[int]) -> str:
        ids = [i for i in token_ids if i not in self.stop_ids]
        return text_of_ids(self._tokenizer, ids)

    def length(self, request: Request) -> int:
        assert isinstance(request, TextRequest), "a target continues texts"
        return len(request.token_ids)

    def encode(self, requests: Sequence[Any]) -> Encoded:
        texts, edits = [request.token_ids for request in requests], [r.edit for r in requests]
        edited = [position for edit in edits if edit for position in edit.positions]
        shared = 0 if len(texts) == 1 else min([common_prefix_length(texts), *edited])
        ids = torch.tensor([text[shared:] for text in texts], device=self._model.device)
        prefix = SharedPrefix(backbone_of(self._model), texts[0][:shared])
        return prefix, self._model.get_input_embeddings()(ids), edits


@contextmanager
def _edited(model: Any, edits: Sequence[ResidualEdit | None], *, skipped: int) -> Iterator[None]:
    """While active, every row's edit is made in a forward pass behind ``skipped`` tokens."""

    def add(layer: int, hidden: Tensor) -> Tensor:
        changed = hidden.clone()
        for row, edit in enumerate(edits):
            if edit is not None and edit.layer == layer:
                positions = [position - skipped for position in edit.positions]
                changed[row, positions] += edit.offsets.to(hidden)
        return changed

    with ExitStack() as stack:
        for layer in {edit.layer for edit in edits if edit is not None}:
            stack.enter_context(edit_residual(model, layer, partial(add, layer)))
        yield
