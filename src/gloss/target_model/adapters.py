"""A LoRA adapter in a model: every weight of its file has its place there, or it is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gloss.errors import CheckpointError
from gloss.target_model.architectures import (
    Architecture,
    architecture_of,
    backbone_of,
    blocks_of,
    text_name,
    unwrapped,
)
from gloss.target_model.folder_files import readable
from gloss.target_model.hub import ModelPlace
from gloss.target_model.weight_checks import refuse_not_finite

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PEFT_PREFIX, _ADAPTER_NAME = "base_model.model.", "default"
_LORA = re.compile(r"\.lora_(?:A|B|embedding_A|embedding_B|magnitude_vector)(?:\.|$)")


def add_adapter(model: Any, place: str | Path | ModelPlace, *, of_wrapper: bool = False) -> Any:
    """Puts a LoRA adapter into a model, in place, and returns peft's own model around it.

    Names are taken as peft writes them for the model, its backbone or its multimodal wrapper, also
    behind torch.compile and FSDP. ``of_wrapper`` says that ``model`` is a wrapper's text model:
    what the adapter changes beside it stays aside, as do blocks that an AR has not.
    Raises: CheckpointError for an adapter of another kind, a weight without a place, a place
    without its weight, and for NaN or infinity."""
    folder = ModelPlace.of(place).folder()
    if not (folder / ADAPTER_WEIGHTS).is_file():
        what, remedy = "no adapter weights in safetensors", "Save the adapter again with peft"
        raise CheckpointError(what, where=folder, expected=ADAPTER_WEIGHTS, remedy=remedy)
    from peft import LoraConfig, LoraModel, PeftConfig, set_peft_model_state_dict
    from safetensors.torch import load_file

    with readable("the adapter cannot be read", folder):
        config: Any = PeftConfig.from_pretrained(str(folder))
        file = load_file(folder / ADAPTER_WEIGHTS)
    if not isinstance(config, LoraConfig):
        found = str(config.peft_type)
        raise CheckpointError("not a LoRA adapter", where=folder, expected="LoRA", found=found)
    refuse_not_finite(file, where=folder / ADAPTER_WEIGHTS)
    names = _names_in(model, file, of_wrapper=of_wrapper)
    if not names:
        raise _does_not_fit(folder, file, list(file))
    with readable("the adapter does not fit its base", folder, "Name the model it was trained on"):
        tuner = LoraModel(model, _config_for(model, config, names), _ADAPTER_NAME)
        weights = {names[name]: tensor for name, tensor in file.items() if name in names}
        result: Any = set_peft_model_state_dict(model, weights, adapter_name=_ADAPTER_NAME)
    model._hf_peft_config_loaded = True
    if result.unexpected_keys:
        raise _does_not_fit(folder, file, result.unexpected_keys)
    if empty := [name for name in result.missing_keys if _ADAPTER_NAME in name.split(".")]:
        what, found = "the adapter's file lacks weights", f"no {empty[0]} ({len(empty)} in all)"
        raise CheckpointError(what, where=folder, found=found, remedy="Save it again with peft")
    return tuner


def _does_not_fit(folder: Path, file: Mapping[str, Tensor], lost: list[str]) -> CheckpointError:
    found = f"{len(lost)} of {len(file)} weights have no place, such as {min(lost, default='any')}"
    what, remedy = "the adapter does not fit its base", "Name the model it was trained on"
    return CheckpointError(what, where=folder, found=found, remedy=remedy)


def _names_in(model: Any, file: Mapping[str, Tensor], *, of_wrapper: bool) -> dict[str, str]:
    """Names of the file's weights → their names in the model, without those that stay aside."""
    family, is_bare = architecture_of(model.config.model_type), backbone_of(model) is model
    parts = {place.split(".")[0] for place in (family.embedding, family.blocks, family.final_norm)}
    names = {}
    for name in file:
        plain = text_name(unwrapped(name.removeprefix(_PEFT_PREFIX)))
        inside = plain.removeprefix(f"{family.backbone}.")
        in_backbone = inside.split(".")[0] in parts
        aside = is_bare and _is_behind_an_ar(inside, family, num_blocks=len(blocks_of(model)))
        beside = of_wrapper and not in_backbone and not plain.startswith("lm_head.")
        if not aside and not beside:
            prefix = "" if is_bare or not in_backbone else f"{family.backbone}."
            names[name] = prefix + (inside if in_backbone else plain)
    return names


def _is_behind_an_ar(name: str, family: Architecture, *, num_blocks: int) -> bool:
    """Whether a weight of the whole model stands behind the blocks that are left of it."""
    block = re.match(rf"{re.escape(family.blocks)}\.(\d+)\.", name)
    if block is not None:
        return int(block[1]) >= num_blocks
    return name.startswith((f"{family.final_norm}.", "lm_head.", "embed_out."))


def _config_for(model: Any, config: Any, names: Mapping[str, str]) -> Any:
    """peft's config in the model's own names: its patterns may name the wrapper's modules."""
    if config.modules_to_save is not None:
        held = {name.rpartition(".")[2] for name, _ in model.named_modules()}
        config.modules_to_save = [
            name for name in config.modules_to_save if name.rpartition(".")[2] in held
        ] or None
    pairs = {
        _module(unwrapped(name.removeprefix(_PEFT_PREFIX))): _module(renamed)
        for name, renamed in names.items()
        if _LORA.search(name)
    }
    if all(spelled == name for spelled, name in pairs.items()):
        return config
    from peft.tuners.tuners_utils import check_target_module_exists
    from peft.utils.other import get_pattern_key

    old, new = _prefixes(*next(iter(pairs.items())))
    spelled = {
        name: old + name.removeprefix(new) if name.startswith(new) else name
        for name, module in model.named_modules()
        if hasattr(module, "weight")
    }
    wanted = {name for name, other in spelled.items() if check_target_module_exists(config, other)}
    for pattern in (config.rank_pattern, config.alpha_pattern):
        values = {name: get_pattern_key(list(pattern), other) for name, other in spelled.items()}
        own = {re.escape(name): pattern[key] for name, key in values.items() if key in pattern}
        pattern.clear()
        pattern.update(own)
    config.target_modules = wanted | set(pairs.values()).intersection(spelled)
    config.exclude_modules = config.layers_to_transform = config.layers_pattern = None
    return config


def _module(name: str) -> str:
    """The module that a LoRA weight belongs to."""
    return _LORA.split(name)[0]


def _prefixes(first: str, other: str) -> tuple[str, str]:
    """What stands before the longest end, in whole parts, that two names share."""
    one, two = first.split("."), other.split(".")
    while one and two and one[-1] == two[-1]:
        one, two = one[:-1], two[:-1]
    return "".join(f"{part}." for part in one), "".join(f"{part}." for part in two)
