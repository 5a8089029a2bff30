"""An SGLang server: ``POST /generate`` with ``input_embeds``, and never token ids beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from gloss.engines.engine import Rollout
from gloss.engines.servers import (
    PROBE_TOKENS,
    Call,
    EmbeddedPromptEngine,
    FirstSteps,
    Sampling,
    not_this_kind,
)
from gloss.engines.transport import RefusedRequest, Transport
from gloss.foreign import json_text
from gloss.models import PromptEmbedder

PATH = "/generate"
_CACHE = "Start it with --disable-radix-cache"
_DIGITS = {torch.float32: 9, torch.float16: 5, torch.bfloat16: 4}
"""Significant decimal digits from which every value of a dtype is read back exactly."""


class SGLangEngine(EmbeddedPromptEngine):
    """An engine over SGLang, which must run with ``--disable-radix-cache``.

    Seeds are honoured by servers started with ``--enable-deterministic-inference``. Every sample is
    a request of its own, as only so it can have its own seed."""

    kind: ClassVar[str] = "sglang"
    remedies = {"disable_radix_cache": _CACHE, "disable-radix-cache": _CACHE}
    cache_remedy = _CACHE
    update_remedy = "It must be able to read the folder by the same path"

    def _calls(self, activations: Tensor, sampling: Sampling) -> Iterator[Call]:
        prompt = JSONPrompt(self.embedder)
        rows = self.embedder.injected_rows(activations)
        settings = self.settings(sampling.temperature) | {"max_new_tokens": sampling.max_new_tokens}
        for injected, seed in zip(rows, sampling.seeds, strict=True):
            embeds = prompt.encode(injected)
            for sample in range(sampling.num_draws):
                drawn = {"sampling_seed": seed + sample} if sampling.temperature > 0 else {}
                yield Call(PATH, _body(embeds, settings | drawn), 1, self._read)

    def _read(self, answer: Any) -> list[Rollout]:
        try:
            one = answer[0] if isinstance(answer, list) else answer
            ids, reason = [int(i) for i in one["output_ids"]], one["meta_info"]["finish_reason"]
            kind = reason["type"]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise not_this_kind(self.url, "SGLang", answer) from error
        finished = self.ended(kind, json_text(reason, only_ascii=True))
        return [self.rollout(ids, finished=finished, matched=reason.get("matched"))]

    async def _first_steps(self, transport: Transport, activation: Tensor) -> FirstSteps:
        embeds = JSONPrompt(self.embedder).encode(self.embedder.injected_rows(activation)[0])
        settings = self.settings(0.0) | {"max_new_tokens": PROBE_TOKENS}
        answer = await transport.send(PATH, _body(embeds, settings, return_logprob=True))
        try:
            steps = answer["meta_info"]["output_token_logprobs"]
            return [(int(token), float(logprob)) for logprob, token, *_ in steps]
        except (KeyError, TypeError, ValueError) as error:
            raise not_this_kind(self.url, "SGLang", answer) from error

    async def _load_weights(self, transport: Transport, folder: str) -> None:
        body = json_text({"model_path": folder, "flush_cache": True}).encode()
        answer = await transport.send("/update_weights_from_disk", body)
        if not answer["success"]:
            raise RefusedRequest(self.url, 200, str(answer["message"]))


class JSONPrompt:
    """The prompt's embeddings as a JSON list of rows, of which only the injected one is new."""

    def __init__(self, embedder: PromptEmbedder) -> None:
        site, rows = embedder.site, [_json_row(row) for row in embedder.prompt]
        self._before = b"[" + b"".join(row + b"," for row in rows[:site])
        self._after = b"".join(b"," + row for row in rows[site + 1 :]) + b"]"

    def encode(self, injected_row: Tensor) -> bytes:
        """The text for one injected row [d_model], whose values are read back exactly."""
        return b"".join((self._before, _json_row(injected_row), self._after))


def _json_row(row: Tensor) -> bytes:
    number = f"%.{_DIGITS[row.dtype]}g,"
    text = (number * len(row)) % tuple(row.tolist())
    return b"[" + text[:-1].replace("e-0", "e-").replace("e+0", "e").encode() + b"]"


def _body(embeds: bytes, sampling_params: dict[str, Any], **further: bool) -> bytes:
    rest = json_text({"sampling_params": sampling_params, **further}, only_ascii=True).encode()
    return b"".join((b'{"input_embeds":', embeds, b",", rest[1:]))
