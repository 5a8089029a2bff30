"""One registry of model families: where each keeps its blocks, its embedding and its final norm."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from torch import nn

from gloss.errors import ArchitectureError


@dataclass(frozen=True)
class Architecture:
    """Where a Hugging Face family keeps what Gloss needs; paths are dotted, from the causal LM.

    ``backbone`` is the module without LM head, ``blocks`` its list of decoder blocks and ``final_norm`` the norm behind the last one.
    ``per_block_config`` names config lists with one entry per block, truncated together with the blocks.
    """

    model_type: str
    backbone: str = "model"
    blocks: str = "layers"
    final_norm: str = "norm"
    per_block_config: tuple[str, ...] = ("layer_types",)


_REGISTRY = {architecture.model_type: architecture for architecture in (Architecture("qwen2"), Architecture("llama"))}


def architecture_of(model_type: str) -> Architecture:
    """The registry entry of a Hugging Face ``model_type``.

    Raises: ArchitectureError if the family has no entry.
    """
    if model_type not in _REGISTRY:
        raise ArchitectureError(
            f"model family {model_type!r} is not known",
            expected=f"one of {sorted(_REGISTRY)}",
            remedy=f"Add `Architecture({model_type!r}, backbone=…, blocks=…, final_norm=…)` to gloss/target/architectures.py",
        )
    return _REGISTRY[model_type]


def _family(model: nn.Module) -> Architecture:
    config: Any = model.config
    return architecture_of(config.model_type)


def backbone_of(model: nn.Module) -> Any:
    """The causal LM's body without LM head; a bare backbone is returned as it is."""
    path = _family(model).backbone
    return attrgetter(path)(model) if hasattr(model, path.split(".")[0]) else model


def blocks_of(model: nn.Module) -> nn.ModuleList:
    """The decoder blocks, in order."""
    blocks: nn.ModuleList = attrgetter(_family(model).blocks)(backbone_of(model))
    return blocks


def remove_final_norm(backbone: nn.Module) -> None:
    """Replaces the final norm by the identity, in place."""
    path = _family(backbone).final_norm
    parent, _, name = path.rpartition(".")
    setattr(attrgetter(parent)(backbone) if parent else backbone, name, nn.Identity())


def truncate_blocks(backbone: nn.Module, num_blocks: int) -> None:
    """Keeps the first ``num_blocks`` decoder blocks, in place, and shortens the config with them.

    Raises: ArchitectureError if the model has fewer blocks.
    """
    architecture = _family(backbone)
    blocks = blocks_of(backbone)
    if not 1 <= num_blocks <= len(blocks):
        raise ArchitectureError("cannot truncate", expected=f"1 to {len(blocks)} blocks", found=num_blocks)
    config: Any = backbone.config
    del blocks[num_blocks:]
    config.num_hidden_layers = num_blocks
    for name in architecture.per_block_config:
        values = getattr(config, name, None)
        if values is not None:
            setattr(config, name, list(values[:num_blocks]))
