"""An SGLang server: ``POST /generate`` with ``input_embeds``, and never token ids beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

from torch import Tensor

from gloss.engines.embedded import EmbeddedPromptEngine, FirstSteps
from gloss.engines.encoding import JSONPrompt
from gloss.engines.engine import Rollout
from gloss.engines.remote import PROBE_TOKENS, Call, Sampling, not_this_kind, row_seed
from gloss.engines.transport import Limits, Transport
from gloss.errors import EngineError
from gloss.models import PromptEmbedder

PATH = "/generate"
_CACHE = "Start it with --disable-radix-cache"


class SGLangEngine(EmbeddedPromptEngine):
    """A rollout engine over SGLang, which must run with ``--disable-radix-cache``.

    Seeds are honoured by servers started with ``--enable-deterministic-inference``. Every sample is
    a request of its own, as only so it can have its own seed."""

    kind: ClassVar[str] = "sglang"
    own_remedies = (("disable_radix_cache", _CACHE), ("disable-radix-cache", _CACHE))
    cache_remedy = _CACHE

    def __init__(self, url: str, embedder: PromptEmbedder, *, limits: Limits | None = None) -> None:
        super().__init__(url, embedder, limits=limits)
        self._prompt = JSONPrompt(embedder)

    def _calls(self, activations: Tensor, sampling: Sampling) -> Iterator[Call]:
        for row, injected in enumerate(self.embedder.injected_rows(activations)):
            embeds = self._prompt.encode(injected)
            for sample in range(sampling.num_draws):
                settings = self._sampling_params(sampling.temperature, sampling.max_new_tokens)
                if sampling.temperature > 0:
                    settings["sampling_seed"] = row_seed(
                        sampling.seed, row * sampling.num_samples + sample
                    )
                yield Call(PATH, _body(embeds, {"sampling_params": settings}), 1, self._read)

    def _sampling_params(self, temperature: float, max_new_tokens: int) -> dict[str, Any]:
        """Every setting that a server could otherwise have a default of its own for."""
        return {
            "temperature": temperature,
            "max_new_tokens": max_new_tokens,
            "skip_special_tokens": False,
            "stop_token_ids": list(self.embedder.stop_ids),
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
        }

    def _read(self, answer: Any) -> list[Rollout]:
        try:
            one = answer[0] if isinstance(answer, list) else answer
            ids, reason = [int(i) for i in one["output_ids"]], one["meta_info"]["finish_reason"]
            kind = reason["type"]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise not_this_kind(self.url, "SGLang", answer) from error
        if kind not in ("stop", "length"):
            raise EngineError(
                "the server gave up a response",
                where=self.url,
                expected="stop or length",
                found=json.dumps(reason),
            )
        return [self.rollout(ids, finished=kind == "stop", matched=reason.get("matched"))]

    async def _first_steps(self, transport: Transport, activation: Tensor) -> FirstSteps:
        embeds = self._prompt.encode(self.embedder.injected_rows(activation)[0])
        rest = {"sampling_params": self._sampling_params(0.0, PROBE_TOKENS), "return_logprob": True}
        answer = await transport.send(PATH, _body(embeds, rest))
        try:
            steps = answer["meta_info"]["output_token_logprobs"]
            return [(int(token), float(logprob)) for logprob, token, *_ in steps]
        except (KeyError, TypeError, ValueError) as error:
            raise not_this_kind(self.url, "SGLang", answer) from error


def _body(embeds: bytes, rest: dict[str, Any]) -> bytes:
    return b"".join((b'{"input_embeds":', embeds, b",", json.dumps(rest).encode()[1:]))
