"""What a remote engine needs of an AV: tokenizer, sidecar, embeddings of the prompt's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gloss.contract import ModelSidecar, verify_model_sidecar
from gloss.errors import ActivationError, InjectionError
from gloss.models.av import av_prompt, further_stop_ids, pad_id_of, response_text, stop_id_of
from gloss.models.injection import injection_rows
from gloss.models.saving import sidecar_of
from gloss.target_model import (
    ModelPlace,
    load_tokenizer,
    read_config,
    read_embedding_rows,
    torch_dtype,
)


class PromptEmbedder:
    """Builds the embeddings of an AV's prompt around activations, as its embedding module and the
    injection would.

    ``prompt`` [T, d_model] are the embeddings of ``ids``, of which the one at ``site`` is the
    marker's. Its dtype is the one that embeddings are computed and sent in."""

    def __init__(
        self,
        prompt: Tensor,
        ids: Sequence[int],
        tokenizer: Any,
        sidecar: ModelSidecar,
        *,
        stop_ids: Sequence[int],
    ) -> None:
        self.marker, found, self.site = av_prompt(tokenizer, sidecar)
        assert list(ids) == found
        assert prompt.shape == (len(found), sidecar.d_model)
        self.prompt, self.ids, self.tokenizer, self.sidecar = prompt, found, tokenizer, sidecar
        self.stop_ids = tuple(stop_ids)

    @classmethod
    def load(
        cls,
        name: str | Path | ModelPlace,
        *,
        dtype: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> PromptEmbedder:
        """Reads an AV's tokenizer, sidecar and embedding rows, checked against each other; no other
        weight is read.

        ``dtype`` None is that of the file: what a server computes in that takes the checkpoint's
        own.
        Raises: CheckpointError, SidecarError, MarkerError, ArchitectureError, ConfigError for an
        unknown dtype."""
        place = ModelPlace.of(name, revision=revision)
        folder = place.folder(with_code=trust_remote_code, with_weights=False)
        sidecar = sidecar_of(folder, "av")
        tokenizer = load_tokenizer(folder, trust_remote_code=trust_remote_code)
        _, ids, _ = av_prompt(tokenizer, sidecar)
        prompt = read_embedding_rows(
            place,
            ids,
            dtype=None if dtype is None else torch_dtype(dtype),
            trust_remote_code=trust_remote_code,
        )
        config = read_config(folder, trust_remote_code)
        depth = int(config.get_text_config().num_hidden_layers)
        verify_model_sidecar(
            sidecar, tokenizer=tokenizer, d_model=prompt.shape[1], num_blocks=depth
        )
        stops = (
            stop_id_of(tokenizer),
            *further_stop_ids(tokenizer, _generation_config(folder, config)),
        )
        return cls(prompt, ids, tokenizer, sidecar, stop_ids=stops)

    @property
    def d_model(self) -> int:
        """Width of an activation."""
        return self.sidecar.d_model

    def embeddings(self, activations: Tensor) -> Tensor:
        """The prompt's embeddings with each activation injected; [n, d_model] → [n, T, d_model].

        Raises: InjectionError for a wrong width; ActivationError for an activation that is zero,
        not finite, or too large for the dtype."""
        embedded = self.prompt.repeat(len(activations), 1, 1)
        embedded[:, self.site] = self.injected_rows(activations)
        return embedded

    def injected_rows(self, activations: Tensor) -> Tensor:
        """The one row of ``embeddings`` in which two activations differ: [n, d_model] → [n,
        d_model].

        Raises: as ``embeddings``.
        """
        if activations.ndim != 2 or activations.shape[1] != self.d_model:
            raise InjectionError(
                "wrong activations", expected=f"[n, {self.d_model}]", found=tuple(activations.shape)
            )
        rows = injection_rows(activations.cpu(), self.sidecar.injection_scale).to(self.prompt.dtype)
        if not bool(torch.isfinite(rows).all()):
            raise ActivationError(
                f"an injected activation does not fit {str(rows.dtype).removeprefix('torch.')}",
                expected="finite values",
                remedy="Send the embeddings in bfloat16 or float32 (dtype)",
            )
        return rows

    def decode(self, response_ids: Sequence[int]) -> str:
        """The text of one response, without its stop token."""
        return response_text(
            self.tokenizer, response_ids, without=(*self.stop_ids, pad_id_of(self.tokenizer))
        )


def _generation_config(folder: Path, config: Any) -> Any:
    from transformers import GenerationConfig

    if (folder / "generation_config.json").is_file():
        return GenerationConfig.from_pretrained(str(folder))
    return GenerationConfig.from_model_config(config)
