"""Generate explanations in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gloss.engines.decoding import DecodingBatch
from gloss.engines.engine import Rollout, RowRequest
from gloss.models import ActivationVerbalizer, linear_weights_cast_once, load_av
from gloss.seeds import row_seed


class LocalEngine:
    """An engine over a live AV; training steps on the AV are seen by the next call.

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
        rows: Sequence[int] | None = None,
    ) -> list[Rollout]:
        """See ``Engine.generate``. Raises: InjectionError, ActivationError, ArchitectureError."""
        rows = range(len(activations)) if rows is None else rows
        draws = num_samples if temperature else 1
        requests = [
            RowRequest(activation, temperature, max_new_tokens, row_seed(seed, row, sample))
            for activation, row in zip(activations, rows, strict=True)
            for sample in range(draws)
        ]
        found: dict[int, Rollout] = {}
        with linear_weights_cast_once(self.av.model):
            batch = DecodingBatch(self.av, max_rows=self.batch_size)
            for start in range(0, len(requests), self.batch_size):
                for key in range(start, min(start + self.batch_size, len(requests))):
                    batch.add(key, requests[key])
                found |= batch.finish()
        return [found[key] for key in range(len(requests)) for _ in range(num_samples // draws)]

    def load_weights(self, folder: Path) -> None:
        """Puts the weights of an AV's folder into the live model."""
        self.av.model.load_state_dict(load_av(folder).model.state_dict())
