"""A vLLM server: ``POST /v1/completions`` with ``prompt_embeds``, base64 of a saved tensor."""

from __future__ import annotations

import base64
import io
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
from gloss.engines.transport import Transport
from gloss.foreign import json_text

PATH = "/v1/completions"
_EMBEDS = "Start it with --enable-prompt-embeds"


class VLLMEngine(EmbeddedPromptEngine):
    """An engine over vLLM, which must run with ``--enable-prompt-embeds``; the samples of an
    activation are one request, whose seed the server counts up.

    New weights need a server that was started with ``VLLM_SERVER_DEV_MODE=1``.
    """

    kind: ClassVar[str] = "vllm"
    remedies = {"enable-prompt-embeds": _EMBEDS, "enable_prompt_embeds": _EMBEDS}
    cache_remedy = "Start it with --no-enable-prefix-caching"
    update_remedy = (
        "Start it with VLLM_SERVER_DEV_MODE=1 in its environment, where it can read the folder"
    )

    def _calls(self, activations: Tensor, sampling: Sampling) -> Iterator[Call]:
        length = {"max_tokens": sampling.max_new_tokens}
        rows = self.embedder.injected_rows(activations)
        for injected, seed in zip(rows, sampling.seeds, strict=True):
            drawn = {"n": sampling.num_draws, "seed": seed} if sampling.temperature > 0 else {}
            body = self._body(injected, sampling.temperature, length | drawn)
            yield Call(PATH, body, sampling.num_draws, self._read)

    def _body(self, injected: Tensor, temperature: float, further: dict[str, Any]) -> bytes:
        embeds, buffer = self.embedder.prompt.clone(), io.BytesIO()
        embeds[self.embedder.site] = injected
        torch.save(embeds, buffer)
        encoded = base64.b64encode(buffer.getvalue()).decode()
        settings = {"return_token_ids": True, **self.settings(temperature), **further}
        return json_text({"prompt_embeds": encoded, **settings}, only_ascii=True).encode()

    def _read(self, answer: Any) -> list[Rollout]:
        try:
            choices = sorted(answer["choices"], key=lambda choice: int(choice["index"]))
            read = [
                ([int(i) for i in c["token_ids"]], c["finish_reason"], c.get("stop_reason"))
                for c in choices
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise not_this_kind(self.url, "vLLM", answer) from error
        return [
            self.rollout(ids, finished=self.ended(reason, repr(reason)), matched=matched)
            for ids, reason, matched in read
        ]

    async def _first_steps(self, transport: Transport, activation: Tensor) -> FirstSteps:
        (injected,) = self.embedder.injected_rows(activation)
        body = self._body(injected, 0.0, {"max_tokens": PROBE_TOKENS, "logprobs": 1})
        answer = await transport.send(PATH, body)
        try:
            choice = answer["choices"][0]
            steps = zip(choice["token_ids"], choice["logprobs"]["token_logprobs"], strict=True)
            return [(int(token), float(logprob)) for token, logprob in steps]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise not_this_kind(self.url, "vLLM", answer) from error

    async def _load_weights(self, transport: Transport, folder: str) -> None:
        call = {"method": "reload_weights", "kwargs": {"weights_path": folder}}
        await transport.send("/collective_rpc", json_text(call, only_ascii=True).encode())
        await transport.send("/reset_prefix_cache", b"")
