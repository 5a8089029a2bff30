"""``config.json`` and ``tokenizer_config.json`` as Transformers 4 and 5 read them alike.

5 writes keys that 4 leaves aside without a word (``rope_parameters``: 4 then takes the family's own
default) or stumbles over (``TokenizersBackend``, a list of ``extra_special_tokens``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gloss.durable import write_json
from gloss.target_model.folder_files import json_object

PLAIN_TOKENIZER = "PreTrainedTokenizerFast"
_CONFIG, _TOKENIZER_CONFIG, _TOKENIZER = "config.json", "tokenizer_config.json", "tokenizer.json"
_ONLY_IN_5 = ("TokenizersBackend", "PythonBackend")
_NOT_SCALING = ("rope_theta", "partial_rotary_factor")
_LOADED_FROM = ("backend", "is_local", "local_files_only")
_OWN_NAMES = {"gpt_neox": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}}


def write_for_both(folder: Path, *, saved_here: bool = True) -> None:
    """Rewrites the configs in a folder so that both majors read them alike.

    A tokenizer that was ``saved_here`` does what its ``tokenizer.json`` says, whatever its class;
    of one that was copied the class is kept, but for those that 4 does not have."""
    if (config := folder / _CONFIG).is_file():
        write_json(config, config_for_both(json_object(config)))
    tokenizer = folder / _TOKENIZER_CONFIG
    if tokenizer.is_file() and (folder / _TOKENIZER).is_file():
        both = tokenizer_config_for_both(json_object(tokenizer))
        if saved_here:
            both |= {"tokenizer_class": PLAIN_TOKENIZER}
        write_json(tokenizer, both)


def config_for_both(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with version 4's keys beside version 5's, of a wrapper's text model too."""
    both = dict(config) | older_keys(config)
    if "dtype" in both:
        both["torch_dtype"] = both["dtype"]
    if isinstance(inner := both.get("text_config"), dict):
        both["text_config"] = config_for_both(inner)
    return both


def older_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """What version 4 must find in a config to compute what ``rope_parameters`` and the number of
    experts say; empty where the config has neither."""
    family, keys = str(config.get("model_type")), dict[str, Any]()
    if family == "qwen3_moe" and "num_local_experts" in config:
        keys["num_experts"] = config["num_local_experts"]
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict) or not rope:
        return keys
    by_layer = any(isinstance(value, dict) for value in rope.values())
    whole = (rope.get("full_attention") or {}) if by_layer else rope
    names = _OWN_NAMES.get(family, {})
    keys |= {names.get(name, name): whole[name] for name in _NOT_SCALING if name in whole}
    if family == "gemma3_text" and "rope_theta" in (local := rope.get("sliding_attention") or {}):
        keys["rope_local_base_freq"] = local["rope_theta"]
    return keys | {"rope_scaling": _scaling(family, whole)}


def _scaling(family: str, rope: Mapping[str, Any]) -> dict[str, Any] | None:
    """None is written too: gpt-oss scales where nothing is said."""
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if family == "phi3":
        return {"type": kind, **{n: rope[n] for n in ("short_factor", "long_factor") if n in rope}}
    return {name: value for name, value in rope.items() if name not in _NOT_SCALING}


def tokenizer_config_for_both(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a tokenizer that has a ``tokenizer.json``, in words that both majors know."""
    both = {name: value for name, value in config.items() if name not in _LOADED_FROM}
    both.setdefault("model_input_names", ["input_ids", "attention_mask"])
    if isinstance(both.get("extra_special_tokens"), list):
        both["additional_special_tokens"] = both.pop("extra_special_tokens")
    if isinstance(named := both.get("model_specific_special_tokens"), dict):
        both["extra_special_tokens"] = named
    if both.get("tokenizer_class") in _ONLY_IN_5:
        both["tokenizer_class"] = PLAIN_TOKENIZER
    return both


def lost_in_4(folder: Path) -> list[str]:
    """What Transformers 4 would read otherwise, or not at all; empty for a good folder."""
    config = json_object(folder / _CONFIG)
    inner = config.get("text_config")
    text = inner if isinstance(inner, dict) else config
    wanted = older_keys(text)
    lost = [f"{_CONFIG}: {name}" for name, value in wanted.items() if text.get(name) != value]
    if (folder / _TOKENIZER_CONFIG).is_file():
        tokenizer = json_object(folder / _TOKENIZER_CONFIG)
        if tokenizer.get("tokenizer_class") in _ONLY_IN_5:
            lost.append(f"{_TOKENIZER_CONFIG}: tokenizer_class {tokenizer['tokenizer_class']}")
        if isinstance(tokenizer.get("extra_special_tokens"), list):
            lost.append(f"{_TOKENIZER_CONFIG}: a list of extra_special_tokens")
    return lost
