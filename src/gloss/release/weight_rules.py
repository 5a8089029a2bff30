"""Rules of the weights, read one tensor at a time: all there, sound, and the head trained."""

from __future__ import annotations

import re
from collections import Counter

import torch
from torch import Tensor

from gloss.contract import VALUE_HEAD_NAME, Finding, Rule
from gloss.contract.checkpoint_rules import config_integer, warning
from gloss.errors import CheckpointError
from gloss.models.saving import read_head
from gloss.progress import Stage
from gloss.release.parts import Half, stream_tensors
from gloss.target_model import architecture_of, text_name

_FLOATS = ("F32", "BF16", "F16")
_CONFIG_DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
_IDENTITY_TOLERANCE = 1e-6


def _every_block_is_there(half: Half) -> str:
    """Blocks hold the same tensors, but where a mixture of experts has dense blocks between."""
    architecture = architecture_of(str(half.config.get("model_type")))
    pattern = re.compile(rf"(?:^|\.){re.escape(architecture.blocks)}\.(\d+)\.(.+)")
    inside: dict[int, set[str]] = {}
    for match in filter(None, map(pattern.search, _text_weights(half))):
        inside.setdefault(int(match[1]), set()).add(match[2])
    wanted = set(range(config_integer(half, "num_hidden_layers")))
    if set(inside) != wanted:
        lacking, more = sorted(wanted - set(inside)), sorted(set(inside) - wanted)
        what, expected = (
            "the blocks in the files are not those of config.json",
            f"blocks 0 to {len(wanted) - 1}",
        )
        found = f"without {lacking[:5]}" if lacking else f"also {more[:5]}"
        remedy = "Save the model again, and config.json with it"
        raise CheckpointError(what, expected=expected, found=found, remedy=remedy)
    usual = set.union(*inside.values())
    for block, names in inside.items():
        if not architecture.block_index_config and (absent := sorted(usual - names)):
            what = f"block {block} lacks a weight that the others have"
            raise CheckpointError(what, found=f"no {absent[0]}", remedy="Save it again")
    return f"{len(wanted)} blocks of {len(usual)} tensors"


def _text_weights(half: Half) -> list[str]:
    """Names of the text model's weights, without what a multimodal wrapper has beside it."""
    wrapped = [name for name in half.headers if text_name(name) != name]
    return wrapped or list(half.headers)


def _ends_as_an_ar(half: Half) -> str | Finding:
    """Neither the final norm nor the LM head belongs to an AR; Gloss does not read them."""
    family = str(half.config.get("model_type"))
    extra = [name for name in half.headers if not belongs_to_ar(name, family)]
    if extra:
        found, remedy = ", ".join(extra[:3]), "gloss nla convert"
        return warning("weights that an AR has no use for", found=found, remedy=remedy)
    return "no final norm, no LM head"


def belongs_to_ar(name: str, family: str) -> bool:
    """Whether a weight of a family's files is part of an AR: the embedding and the blocks are."""
    norm = re.escape(architecture_of(family).final_norm)
    outside_blocks = not re.search(r"\.\d+\.", name)
    return not (outside_blocks and re.search(rf"(^|\.)({norm}|lm_head|embed_out)\.", name))


def _types_agree(half: Half) -> str | Finding:
    found = Counter(header.dtype for header in half.headers.values())
    odd = sorted(set(found) - set(_FLOATS))
    if odd:
        return warning(
            "weights of a type that not every reader takes",
            expected=f"one of {', '.join(_FLOATS)}",
            found=", ".join(odd),
            remedy="gloss nla convert PLACE OUT --dtype bfloat16",
        )
    named = half.config.get("dtype", half.config.get("torch_dtype"))
    if len(found) > 1 or (named in _CONFIG_DTYPES and _CONFIG_DTYPES[str(named)] not in found):
        shown = ", ".join(f"{count} in {dtype}" for dtype, count in found.items())
        return warning("weights of another type than config.json says", expected=named, found=shown)
    return next(iter(found), "no weights")


def _every_weight_is_finite(half: Half) -> str:
    heads = [VALUE_HEAD_NAME] if VALUE_HEAD_NAME in half.files else []
    count, bad, name = 0, [], f"{half.role.upper()} weights"
    with Stage(name, total=len(half.headers) + len(heads), unit="tensor") as progress:
        for file in (*half.weight_files, *heads):
            for tensor_name, tensor in stream_tensors(half.folder, file):
                count += 1
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    bad.append(f"{tensor_name} in {file}")
                progress.advance()
    if bad:
        what, found = f"{len(bad)} tensors hold NaN or infinity", ", ".join(bad[:3])
        remedy = "Take an earlier checkpoint: training had diverged"
        raise CheckpointError(what, found=found, remedy=remedy)
    return f"{count} tensors"


def _head(half: Half) -> Tensor:
    return read_head(half.folder / VALUE_HEAD_NAME, config_integer(half, "hidden_size"))


def _head_has_its_shape(half: Half) -> str:
    weight = _head(half)
    return f"{list(weight.shape)} in {str(weight.dtype).removeprefix('torch.')}"


def _head_was_trained(half: Half) -> str | Finding:
    try:
        head = _head(half).float()
    except CheckpointError:
        return warning("not looked at: the head cannot be read")
    return describe_head(head)


def describe_head(weight: Tensor) -> str | Finding:
    """Where a head [d, d] stands: AR heads start as the identity and stay near it.

    Raises: CheckpointError for what PyTorch fills a linear layer with (Kaiming uniform: every entry
    within 1/√d, standard deviation 1/√(3d))."""
    d = len(weight)
    if (weight - torch.eye(d)).abs().max() < _IDENTITY_TOLERANCE:
        what = "the head is the identity: the AR has not been trained"
        return warning(what, remedy="Train it, or say so in the card")
    bound, spread = d**-0.5, float(weight.std())
    diagonal = float(weight.diagonal().mean())
    if float(weight.abs().max()) <= bound * 1.001 and abs(spread / bound * 3**0.5 - 1) < 0.05:
        raise CheckpointError(
            "the head looks like PyTorch's random initialisation",
            expected="a matrix near the identity",
            found=f"every entry within 1/√d, standard deviation {spread:.4f}",
            remedy="The trained head was not loaded before this was saved: take it from training",
        )
    if abs(diagonal) < 3 * spread / d**0.5:
        return warning(
            "the head has no trace of the identity that AR heads start from",
            found=f"mean diagonal {diagonal:.3f}, standard deviation {spread:.3f}",
            remedy="Check that it reconstructs: gloss nla validate PLACE --target T",
        )
    distance = float((weight - torch.eye(d)).norm())
    return f"trained: mean diagonal {diagonal:.2f}, {distance:.2f} from the identity"


WEIGHT_RULES = (
    Rule("blocks", _every_block_is_there, ("config",)),
    Rule("end of the AR", _ends_as_an_ar, ("config",), ("ar",)),
    Rule("head", _head_has_its_shape, ("config",), ("ar",)),
    Rule("head trained", _head_was_trained, (), ("ar",)),
    Rule("dtype", _types_agree, ("config",)),
    Rule("finite", _every_weight_is_finite),
)
