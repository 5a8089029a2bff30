"""The activation reconstructor (AR): K+1 blocks of the target and a linear head read a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gloss.contract import ModelSidecar, ar_ids, ar_prompt_ids, check_ar_prompt
from gloss.errors import CheckpointError, ConfigError, CorpusError, SidecarError
from gloss.models.prefix import (
    SharedPrefix,
    common_prefix_length,
    fitted_chunks,
    hidden_after_prefix,
    right_pad,
)
from gloss.target_model import (
    backbone_of,
    kernel_for_short_rows,
    last_block_at,
    refuse_without_row,
    remove_final_norm,
    truncate_blocks,
)

CPU_CHUNK_TOKENS = 2048
"""Most padded tokens in one pass of scoring on a CPU, so that they stay in its caches."""


def _check_text(text: object, place: int) -> None:
    """Raises ConfigError for anything but a text in Unicode: formatted into the prompt, it would be
    scored silently."""
    if not isinstance(text, str):
        raise ConfigError(
            f"explanation {place} is not a text", expected="str", found=type(text).__name__
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"explanation {place} holds half a character",
            expected="Unicode text",
            found=f"a lone surrogate at {error.start}",
        ) from error


PREFIX_PAYS = 8
"""Rows longer than this many times what they share run whole: behind a prefix a mask costs more."""


class ActivationReconstructor(nn.Module):
    """An AR: a truncated backbone without final norm, a ``head`` [d, d] that starts as the
    identity, tokenizer and sidecar.

    Raises: SidecarError if the sidecar has no AR template, CheckpointError if the tokenizer has
    nothing to pad with."""

    def __init__(
        self, backbone: Any, head: nn.Linear, tokenizer: Any, sidecar: ModelSidecar
    ) -> None:
        super().__init__()
        if sidecar.ar_template is None:
            raise SidecarError(
                "an AR needs an AR template", expected="prompt_templates.ar", found="none"
            )
        self.backbone, self.head = backbone, head
        self.tokenizer, self.sidecar = tokenizer, sidecar
        pad = (
            tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        )
        if pad is None:
            raise CheckpointError(
                "the AR's tokenizer has no end-of-text token", expected="eos_token or pad_token"
            )
        self.pad_id = int(pad)

    @classmethod
    def from_target(
        cls, model: Any, layer: int, tokenizer: Any, sidecar: ModelSidecar
    ) -> ActivationReconstructor:
        """The AR before training: the target's blocks 0 … ``layer`` (taken over, not copied) and an
        identity head."""
        backbone = backbone_of(model)
        truncate_blocks(backbone, layer + 1)
        remove_final_norm(backbone)
        d_model = backbone.config.hidden_size
        head = nn.Linear(d_model, d_model, bias=False, dtype=backbone.dtype, device=backbone.device)
        nn.init.eye_(head.weight)
        return cls(backbone, head, tokenizer, sidecar)

    def encode(self, explanations: Sequence[str]) -> list[list[int]]:
        """Token ids of the AR prompt of each explanation, with one BOS where the tokenizer has one.

        Raises: ConfigError for an explanation that is no text.
        """
        template = self.sidecar.ar_template
        assert template is not None
        for place, text in enumerate(explanations):
            _check_text(text, place)
        rows = [ar_prompt_ids(self.tokenizer, template, text) for text in explanations]
        return self._readable(rows)

    def _readable(self, rows: list[list[int]]) -> list[list[int]]:
        """The encoded prompts. Raises: CorpusError for one that the backbone cannot read."""
        config = self.backbone.config.get_text_config()
        longest = getattr(config, "max_position_embeddings", None)
        for place, ids in enumerate(rows):
            where = f"explanation {place}"
            refuse_without_row(ids, self.backbone, self.tokenizer, where=where)
            if longest is not None and len(ids) > longest:
                what, remedy = "too long for the AR", "Shorten it"
                expected = f"at most {longest} tokens with the prompt around it"
                raise CorpusError(
                    what, where=where, expected=expected, found=len(ids), remedy=remedy
                )
        return rows

    def encode_prompts(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of AR prompts that already hold their explanation, as datasets store them.

        Raises: TemplateError for a prompt of another template: the AR would learn to read what it
        is never given again."""
        template = self.sidecar.ar_template
        assert template is not None
        for prompt in prompts:
            check_ar_prompt(template, prompt)
        return self._readable([ar_ids(self.tokenizer, template, prompt) for prompt in prompts])

    def reconstruct_ids(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Reconstructed activations of encoded prompts, read at each last real token; [n, d_model],
        any norm.

        The tokens that all rows begin with run once, where they are more than a small part; padding
        stands on the right."""
        shared, longest = common_prefix_length(rows), max(len(row) for row in rows)
        with kernel_for_short_rows(self.backbone, longest) as mask_is_free:
            if shared * PREFIX_PAYS < longest and not mask_is_free:
                shared = 0
            prefix = SharedPrefix(self.backbone, rows[0][:shared])
            ids, mask = right_pad([row[shared:] for row in rows], self.pad_id, self.backbone.device)
            last = mask.sum(dim=1) - 1
            with last_block_at(self.backbone, last):
                hidden = hidden_after_prefix(
                    self.backbone, prefix, self.backbone.get_input_embeddings()(ids)
                )
        output: Tensor = self.head(hidden[torch.arange(len(rows), device=hidden.device), last])
        return output

    def forward(self, explanations: Sequence[str]) -> Tensor:
        """Reconstructed activations of explanation texts, with gradients; [n, d_model]."""
        return self.reconstruct_ids(self.encode(explanations))

    @torch.inference_mode()
    def reconstruct(self, explanations: Sequence[str], *, batch_size: int = 256) -> Tensor:
        """Reconstructed activations of explanation texts, float32 on the CPU, in batches of like
        length; [n, d_model]."""
        return self.reconstruct_encoded(self.encode(explanations), batch_size=batch_size)

    @torch.inference_mode()
    def reconstruct_encoded(
        self, rows: Sequence[Sequence[int]], *, batch_size: int = 256
    ) -> Tensor:
        """As ``reconstruct``, from encoded prompts."""
        vectors = torch.empty(len(rows), self.head.out_features)
        most = CPU_CHUNK_TOKENS if self.backbone.device.type == "cpu" else None
        for chunk in fitted_chunks([len(row) for row in rows], batch_size, max_tokens=most):
            vectors[chunk] = self.reconstruct_ids([rows[i] for i in chunk]).float().cpu()
        return vectors
