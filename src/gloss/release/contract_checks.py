"""Checks of what AV, AR and their readers agree on: sidecar, templates, marker, BOS, layer, scales.
No weight is read.
"""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath

from gloss.contract import (
    ar_prompt_ids,
    find_marker,
    marker_for,
    prompt_ids,
    render_chat_ids,
    text_ids,
    verify_model_sidecar,
)
from gloss.errors import CheckpointError, MarkerError, SidecarError, TemplateError
from gloss.release.findings import Check, Doubt, Half
from gloss.release.licence import licence_of
from gloss.release.summary import recorded_by_training
from gloss.target_model import architecture_of, refuse_unsafe_files

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".distcp", ".npy", ".joblib")
_CODE = (".py", ".so", ".sh")
_PLAUSIBLE_SCALES = (1e-2, 1e7)
_PROBE = "a probe text"


def _files_are_safe(half: Half) -> str:
    refuse_unsafe_files(half.folder)
    for name in half.files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise CheckpointError(
                "a file outside the folder", found=name, remedy="Do not use this checkpoint"
            )
        if path.suffix in _PICKLES or name.endswith("/.metadata") or name == ".metadata":
            raise CheckpointError(
                "a pickled file, which can run code when it is loaded",
                found=name,
                remedy="Remove it, or turn it into safetensors: gloss checkpoint convert",
            )
    if code := [name for name in half.files if PurePosixPath(name).suffix in _CODE]:
        raise Doubt(
            "the folder holds code, which Gloss never runs",
            found=", ".join(code[:3]),
            remedy="Remove it",
        )
    if not any(name.endswith(".safetensors") for name in half.files):
        raise CheckpointError(
            "no weights", expected="*.safetensors", remedy="Save the model with safetensors"
        )
    return f"{len(half.files)} files, weights in safetensors"


def _sidecar_is_readable(half: Half) -> str:
    try:
        sidecar = half.sidecar
    except TemplateError:
        return "readable"
    if sidecar.layer is None and half.role == "ar":
        raise Doubt(
            "no extraction layer recorded",
            expected="extraction_layer_index",
            remedy="Write K into the sidecar",
        )
    return f"role {sidecar.role}, schema {sidecar.schema_version}"


def _templates_can_be_filled(half: Half) -> str:
    try:
        sidecar = half.sidecar
    except SidecarError:
        raise Doubt("not looked at: the sidecar cannot be read") from None
    template = sidecar.av_template if half.role == "av" else sidecar.ar_template
    return f"one field, {len(template or '')} characters"


def _config_is_known(half: Half) -> str:
    family = architecture_of(str(half.config.get("model_type"))).model_type
    return f"{family}, {half.num_blocks} blocks, d_model {half.config_integer('hidden_size')}"


def _width_fits(half: Half) -> str:
    found = half.config_integer("hidden_size")
    if half.sidecar.d_model != found:
        raise SidecarError(
            "d_model of the sidecar does not fit config.json",
            expected=found,
            found=half.sidecar.d_model,
            remedy="Use the sidecar that was written with these weights",
        )
    return f"d_model {found} in both"


def _tokenizer_loads(half: Half) -> str:
    if half.tokenizer.eos_token_id is None:
        raise CheckpointError(
            "the tokenizer has no end-of-text token", remedy="Name it in tokenizer_config.json"
        )
    table = half.config.get("vocab_size")
    if isinstance(table, int) and len(half.tokenizer) > table:
        raise CheckpointError(
            "the tokenizer has more tokens than the embedding table",
            expected=f"at most {table}",
            found=len(half.tokenizer),
            remedy="Use the tokenizer saved with these weights",
        )
    return f"{len(half.tokenizer)} tokens"


def _marker_is_one_token(half: Half) -> str:
    recorded, template = half.sidecar.marker, half.sidecar.av_template
    assert recorded is not None
    assert template is not None
    live = marker_for(half.tokenizer, template, recorded.char)
    if live.token_id != recorded.token_id:
        raise MarkerError(
            f"the tokenizer gives the marker {recorded.char!r} another id",
            expected=recorded.token_id,
            found=live.token_id,
            remedy="Use the tokenizer and the sidecar that were saved together",
        )
    return f"{recorded.char!r} is token {live.token_id}"


def _marker_is_found_once(half: Half) -> str:
    recorded, template = half.sidecar.marker, half.sidecar.av_template
    assert recorded is not None
    assert template is not None
    ids = prompt_ids(half.tokenizer, template, recorded.char)
    site = find_marker(ids, recorded)
    return (
        f"at token {site} of {len(ids)}, between {recorded.left_neighbor_id} and"
        f" {recorded.right_neighbor_id}"
    )


def _bos_stands_once(half: Half) -> str:
    tokenizer, sidecar = half.tokenizer, half.sidecar
    bos = tokenizer.bos_token_id
    chat = render_chat_ids(tokenizer, [{"role": "user", "content": _PROBE}])
    wanted = bos is not None and bos in (chat[:1] + text_ids(tokenizer, _PROBE)[:1])
    if half.role == "av":
        assert sidecar.av_template is not None
        assert sidecar.marker is not None
        ids = prompt_ids(tokenizer, sidecar.av_template, sidecar.marker.char)
    else:
        assert sidecar.ar_template is not None
        ids = ar_prompt_ids(tokenizer, sidecar.ar_template, _PROBE)
    found = ids.count(bos) if bos is not None else 0
    if found != int(wanted) or (wanted and ids[0] != bos):
        raise CheckpointError(
            f"the {half.role.upper()} prompt does not begin with exactly one BOS",
            expected=f"{int(wanted)} at the start, as chats have it",
            found=found,
            remedy="Use a tokenizer.json whose post-processor adds BOS to plain texts",
        )
    return "one BOS" if wanted else "this tokenizer uses no BOS"


def _pads_right(half: Half) -> str:
    side = half.tokenizer.padding_side
    if side != "right":
        raise CheckpointError(
            "the AR's tokenizer pads on the wrong side",
            expected="right",
            found=side,
            remedy=(
                'Set "padding_side": "right" in tokenizer_config.json: the AR is read at its last'
                " real token"
            ),
        )
    return "right"


def _layer_fits(half: Half) -> str:
    layer, blocks = half.sidecar.layer, half.num_blocks
    if layer is None:
        raise Doubt(
            "no extraction layer recorded", remedy="Write extraction_layer_index into the sidecar"
        )
    if half.role == "av" and layer >= blocks:
        raise SidecarError(
            "the layer is beyond the model",
            expected=f"at most {blocks - 1}",
            found=layer,
            remedy="Layers count from 0",
        )
    if half.role == "ar" and blocks != layer + 1:
        one_off = (
            "; K counts from 0, and an AR keeps K+1 blocks" if abs(blocks - layer - 1) == 1 else ""
        )
        raise SidecarError(
            f"the AR's depth does not fit layer {layer}",
            expected=f"{layer + 1} blocks",
            found=f"{blocks}{one_off}",
            remedy="Take the layer from the training run: one block off costs much of the FVE",
        )
    return f"layer {layer}, {blocks} blocks"


def _per_block_lists_fit(half: Half) -> str:
    architecture = architecture_of(str(half.config.get("model_type")))
    lists = {
        n: half.config[n]
        for n in architecture.per_block_config
        if isinstance(half.config.get(n), list)
    }
    for name, values in lists.items():
        if len(values) != half.num_blocks:
            raise CheckpointError(
                f"config.json: {name} does not fit the number of blocks",
                expected=f"{half.num_blocks} entries",
                found=len(values),
                remedy="Truncate the list together with the blocks",
            )
    return (
        ", ".join(f"{name} has {half.num_blocks} entries" for name in lists)
        or "none in this family"
    )


def _injection_scale_is_plausible(half: Half) -> str:
    scale = half.sidecar.injection_scale
    if scale is None:
        return "activations go in raw"
    low, high = _PLAUSIBLE_SCALES
    statistics = recorded_by_training(half.sidecar).get("norm_statistics")
    p75 = statistics.get("p75") if isinstance(statistics, dict) else None
    usual = float(p75) if isinstance(p75, int | float) and p75 > 0 else None
    if usual is not None:
        low, high = usual / 10, usual * 10
    if not low <= scale <= high:
        raise Doubt(
            "an unusual injection scale",
            expected=f"{low:g} to {high:g}",
            found=f"{scale:g}",
            remedy=(
                "It should be near the 75th percentile of the activations' norms: compare with the"
                " training run"
            ),
        )
    return f"{scale:g}" + (f", 75th percentile of the norms {usual:g}" if usual is not None else "")


def _mse_scale_is_root_d(half: Half) -> str:
    wanted = math.sqrt(half.sidecar.d_model)
    if not math.isclose(half.sidecar.mse_scale, wanted, rel_tol=1e-4):
        raise SidecarError(
            "mse_scale is not √d_model",
            expected=f"{wanted:.4f}",
            found=f"{half.sidecar.mse_scale:g}",
            remedy="Write mse_scale: sqrt_d_model, or train the AR again if it was trained so",
        )
    return f"√{half.sidecar.d_model}"


def _suffix_fits(half: Half) -> str:
    if not half.sidecar.ar_suffix_ids:
        raise Doubt(
            "no tokens.critic_suffix_ids recorded",
            remedy=(
                "Record the ids behind the explanation: they tell when a template or tokenizer is"
                " another's"
            ),
        )
    verify_model_sidecar(half.sidecar, tokenizer=half.tokenizer, d_model=half.sidecar.d_model)
    return f"the prompt ends with {list(half.sidecar.ar_suffix_ids)}"


def _base_is_public(half: Half) -> str:
    base = half.sidecar.base_checkpoint
    if not base or Path(base).is_absolute() or base.startswith((".", "~")):
        raise Doubt(
            "base_checkpoint is not a model that others can find",
            expected="a hub id",
            found=base or "nothing",
            remedy="Set it: gloss checkpoint convert PLACE OUT --base-checkpoint ID",
        )
    return base


def _licence_is_named(half: Half) -> str:
    licence = licence_of(half.folder)
    if licence is None:
        raise Doubt(
            "no licence", remedy="Name the base model's: gloss checkpoint card PLACE --license ID"
        )
    return licence


CONTRACT_CHECKS = (
    Check("files", _files_are_safe),
    Check("sidecar", _sidecar_is_readable),
    Check("templates", _templates_can_be_filled),
    Check("config", _config_is_known),
    Check("d_model", _width_fits, ("sidecar", "config")),
    Check("tokenizer", _tokenizer_loads),
    Check("marker token", _marker_is_one_token, ("sidecar", "tokenizer"), ("av",)),
    Check("marker in prompt", _marker_is_found_once, ("sidecar", "tokenizer"), ("av",)),
    Check("BOS", _bos_stands_once, ("sidecar", "tokenizer")),
    Check("padding side", _pads_right, ("tokenizer",), ("ar",)),
    Check("layer", _layer_fits, ("sidecar", "config")),
    Check("per-block config", _per_block_lists_fit, ("config",)),
    Check("injection scale", _injection_scale_is_plausible, ("sidecar",), ("av",)),
    Check("mse scale", _mse_scale_is_root_d, ("sidecar",)),
    Check("AR suffix", _suffix_fits, ("sidecar", "tokenizer"), ("ar",)),
    Check("base", _base_is_public, ("sidecar",)),
    Check("licence", _licence_is_named),
)
