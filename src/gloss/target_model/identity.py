"""Which target it was: a few of its weights and its tokenizer's digest, whatever type is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from gloss.foreign import json_text
from gloss.target_model.architectures import blocks_of
from gloss.target_model.tokenizer_files import ids_of_probes

_TENSORS, _VALUES = 12, 4
_EXACT, _ROUNDED = 1e-6, 2**-7
"""How far values may be apart, relatively: types of 16 bits round."""


def identity_of(model: Any, tokenizer: Any) -> dict[str, Any]:
    """What is recorded of a target: values of some weights by name, their type, the tokenizer's
    digest."""
    entries = json_text(
        [sorted(tokenizer.get_vocab().items()), ids_of_probes(tokenizer)], only_ascii=True
    )
    return {
        "weights": dict(_sampled(model)),
        "dtype": str(model.dtype).removeprefix("torch."),
        "tokenizer": hashlib.blake2b(entries.encode(), digest_size=8).hexdigest(),
    }


def difference(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """What tells a target from the recorded one; None where nothing does."""
    both_exact = {recorded["dtype"], found["dtype"]} == {"float32"}
    tolerance = _EXACT if both_exact else _ROUNDED
    for name, values in recorded["weights"].items():
        others = found["weights"].get(name)
        if others is None or len(others) != len(values):
            return f"no weight {name} like the recorded one"
        for one, other in zip(values, others, strict=True):
            if not abs(one - other) <= tolerance * max(abs(one), abs(other)) + 1e-7:
                return f"{name} holds {other:.6g} where {one:.6g} was recorded"
    if recorded["tokenizer"] != found["tokenizer"]:
        return "its tokenizer gives other ids"
    return None


def _sampled(model: Any) -> Iterator[tuple[str, list[float]]]:
    """Values of matrices of blocks, evenly spread, and of the embedding, which may grow behind."""
    table = model.get_input_embeddings().weight
    yield "embedding", _values(table[: min(len(table), 64)])
    named = [
        (name.replace(".base_layer.", "."), weight)
        for name, weight in blocks_of(model).named_parameters()
    ]
    matrices = [(name, w) for name, w in named if w.ndim > 1 and ".lora_" not in name]
    for name, weight in matrices[:: max(1, len(matrices) // _TENSORS)]:
        yield name, _values(weight)


def _values(weight: Tensor) -> list[float]:
    flat = weight.detach().reshape(-1)
    return [float(value) for value in flat[:: max(1, len(flat) // _VALUES)][:_VALUES]]
