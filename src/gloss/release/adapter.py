"""LoRA adapters of an AV or AR: merged into their base by peft."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gloss.contract import SIDECAR_NAME, VALUE_HEAD_NAME, ModelSidecar
from gloss.errors import CheckpointError, MissingExtraError
from gloss.models import ActivationReconstructor, ActivationVerbalizer
from gloss.models.saving import linear_head, read_head
from gloss.release.parts import stream_tensors
from gloss.target_model import (
    UNREADABLE,
    ModelPlace,
    backbone_of,
    blocks_of,
    load_tokenizer,
    load_weights,
    quiet_loading,
    refuse_missing,
    refuse_unsafe_files,
    remove_final_norm,
    truncate_blocks,
)
from gloss.target_model.folder_files import first_line, json_object

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a LoRA adapter and no model of its own."""
    return (folder / _CONFIG).is_file() and not (folder / "model.safetensors").is_file()


def merged_half(
    folder: Path, sidecar: ModelSidecar, *, base: str | None
) -> ActivationVerbalizer | ActivationReconstructor:
    """The half that an adapter makes of its base, as a plain model in float32.

    ``base`` stands before the base that the adapter names. An AR's may be an AR or the whole
    target, which is then truncated.
    Raises: CheckpointError if the adapter is not in safetensors, does not fit its base, or an AR's
    head is nowhere; MissingExtraError without peft."""
    if find_spec("peft") is None:
        raise MissingExtraError("peft", "lora")
    name = base or str(json_object(folder / _CONFIG).get("base_model_name_or_path") or "")
    if not name:
        raise CheckpointError(
            "the adapter names no base", where=folder, remedy="Name it: --base MODEL"
        )
    place = ModelPlace.of(name)
    base_folder = place.folder()
    refuse_unsafe_files(base_folder)
    if not (folder / _WEIGHTS).is_file():
        raise CheckpointError(
            "no adapter weights in safetensors",
            where=folder,
            expected=_WEIGHTS,
            remedy="Save the adapter again with peft",
        )
    model, missing = load_weights(place, head=sidecar.role == "av")
    refuse_missing(missing if sidecar.role == "av" else [], where=name)
    own_tokenizer = (folder / "tokenizer_config.json").is_file()
    tokenizer = load_tokenizer(folder if own_tokenizer else place)
    if sidecar.role == "av":
        return ActivationVerbalizer(_merge(model, folder), tokenizer, sidecar)
    merged = _merge(_truncated(model, sidecar, where=name), folder)
    own_head = (folder / VALUE_HEAD_NAME).is_file()
    head = read_head((folder if own_head else base_folder) / VALUE_HEAD_NAME, sidecar.d_model)
    return ActivationReconstructor(merged, linear_head(head.float()), tokenizer, sidecar)


def _truncated(model: Any, sidecar: ModelSidecar, *, where: str) -> Any:
    backbone = backbone_of(model)
    if sidecar.layer is None:
        raise CheckpointError(
            "no extraction layer recorded", where=SIDECAR_NAME, expected="extraction_layer_index"
        )
    if len(blocks_of(backbone)) < sidecar.layer + 1:
        raise CheckpointError(
            "the base has too few blocks",
            where=where,
            expected=f"at least {sidecar.layer + 1}",
            found=len(blocks_of(backbone)),
        )
    truncate_blocks(backbone, sidecar.layer + 1)
    remove_final_norm(backbone)
    return backbone


def _merge(model: Any, folder: Path) -> Any:
    """peft leaves adapters that fit nothing aside with a warning; here that is an error."""
    from peft import PeftModel

    wanted = {name for name, _ in stream_tensors(folder, _WEIGHTS)}
    try:
        with quiet_loading():
            adapted = PeftModel.from_pretrained(model, str(folder))
        held = {name.replace(".default.", ".") for name in adapted.state_dict()}
        if lost := sorted(wanted - held):
            raise CheckpointError(
                "the adapter does not fit its base",
                where=folder,
                found=f"{len(lost)} of {len(wanted)} weights have no place, such as {lost[0]}",
                remedy="Name the base it was trained on: --base MODEL",
            )
        return adapted.merge_and_unload(safe_merge=True).requires_grad_(False)
    except CheckpointError:
        raise
    except UNREADABLE as error:
        raise CheckpointError(
            f"the adapter cannot be merged ({first_line(error)})", where=folder
        ) from error
