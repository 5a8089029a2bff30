"""``convert``: any form of a half → one ordinary Hugging Face folder with its sidecar.

Hugging Face folder, in one file or sharded   weights copied tensor by tensor, cast if asked
sharded training checkpoint (*.distcp)        gathered; config, tokenizer, sidecar beside it
LoRA adapter                                  merged into its base
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from gloss.contract import (
    SIDECAR_NAME,
    VALUE_HEAD_NAME,
    Dialect,
    ModelSidecar,
    read_model_sidecar,
    write_model_sidecar,
)
from gloss.durable import replaced_folder, write_json
from gloss.errors import CheckpointError, ConfigError, MissingExtraError
from gloss.models import ActivationReconstructor, ActivationVerbalizer, save_ar, save_av
from gloss.models.both_majors import write_for_both
from gloss.models.saving import linear_head, read_head
from gloss.release.dcp import is_dcp, model_names, read_dcp
from gloss.release.parts import parts_of, stream_tensors
from gloss.release.weight_rules import belongs_to_ar
from gloss.target_model import (
    ADAPTER_CONFIG,
    ModelPlace,
    add_adapter,
    backbone_of,
    blocks_of,
    load_tokenizer,
    load_weights,
    quiet_loading,
    refuse_missing,
    refuse_outside_links,
    refuse_unsafe_files,
    remove_final_norm,
    torch_dtype,
    truncate_blocks,
)
from gloss.target_model.folder_files import json_object, readable
from gloss.target_model.hub import TEXT_FILES

MAX_SHARD_SIZE = "5GB"
_Half = ActivationVerbalizer | ActivationReconstructor


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """What is changed on the way; None keeps what is there.

    ``base`` is the model under an adapter, ``like`` has config, tokenizer and sidecar where shards
    have none, ``base_checkpoint`` is the id that the sidecar names from now on."""

    dialect: Dialect = "released"
    dtype: str | None = None
    base: str | None = None
    like: Path | None = None
    base_checkpoint: str | None = None


def convert(
    name: str | Path, out: Path, options: ConvertOptions, *, revision: str | None = None
) -> list[Path]:
    """Writes what stands at ``name`` to ``out``, a pair to ``out/av`` and ``out/ar``; the folders.

    Raises: ConfigError if ``out`` holds something, or for an unknown dtype; CheckpointError if the
    source is incomplete, damaged or unsafe; SidecarError; MissingExtraError if an adapter needs
    peft; StorageError."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError("the output folder is not empty", where=out, remedy="Name a new folder")
    if options.dtype is not None:
        torch_dtype(options.dtype)
    path = Path(name).expanduser()
    if is_dcp(path) or _is_adapter(path):
        places = {out: ModelPlace.of_path(path)}
    else:
        parts = parts_of(name, revision=revision)
        places = {out / r if len(parts) > 1 else out: half.place for r, half in parts.items()}
    for folder, place in places.items():
        source = place.folder()
        refuse_outside_links(source)
        _convert_half(source, folder, options)
    return list(places)


def _convert_half(folder: Path, out: Path, options: ConvertOptions) -> None:
    own = (folder / SIDECAR_NAME).is_file() or options.like is None
    sidecar = read_model_sidecar(folder if own else options.like or folder)
    if options.base_checkpoint is not None:
        sidecar = replace(sidecar, base_checkpoint=options.base_checkpoint)
    if _is_adapter(folder):
        _save(_merged_half(folder, sidecar, options.base), out, options)
    elif is_dcp(folder):
        _save(_gathered_half(folder, sidecar, options), out, options)
    else:
        _copy(folder, sidecar, out, options)


def _cast(tensor: torch.Tensor, dtype: torch.dtype, name: str) -> torch.Tensor:
    """A weight in another type; CheckpointError where that is too narrow for it."""
    cast = tensor.to(dtype)
    lost = torch.isfinite(tensor) & ~torch.isfinite(cast)
    if bool(lost.any()):
        what, most = f"{name} does not fit into the type asked for", torch.finfo(cast.dtype).max
        found, remedy = f"{float(tensor[lost].abs().max()):g}", "Use --dtype bfloat16"
        raise CheckpointError(what, expected=f"at most {most:g}", found=found, remedy=remedy)
    return cast


def _refuse_narrow(module: torch.nn.Module, dtype: torch.dtype) -> None:
    for name, weight in module.named_parameters():
        _cast(weight.detach(), dtype, name)


def _save(half: _Half, out: Path, options: ConvertOptions) -> None:
    dtype = None if options.dtype is None else torch_dtype(options.dtype)
    if isinstance(half, ActivationReconstructor):
        if dtype is not None:
            _refuse_narrow(half, dtype)
            half.to(dtype)
            half.backbone.config.dtype = dtype
        save_ar(half, out)
    else:
        if dtype is not None:
            _refuse_narrow(half.model, dtype)
            half.model.to(dtype)
        save_av(half, out)
    if options.dialect != "released":
        write_model_sidecar(half.sidecar, out, dialect=options.dialect)


def _copy(folder: Path, sidecar: ModelSidecar, out: Path, options: ConvertOptions) -> None:
    """Casts and copies a Hugging Face folder; as weights keep their names, no model is built."""
    from huggingface_hub import save_torch_state_dict

    dtype = None if options.dtype is None else torch_dtype(options.dtype)
    config = json_object(folder / "config.json")
    family = str((config.get("text_config") or config).get("model_type"))
    files = sorted(path.name for path in folder.glob("*.safetensors"))

    def weights(*files: str) -> dict[str, torch.Tensor]:
        tensors = (pair for file in files for pair in stream_tensors(folder, file))
        return {
            name: _cast(tensor, dtype, name) if dtype and tensor.is_floating_point() else tensor
            for name, tensor in tensors
            if sidecar.role == "av" or belongs_to_ar(name, family)
        }

    with replaced_folder(out) as temporary:
        state = weights(*(file for file in files if file != VALUE_HEAD_NAME))
        if not state:
            raise CheckpointError("no weights", where=folder, expected="*.safetensors")
        save_torch_state_dict(state, temporary, max_shard_size=MAX_SHARD_SIZE)
        if VALUE_HEAD_NAME in files:
            save_file(weights(VALUE_HEAD_NAME), temporary / VALUE_HEAD_NAME)
        for path in (path for pattern in TEXT_FILES for path in folder.glob(pattern)):
            if path.is_file() and not path.name.endswith(".index.json"):
                shutil.copyfile(path, temporary / path.name)
        if options.dtype is not None:
            write_json(temporary / "config.json", _with_dtype(config, options.dtype))
        write_for_both(temporary, saved_here=False)
        write_model_sidecar(sidecar, temporary, dialect=options.dialect)


def _with_dtype(config: dict[str, Any], dtype: str) -> dict[str, Any]:
    changed = {**config, "dtype": dtype} | (
        {"torch_dtype": dtype} if "torch_dtype" in config else {}
    )
    if isinstance(changed.get("text_config"), dict):
        changed["text_config"] = _with_dtype(changed["text_config"], dtype)
    return changed


def _gathered_half(folder: Path, sidecar: ModelSidecar, options: ConvertOptions) -> _Half:
    """The half whose weights a sharded training checkpoint holds; built empty and filled."""
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    places = [at for at in (folder, options.like) if at is not None]
    described = next((at for at in places if (at / "config.json").is_file()), None)
    if described is None:
        remedy = "Name the folder that training started from: --like FOLDER"
        raise CheckpointError("no config.json beside the shards", where=folder, remedy=remedy)
    refuse_unsafe_files(described)
    tensors, tokenizer = read_dcp(folder), load_tokenizer(described)
    config = AutoConfig.from_pretrained(str(described), trust_remote_code=False)
    loader: Any = AutoModelForCausalLM if sidecar.role == "av" else AutoModel
    with torch.device("meta"):
        model = loader.from_config(config, trust_remote_code=False)
    if sidecar.role == "ar":
        remove_final_norm(backbone_of(model))
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    wanted = {name for name in model.state_dict() if name not in tied}
    found = model_names(tensors, wanted, where=folder)
    model.load_state_dict(found, strict=False, assign=True)
    model.tie_weights()
    model.config.dtype = next(iter(found.values())).dtype
    if sidecar.role == "av":
        return ActivationVerbalizer(model, tokenizer, sidecar)
    head = _head(tensors, sidecar.d_model, folder)
    return ActivationReconstructor(backbone_of(model), head, tokenizer, sidecar)


def _head(tensors: dict[str, torch.Tensor], d_model: int, folder: Path) -> torch.nn.Linear:
    shape, ends = (d_model, d_model), (".head.weight", ".value_head.weight")
    names = [name for name in tensors if f".{name}".endswith(ends)]
    square = [name for name in sorted(names) if tensors[name].shape == shape]
    if len(square) != 1:
        raise CheckpointError(
            "the AR's head is not in this checkpoint",
            where=folder,
            expected=f"head.weight or value_head.weight {list(shape)}",
            found=", ".join(square) or "nothing",
        )
    return linear_head(tensors[square[0]])


def _is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / "model.safetensors").is_file()


def _merged_half(folder: Path, sidecar: ModelSidecar, base: str | None) -> _Half:
    """The half that an adapter makes of its base (for an AR: or of the target), in float32."""
    if find_spec("peft") is None:
        raise MissingExtraError("peft", "lora")
    name = base or str(json_object(folder / ADAPTER_CONFIG).get("base_model_name_or_path") or "")
    if not name:
        remedy = "Name it: --base MODEL"
        raise CheckpointError("the adapter names no base", where=folder, remedy=remedy)
    place = ModelPlace.of(name)
    base_folder = place.folder()
    model, missing = load_weights(place, head=sidecar.role == "av")
    family, is_av = model.config.model_type, sidecar.role == "av"
    needed = [weight for weight in missing if is_av or belongs_to_ar(weight, family)]
    refuse_missing(needed, where=name)
    own_tokenizer = (folder / "tokenizer_config.json").is_file()
    tokenizer = load_tokenizer(folder if own_tokenizer else place)
    if sidecar.role == "av":
        return ActivationVerbalizer(_merge(model, folder, base_folder), tokenizer, sidecar)
    merged = _merge(_truncated(model, sidecar, where=name), folder, base_folder)
    own_head = (folder / VALUE_HEAD_NAME).is_file()
    head = read_head((folder if own_head else base_folder) / VALUE_HEAD_NAME, sidecar.d_model)
    return ActivationReconstructor(merged, linear_head(head.float()), tokenizer, sidecar)


def _truncated(model: Any, sidecar: ModelSidecar, *, where: str) -> Any:
    backbone = backbone_of(model)
    if sidecar.layer is None:
        what, expected = "no extraction layer recorded", "extraction_layer_index"
        raise CheckpointError(what, where=SIDECAR_NAME, expected=expected)
    if (found := len(blocks_of(backbone))) < sidecar.layer + 1:
        what, expected = "the base has too few blocks", f"at least {sidecar.layer + 1}"
        raise CheckpointError(what, where=where, expected=expected, found=found)
    truncate_blocks(backbone, sidecar.layer + 1)
    remove_final_norm(backbone)
    return backbone


def _merge(model: Any, folder: Path, base: Path) -> Any:
    config = json_object(base / "config.json")
    with quiet_loading():
        adapted = add_adapter(model, folder, of_wrapper="text_config" in config)
    with readable("the adapter cannot be merged", folder):
        merged = adapted.merge_and_unload(safe_merge=True).requires_grad_(False)
    # Else Transformers would look for an adapter to save.
    merged._hf_peft_config_loaded = False
    return merged
