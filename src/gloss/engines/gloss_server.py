"""A Gloss server: ``POST /v1/rollouts``. Only activations travel; the server holds the AV."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from gloss.engines.engine import Rollout
from gloss.engines.servers import Call, RemoteEngine, Sampling, not_this_kind, probe_activation
from gloss.engines.transport import RefusedRequest, Transport, secret
from gloss.errors import EngineError
from gloss.foreign import json_text

PATH = "/v1/rollouts"
ROWS_PER_REQUEST = 32


class GlossEngine(RemoteEngine):
    """An engine over a Gloss server; activations travel as base64 of little-endian float32."""

    kind: ClassVar[str] = "gloss"

    def _calls(self, activations: Tensor, sampling: Sampling) -> Iterator[Call]:
        for start in range(0, len(activations), ROWS_PER_REQUEST):
            picked = slice(start, start + ROWS_PER_REQUEST)
            yield self._call(activations[picked], sampling, list(sampling.seeds[picked]))

    def _call(self, rows: Tensor, sampling: Sampling, seeds: list[int]) -> Call:
        values = rows.contiguous().numpy().astype("<f4").tobytes()
        body = {
            "activations": base64.b64encode(values).decode(),
            "shape": list(rows.shape),
            "temperature": sampling.temperature,
            "max_new_tokens": sampling.max_new_tokens,
            "seeds": seeds,
            "num_samples": sampling.num_draws,
        }
        return Call(
            PATH,
            json_text(body, only_ascii=True).encode(),
            len(rows) * sampling.num_draws,
            self._read,
        )

    def _read(self, answer: Any) -> list[Rollout]:
        try:
            return [
                Rollout(tuple(int(i) for i in r["token_ids"]), str(r["text"]), bool(r["finished"]))
                for r in answer["rollouts"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise not_this_kind(self.url, "Gloss", answer) from error

    def _key_header(self) -> dict[str, str]:
        return secret()

    async def _probe(self, transport: Transport) -> None:
        call = self._call(probe_activation(self.d_model), Sampling(0.0, 1, [0]), [0])
        await self._responses(transport, call)

    def load_weights(self, folder: Path) -> None:
        """See ``Engine.load_weights``; refused."""
        raise EngineError(
            f"a Gloss server keeps the NLA that it was started with, and cannot load {folder}",
            where=self.url,
            expected="an engine that takes new weights: local, vllm+http://… or sglang+http://…",
        )

    def _explained(self, refusal: RefusedRequest) -> EngineError:
        remedy = "Check that this is a Gloss server, and that it serves this NLA"
        return EngineError(refusal.what, where=self.url, found=refusal.message, remedy=remedy)
