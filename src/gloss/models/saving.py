"""Save and load AV and AR: Hugging Face folders plus ``nla_meta.yaml``, safetensors, atomic."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Unpack

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from gloss.contract import (
    VALUE_HEAD_NAME,
    ModelSidecar,
    read_model_sidecar,
    verify_model_sidecar,
    write_model_sidecar,
)
from gloss.durable import replaced_folder
from gloss.errors import CheckpointError
from gloss.models.ar import ActivationReconstructor
from gloss.models.av import ActivationVerbalizer
from gloss.models.both_majors import write_for_both
from gloss.target_model import (
    UNREADABLE,
    LoadOptions,
    ModelPlace,
    architecture_of,
    backbone_of,
    blocks_of,
    load_target,
    load_tokenizer,
    load_weights,
    quiet_loading,
    refuse_missing,
    remove_final_norm,
    torch_dtype,
)


def save_av(av: ActivationVerbalizer, folder: Path) -> None:
    """Writes the AV as a Hugging Face folder with its tokenizer and sidecar."""
    with replaced_folder(folder) as temporary:
        with quiet_loading():
            av.model.save_pretrained(temporary)
        av.tokenizer.save_pretrained(temporary)
        write_for_both(temporary)
        write_model_sidecar(av.sidecar, temporary)


def save_ar(ar: ActivationReconstructor, folder: Path) -> None:
    """Writes the AR as a Hugging Face folder of K+1 blocks without final norm, its head beside."""
    from huggingface_hub import save_torch_state_dict

    config = ar.backbone.config
    path = architecture_of(config.model_type).backbone
    with replaced_folder(folder) as temporary:
        config.save_pretrained(temporary)
        state = {f"{path}.{name}": tensor for name, tensor in _file_weights(ar.backbone).items()}
        save_torch_state_dict(state, temporary)
        save_file(
            {"weight": ar.head.weight.detach().cpu().contiguous()}, temporary / VALUE_HEAD_NAME
        )
        ar.tokenizer.save_pretrained(temporary)
        write_for_both(temporary)
        write_model_sidecar(ar.sidecar, temporary)


def _file_weights(backbone: Any) -> dict[str, torch.Tensor]:
    """The weights as the family's files name and shape them, which is not always how the modules
    hold them (experts).

    Raises: CheckpointError for a backbone with an adapter.
    """
    from transformers.core_model_loading import revert_weight_conversion

    if getattr(backbone, "_hf_peft_config_loaded", False):
        raise CheckpointError(
            "an AR with an adapter cannot be saved",
            remedy="Merge the adapter into the weights first",
        )
    weights: dict[str, torch.Tensor] = revert_weight_conversion(backbone, backbone.state_dict())
    return {
        name: weight if _owns_storage(weight) else weight.clone()
        for name, weight in weights.items()
    }


def _owns_storage(weight: torch.Tensor) -> bool:
    return weight.untyped_storage().nbytes() == weight.nbytes


def sidecar_of(folder: Path, role: Literal["av", "ar"]) -> ModelSidecar:
    """The sidecar of a checkpoint that must be of this role.

    Raises: SidecarError, CheckpointError if it is the other half.
    """
    sidecar = read_model_sidecar(folder)
    if sidecar.role != role:
        raise CheckpointError(
            "checkpoint of the other half",
            where=folder,
            expected=f"role {role}",
            found=sidecar.role,
        )
    return sidecar


def load_av(name: Path | str | ModelPlace, **options: Unpack[LoadOptions]) -> ActivationVerbalizer:
    """Loads an AV from a folder or the hub and checks its sidecar against the live tokenizer and
    config; see ``LoadOptions``.

    Raises: CheckpointError, SidecarError, MarkerError, ArchitectureError, MissingExtraError.
    """
    folder = _folder_of(name, options)
    sidecar = sidecar_of(folder, "av")
    target = load_target(folder, **options)
    verify_model_sidecar(
        sidecar, tokenizer=target.tokenizer, d_model=target.d_model, num_blocks=target.num_blocks
    )
    return ActivationVerbalizer(target.model, target.tokenizer, sidecar)


def load_ar(
    name: Path | str | ModelPlace, **options: Unpack[LoadOptions]
) -> ActivationReconstructor:
    """Loads an AR from a folder or the hub and checks its sidecar, depth and head; see
    ``LoadOptions``.

    Raises: CheckpointError if weights are missing, of the wrong shape or not finite; SidecarError;
    ArchitectureError; MissingExtraError."""
    folder = _folder_of(name, options)
    sidecar = sidecar_of(folder, "ar")
    tokenizer = load_tokenizer(folder, trust_remote_code=options.get("trust_remote_code", False))
    backbone = _load_backbone(folder, **options)
    d_model, num_blocks = backbone.config.hidden_size, backbone.config.num_hidden_layers
    verify_model_sidecar(sidecar, tokenizer=tokenizer, d_model=d_model, num_blocks=num_blocks)
    weight = read_head(folder / VALUE_HEAD_NAME, d_model)
    if not bool(torch.isfinite(weight).all()):
        raise CheckpointError("the AR's head holds NaN or infinity", where=folder)
    device = next(blocks_of(backbone)[-1].parameters()).device
    head = linear_head(weight.to(device, torch_dtype(options.get("dtype", "float32"))))
    return ActivationReconstructor(backbone, head, tokenizer, sidecar).eval().requires_grad_(False)


def _folder_of(name: Path | str | ModelPlace, options: LoadOptions) -> Path:
    place = ModelPlace.of(name, revision=options.get("revision"))
    return place.folder(with_code=options.get("trust_remote_code", False))


def _load_backbone(folder: Path, **options: Unpack[LoadOptions]) -> Any:
    backbone, missing = load_weights(folder, head=False, **options)
    norm = architecture_of(backbone.config.model_type).final_norm
    refuse_missing([n for n in missing if f".{norm}." not in f".{n}"], where=folder)
    remove_final_norm(backbone)
    return backbone_of(backbone)


def read_head(path: Path, d_model: int) -> torch.Tensor:
    """The AR's head [d_model, d_model].

    Raises: CheckpointError if it is missing, cannot be read, or is of another shape or type.
    """
    if not path.is_file():
        raise CheckpointError(
            "the AR's head is missing",
            where=path,
            remedy="Take the file from the training run: without it other tools use a random head",
        )
    try:
        tensors = load_file(path)
    except UNREADABLE as error:
        raise CheckpointError(f"the AR's head cannot be read ({error})", where=path) from error
    weight = tensors.get("weight")
    if weight is None or len(tensors) > 1 or tuple(weight.shape) != (d_model, d_model):
        raise CheckpointError(
            "wrong AR head",
            where=path,
            expected=f"weight [{d_model}, {d_model}] alone",
            found=", ".join(f"{name} {list(tensors[name].shape)}" for name in sorted(tensors)),
            remedy="Save the head again, without bias",
        )
    if weight.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise CheckpointError(
            "wrong AR head", where=path, expected="16 or 32 bit floats", found=weight.dtype
        )
    return weight


def linear_head(weight: torch.Tensor) -> nn.Linear:
    """An AR's head with this weight [d_model, d_model]."""
    d_model = len(weight)
    head = nn.Linear(d_model, d_model, bias=False, dtype=weight.dtype, device=weight.device)
    head.load_state_dict({"weight": weight})
    return head
