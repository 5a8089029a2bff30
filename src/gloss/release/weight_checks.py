"""Checks of the weights, read one tensor at a time: which are there, their types, NaN, and whether
the head was trained.
"""

from __future__ import annotations

import re
from collections import Counter

import torch
from torch import Tensor

from gloss.contract import VALUE_HEAD_NAME
from gloss.errors import CheckpointError
from gloss.progress import Stage
from gloss.release.findings import Check, Doubt, Half
from gloss.release.tensors import TensorHeader, file_headers, stream_tensors, tensor_headers
from gloss.target_model import ModelPlace, architecture_of

_FLOATS = ("F32", "BF16", "F16")
_CONFIG_DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
_IDENTITY_TOLERANCE = 1e-6


def _headers(half: Half) -> dict[str, TensorHeader]:
    return tensor_headers(ModelPlace.of_path(half.folder), half.files)


def _every_block_is_there(half: Half) -> str:
    """Blocks of one family hold the same tensors, but where a mixture of experts has dense blocks
    between.
    """
    architecture = architecture_of(str(half.config.get("model_type")))
    pattern = re.compile(rf"(?:^|\.){re.escape(architecture.blocks)}\.(\d+)\.(.+)")
    inside: dict[int, set[str]] = {}
    for match in filter(None, map(pattern.search, _headers(half))):
        inside.setdefault(int(match[1]), set()).add(match[2])
    wanted = set(range(half.num_blocks))
    if set(inside) != wanted:
        lacking, more = sorted(wanted - set(inside)), sorted(set(inside) - wanted)
        raise CheckpointError(
            "the blocks in the files are not those of config.json",
            expected=f"blocks 0 to {half.num_blocks - 1}",
            found=f"without {lacking[:5]}" if lacking else f"also {more[:5]}",
            remedy="Save the model again, and config.json with it",
        )
    usual = set.union(*inside.values())
    if not architecture.block_index_config:
        for block, names in inside.items():
            if absent := sorted(usual - names):
                raise CheckpointError(
                    f"block {block} lacks a weight that the others have",
                    found=f"no {absent[0]}",
                    remedy="Save it again",
                )
    return f"{half.num_blocks} blocks of {len(usual)} tensors"


def _ends_as_an_ar(half: Half) -> str:
    """Neither the final norm nor the LM head belongs to an AR; Gloss does not read them."""
    family = str(half.config.get("model_type"))
    extra = [name for name in _headers(half) if not belongs_to_ar(name, family)]
    if extra:
        raise Doubt(
            "weights that an AR has no use for",
            found=", ".join(extra[:3]),
            remedy="gloss checkpoint convert",
        )
    return "no final norm, no LM head"


def belongs_to_ar(name: str, family: str) -> bool:
    """Whether a weight of a family's files is part of an AR: the embedding and the blocks are.

    Raises: ArchitectureError for an unknown family.
    """
    norm = re.escape(architecture_of(family).final_norm)
    outside_blocks = not re.search(r"\.\d+\.", name)
    return not (outside_blocks and re.search(rf"(^|\.)({norm}|lm_head|embed_out)\.", name))


def _types_agree(half: Half) -> str:
    found = Counter(header.dtype for header in _headers(half).values())
    odd = sorted(set(found) - set(_FLOATS))
    if odd:
        raise Doubt(
            "weights of a type that not every reader takes",
            expected=f"one of {', '.join(_FLOATS)}",
            found=", ".join(odd),
            remedy="gloss checkpoint convert PLACE OUT --dtype bfloat16",
        )
    named = half.config.get("dtype", half.config.get("torch_dtype"))
    if len(found) > 1 or (named in _CONFIG_DTYPES and _CONFIG_DTYPES[str(named)] not in found):
        shown = ", ".join(f"{count} in {dtype}" for dtype, count in found.items())
        raise Doubt("weights of another type than config.json says", expected=named, found=shown)
    return next(iter(found), "no weights")


def _every_weight_is_finite(half: Half) -> str:
    count, bad = 0, []
    headers, heads = _headers(half), [VALUE_HEAD_NAME] if VALUE_HEAD_NAME in half.files else []
    names = [*sorted({header.file for header in headers.values()}), *heads]
    with Stage(
        f"{half.role.upper()} weights", total=len(headers) + len(heads), unit="tensor"
    ) as progress:
        for file in names:
            for name, tensor in stream_tensors(half.folder, file):
                count += 1
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    bad.append(f"{name} in {file}")
                progress.advance()
    if bad:
        raise CheckpointError(
            f"{len(bad)} tensors hold NaN or infinity",
            found=", ".join(bad[:3]),
            remedy="Take an earlier checkpoint: training had diverged",
        )
    return f"{count} tensors"


def _head_has_its_shape(half: Half) -> str:
    if VALUE_HEAD_NAME not in half.files:
        raise CheckpointError(
            "the AR's head is missing",
            expected=VALUE_HEAD_NAME,
            remedy="Take the file from the training run: without it other tools use a random head",
        )
    headers, d = (
        file_headers(ModelPlace.of_path(half.folder), VALUE_HEAD_NAME),
        half.config_integer("hidden_size"),
    )
    weight = headers.get("weight")
    if weight is None or weight.shape != (d, d) or len(headers) != 1:
        found = ", ".join(
            f"{name} {list(header.shape)}" for name, header in sorted(headers.items())
        )
        raise CheckpointError(
            "wrong AR head",
            expected=f"weight [{d}, {d}] alone",
            found=found,
            remedy="Save the head again, without bias",
        )
    if weight.dtype not in _FLOATS:
        raise CheckpointError(
            "wrong AR head", expected=f"one of {', '.join(_FLOATS)}", found=weight.dtype
        )
    return f"[{d}, {d}] in {weight.dtype}"


def _head_was_trained(half: Half) -> str:
    if VALUE_HEAD_NAME not in half.files:
        raise Doubt("not looked at: there is no head")
    weight = dict(stream_tensors(half.folder, VALUE_HEAD_NAME)).get("weight")
    if weight is None or weight.ndim != 2 or weight.shape[0] != weight.shape[1]:
        raise Doubt("not looked at: the head has another shape")
    return describe_head(weight.float())


def describe_head(weight: Tensor) -> str:
    """Where a head [d, d] stands: AR heads start as the identity and stay near it.

    Raises: Doubt for the untouched identity and for a head without a trace of it, CheckpointError
    for what PyTorch fills a linear layer with (Kaiming uniform: every entry within 1/√d, standard
    deviation 1/√(3d))."""
    d = len(weight)
    if (weight - torch.eye(d)).abs().max() < _IDENTITY_TOLERANCE:
        raise Doubt(
            "the head is the identity: the AR has not been trained",
            remedy="Train it, or say so in the card",
        )
    bound, spread = d**-0.5, float(weight.std())
    diagonal = float(weight.diagonal().mean())
    if float(weight.abs().max()) <= bound * 1.001 and abs(spread / bound * 3**0.5 - 1) < 0.05:
        raise CheckpointError(
            "the head looks like PyTorch's random initialisation",
            expected="a matrix near the identity",
            found=f"every entry within 1/√d, standard deviation {spread:.4f}",
            remedy=(
                "The trained head was never loaded before this was saved: take it from the"
                " training run"
            ),
        )
    if abs(diagonal) < 3 * spread / d**0.5:
        raise Doubt(
            "the head has no trace of the identity that AR heads start from",
            found=f"mean diagonal {diagonal:.3f}, standard deviation {spread:.3f}",
            remedy=(
                "Check on held-out activations that it reconstructs: gloss checkpoint validate"
                " PLACE --target T"
            ),
        )
    return (
        f"trained: mean diagonal {diagonal:.2f}, {float((weight - torch.eye(d)).norm()):.2f} from"
        " the identity"
    )


WEIGHT_CHECKS = (
    Check("blocks", _every_block_is_there, ("config",)),
    Check("end of the AR", _ends_as_an_ar, ("config",), ("ar",)),
    Check("head", _head_has_its_shape, ("config",), ("ar",)),
    Check("head trained", _head_was_trained, (), ("ar",)),
    Check("dtype", _types_agree, ("config",)),
    Check("finite", _every_weight_is_finite),
)
