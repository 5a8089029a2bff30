"""A vLLM server: ``POST /v1/completions`` with ``prompt_embeds``, base64 of a saved tensor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

from torch import Tensor

from gloss.engines.embedded import EmbeddedPromptEngine, FirstSteps
from gloss.engines.encoding import SavedPrompt
from gloss.engines.engine import Rollout
from gloss.engines.remote import PROBE_TOKENS, Call, Sampling, not_this_kind, row_seed
from gloss.engines.transport import Limits, Transport
from gloss.errors import EngineError
from gloss.models import PromptEmbedder

PATH = "/v1/completions"
_EMBEDS = "Start it with --enable-prompt-embeds"


class VLLMEngine(EmbeddedPromptEngine):
    """A rollout engine over vLLM, which must run with ``--enable-prompt-embeds``; the samples of an
    activation are one request.
    """

    kind: ClassVar[str] = "vllm"
    own_remedies = (("enable-prompt-embeds", _EMBEDS), ("enable_prompt_embeds", _EMBEDS))
    cache_remedy = "Start it with --no-enable-prefix-caching"

    def __init__(self, url: str, embedder: PromptEmbedder, *, limits: Limits | None = None) -> None:
        super().__init__(url, embedder, limits=limits)
        self._prompt = SavedPrompt(embedder)

    def _calls(self, activations: Tensor, sampling: Sampling) -> Iterator[Call]:
        for row, injected in enumerate(self.embedder.injected_rows(activations)):
            settings = self._settings(sampling.temperature, sampling.max_new_tokens)
            if sampling.temperature > 0:
                settings |= {"n": sampling.num_draws, "seed": row_seed(sampling.seed, row)}
            yield Call(PATH, self._body(injected, settings), sampling.num_draws, self._read)

    def _body(self, injected_row: Tensor, settings: dict[str, Any]) -> bytes:
        return b"".join(
            (
                b'{"prompt_embeds":"',
                self._prompt.encode(injected_row),
                b'",',
                json.dumps(settings).encode()[1:],
            )
        )

    def _settings(self, temperature: float, max_new_tokens: int) -> dict[str, Any]:
        """Every setting that a server could otherwise take from the model's generation config."""
        return {
            "temperature": temperature,
            "max_tokens": max_new_tokens,
            "return_token_ids": True,
            "skip_special_tokens": False,
            "stop_token_ids": list(self.embedder.stop_ids),
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
        }

    def _read(self, answer: Any) -> list[Rollout]:
        try:
            choices = sorted(answer["choices"], key=lambda choice: int(choice["index"]))
            read = [
                ([int(i) for i in c["token_ids"]], c["finish_reason"], c.get("stop_reason"))
                for c in choices
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise not_this_kind(self.url, "vLLM", answer) from error
        for _, reason, _ in read:
            if reason not in ("stop", "length"):
                raise EngineError(
                    "the server gave up a response",
                    where=self.url,
                    expected="stop or length",
                    found=repr(reason),
                )
        return [
            self.rollout(ids, finished=reason == "stop", matched=matched)
            for ids, reason, matched in read
        ]

    async def _first_steps(self, transport: Transport, activation: Tensor) -> FirstSteps:
        settings = self._settings(0.0, PROBE_TOKENS) | {"logprobs": 1}
        answer = await transport.send(
            PATH, self._body(self.embedder.injected_rows(activation)[0], settings)
        )
        try:
            choice = answer["choices"][0]
            steps = zip(choice["token_ids"], choice["logprobs"]["token_logprobs"], strict=True)
            return [(int(token), float(logprob)) for token, logprob in steps]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise not_this_kind(self.url, "vLLM", answer) from error
