"""After every load: all of the file was used, all of the model was filled, all of it is finite."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gloss.errors import CheckpointError, CorpusError
from gloss.target_model.architectures import Architecture, text_name

_COMPUTED = re.compile(r"(^|\.)(rotary_emb\.inv_freq|attn\.(masked_)?bias|attention\.masked_bias)$")
"""Buffers that older versions of Transformers saved and newer ones compute."""
_HEADS = ("lm_head.", "embed_out.")


def refuse_missing(weights: Sequence[str], *, where: object) -> None:
    """Raises CheckpointError if any weight is missing."""
    if weights:
        found = f"no {weights[0]} ({len(weights)} in all)"
        raise CheckpointError("weights are missing", where=where, found=found)


def refuse_unused(
    weights: Iterable[str], architecture: Architecture, *, head: bool, where: object
) -> None:
    """Raises CheckpointError for weights of the files that the model did not take.

    Aside stay what it computes itself, the LM head of a model loaded without (``head``), and what
    a multimodal wrapper has beside its text model."""
    lost = [name for name in sorted(weights) if not _COMPUTED.search(name)]
    if not head:
        lost = [name for name in lost if not text_name(name).startswith(_HEADS)]
    if architecture.text_keys:
        lost = [name for name in lost if text_name(name) != name or name.startswith("model.layers")]
    if lost:
        what, found = "weights without a place in the model", f"{lost[0]} ({len(lost)} in all)"
        remedy = "Use the config.json that was saved with these weights"
        raise CheckpointError(what, where=where, found=found, remedy=remedy)


def refuse_not_finite(weights: Mapping[str, Tensor], *, where: object) -> None:
    """Raises CheckpointError if a weight holds NaN or infinity; one pass, nothing is copied."""
    bad = [name for name, weight in weights.items() if not _is_finite(weight.detach())]
    if bad:
        what, found = "weights hold NaN or infinity", f"{bad[0]} ({len(bad)} in all)"
        remedy = "Take an earlier checkpoint, as training had diverged"
        if weights[bad[0]].dtype == torch.float16:
            remedy += "; if float16 is too narrow for these weights, load them in bfloat16"
        raise CheckpointError(what, where=where, found=found, remedy=remedy)


def _is_finite(weight: Tensor) -> bool:
    """NaN is the least and the greatest of values that hold one. Quantised ones are not read."""
    is_plain = type(weight) is Tensor and weight.is_floating_point() and weight.dtype.itemsize > 1
    if not is_plain or weight.is_meta or not weight.numel():
        return True
    return bool(torch.isfinite(torch.stack(torch.aminmax(weight))).all())


def refuse_without_row(ids: Iterable[int], model: Any, tokenizer: Any, *, where: object) -> None:
    """Raises CorpusError for a token that was added to the tokenizer and not to the embedding."""
    rows = model.get_input_embeddings().num_embeddings
    if (beyond := next((int(i) for i in ids if i >= rows), None)) is not None:
        token = tokenizer.convert_ids_to_tokens(beyond)
        raise CorpusError(
            "a token without a row in the embedding",
            where=where,
            expected=f"ids below {rows}",
            found=f"{token!r}, id {beyond}",
            remedy="Take this token out of the text, or use the tokenizer of these weights",
        )
