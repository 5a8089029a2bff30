"""One registry of model families: where each keeps what Gloss needs, and what is special in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from gloss.errors import ArchitectureError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Architecture:
    """What Gloss needs to know about a Hugging Face family; paths are dotted, from the causal LM.

    ``backbone`` is the module without LM head; from there ``embedding`` is the table of token
    embeddings, ``blocks`` the decoder blocks and ``final_norm`` the norm behind the last one.
    ``scales_embedding``: the embedding module multiplies its rows by √d. ``per_block_config`` names
    config lists with one entry per block, ``block_index_config`` lists of block numbers; both are
    truncated with the blocks. ``logit_softcap`` names the config value c of a family whose logits
    are c·tanh(logits / c). ``learned_positions``: no token can stand beyond the table of positions.
    ``text_keys`` belong to a multimodal wrapper, which is loaded as its text model alone: (pattern,
    replacement) from the wrapper's names of weights to the text model's."""

    model_type: str
    backbone: str = "model"
    embedding: str = "embed_tokens"
    scales_embedding: bool = False
    blocks: str = "layers"
    final_norm: str = "norm"
    per_block_config: tuple[str, ...] = ("layer_types",)
    block_index_config: tuple[str, ...] = ()
    logit_softcap: str | None = None
    learned_positions: bool = False
    text_keys: tuple[tuple[str, str], ...] = ()


_TEXT_KEYS = (
    (r"^language_model\.lm_head", "lm_head"),
    (r"^(?:model\.)?language_model\.(?:model\.)?", "model."),
)

_REGISTRY = {
    architecture.model_type: architecture
    for architecture in (
        Architecture("llama"),
        Architecture("qwen2"),
        Architecture("qwen3"),
        Architecture("gemma", scales_embedding=True),
        Architecture("gemma2", scales_embedding=True, logit_softcap="final_logit_softcapping"),
        Architecture("gemma3_text", scales_embedding=True, logit_softcap="final_logit_softcapping"),
        Architecture("gemma3", "model.language_model", scales_embedding=True, text_keys=_TEXT_KEYS),
        Architecture("mistral"),
        Architecture("phi", final_norm="final_layernorm"),
        Architecture("phi3"),
        Architecture(
            "gpt2", "transformer", "wte", blocks="h", final_norm="ln_f", learned_positions=True
        ),
        Architecture("gpt_neox", "gpt_neox", "embed_in", final_norm="final_layer_norm"),
        Architecture("olmo2"),
        Architecture("olmo3"),
        Architecture("mixtral"),
        Architecture("qwen3_moe", block_index_config=("mlp_only_layers",)),
        Architecture("gpt_oss"),
    )
}


_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module")


def text_name(name: str) -> str:
    """A weight's name in the text model of a multimodal wrapper; others stay as they are."""
    for pattern, replacement in _TEXT_KEYS:
        if re.search(pattern, name):
            return re.sub(pattern, replacement, name)
    return name


def unwrapped(name: str) -> str:
    """A name without what torch.compile, FSDP and DDP add."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def known_families() -> tuple[str, ...]:
    """The ``model_type`` of every family in the registry, in order."""
    return tuple(_REGISTRY)


def architecture_of(model_type: str, *, config: Any = None) -> Architecture:
    """The registry entry of a ``model_type``, or ArchitectureError with the entry to add."""
    if model_type not in _REGISTRY:
        raise ArchitectureError(
            f"model family {model_type!r} is not known",
            expected=f"one of {sorted(_REGISTRY)}",
            remedy=f"Add `{_entry_to_add(model_type, config)}` to"
            " gloss/target_model/architectures.py; docs/add_an_architecture.md says how to test it",
        )
    return _REGISTRY[model_type]


def _entry_to_add(model_type: str, config: Any) -> str:
    """A guess from the family's modules where Transformers can build it, else names to fill in."""
    blank = f"Architecture({model_type!r}, backbone=…, blocks=…, final_norm=…)"
    if config is None:
        return blank
    import torch
    from transformers import AutoModelForCausalLM

    loader: Any = AutoModelForCausalLM
    try:
        with torch.device("meta"):
            model: Any = loader.from_config(config, trust_remote_code=False)
    except (ValueError, ImportError, AttributeError, TypeError, OSError):
        return blank
    depth = getattr(config.get_text_config(), "num_hidden_layers", None)
    modules, kind = model.named_modules(), torch.nn.ModuleList
    lists = [name for name, m in modules if isinstance(m, kind) and len(m) == depth]
    if not lists or "." not in lists[0]:
        return blank
    backbone, _, blocks = lists[0].rpartition(".")
    inside = model.get_submodule(backbone).named_children()
    norms = [name for name, module in inside if "norm" in type(module).__name__.lower()]
    found = {"backbone": backbone, "blocks": blocks, "final_norm": norms[-1] if norms else "…"}
    usual = Architecture(model_type)
    named = [f"{n}={value!r}" for n, value in found.items() if value != getattr(usual, n)]
    return f"Architecture({', '.join([repr(model_type), *named])})"


def _without_adapter(model: Any) -> Any:
    is_peft = hasattr(model, "peft_config") and hasattr(model, "get_base_model")
    return model.get_base_model() if is_peft else model


def _family(model: nn.Module) -> Architecture:
    config: Any = model.config
    return architecture_of(config.model_type, config=config)


def backbone_of(model: nn.Module) -> Any:
    """The causal LM's body without LM head; a bare backbone is returned as it is."""
    path, plain = _family(model).backbone, _without_adapter(model)
    return attrgetter(path)(plain) if hasattr(plain, path.split(".")[0]) else plain


def blocks_of(model: nn.Module) -> nn.ModuleList:
    """The decoder blocks, in order."""
    backbone = backbone_of(model)
    blocks: nn.ModuleList = attrgetter(_family(backbone).blocks)(backbone)
    return blocks


def output_logits(model: nn.Module, hidden: Tensor) -> Tensor:
    """The model's own logits of last hidden states; [..., d] → [..., vocabulary]."""
    import torch

    logits: Tensor = _without_adapter(model).get_output_embeddings()(hidden)
    name = _family(model).logit_softcap
    config: Any = model.config
    cap = getattr(config.get_text_config(), name, None) if name else None
    return logits if cap is None else torch.tanh(logits / cap) * cap


def check_positions(model: nn.Module, num_tokens: int) -> None:
    """Raises ArchitectureError if ``num_tokens`` tokens do not fit a learned table of positions."""
    config: Any = model.config
    longest = getattr(config, "max_position_embeddings", None)
    if _family(model).learned_positions and longest is not None and num_tokens > longest:
        what, most = "too many tokens for the model's table of positions", f"at most {longest}"
        remedy = "Use shorter texts, or generate fewer tokens"
        raise ArchitectureError(what, expected=most, found=num_tokens, remedy=remedy)


def remove_final_norm(backbone: nn.Module) -> None:
    """Replaces the final norm by the identity, in place."""
    from torch import nn

    path = _family(backbone).final_norm
    parent, _, name = path.rpartition(".")
    setattr(attrgetter(parent)(backbone) if parent else backbone, name, nn.Identity())


def truncate_blocks(backbone: nn.Module, num_blocks: int) -> None:
    """Keeps the first blocks, in place, and shortens the config; ArchitectureError if too few."""
    architecture, blocks = _family(backbone), blocks_of(backbone)
    if not 1 <= num_blocks <= len(blocks):
        expected = f"1 to {len(blocks)} blocks"
        raise ArchitectureError("cannot truncate", expected=expected, found=num_blocks)
    config: Any = backbone.config
    del blocks[num_blocks:]
    config.num_hidden_layers = num_blocks
    for name in architecture.per_block_config:
        if (values := getattr(config, name, None)) is not None:
            setattr(config, name, list(values[:num_blocks]))
    for name in architecture.block_index_config:
        if (numbers := getattr(config, name, None)) is not None:
            setattr(config, name, [number for number in numbers if number < num_blocks])
