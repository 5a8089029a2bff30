"""The rules of a checkpoint that need none of its files: loading raises the first that fails."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from gloss.contract.marker import find_marker, marker_for
from gloss.contract.sidecar import ModelSidecar
from gloss.contract.templates import ar_prompt_ids, prompt_ids, render_chat_ids, text_ids
from gloss.errors import CheckpointError, GlossError, MarkerError, SidecarError

_BOTH = ("av", "ar")
_PLAUSIBLE_SCALES = (1e-2, 1e7)
_PROBE = "a probe text"  # ends with a letter: punctuation may merge with what follows


@dataclass
class Half:
    """One half as the rules see it; a part that cannot be read raises its GlossError."""

    role: str
    sidecar: ModelSidecar
    config: Mapping[str, Any]
    tokenizer: Any


@dataclass(frozen=True)
class Finding:
    """What a rule says of ``half``: av, ar or pair. With a warning it can be used all the same."""

    half: str
    check: str
    status: Literal["ok", "warning", "fail", "skipped"]
    says: str
    remedy: str = ""


@dataclass(frozen=True)
class Rule:
    """A rule: ``check`` returns what it found, or a warning, or raises what is wrong.

    It is skipped where a part that it ``needs`` cannot be read, and for halves not in ``roles``.
    Loading refuses the halves in ``loading`` that break it."""

    name: str
    check: Callable[[Any], str | Finding]
    needs: tuple[str, ...] = ()
    roles: Collection[str] = _BOTH
    loading: Collection[str] = ()


def warning(
    what: str, *, expected: object = None, found: object = None, remedy: str = ""
) -> Finding:
    """What a check returns in place of a line; who runs it fills in half and name."""
    line = _line(GlossError(what, expected=expected, found=found))
    return Finding("", "", "warning", line, remedy)


def _line(error: GlossError) -> str:
    return str(GlossError(**{**vars(error), "remedy": None})).rstrip(".")


def require(
    found: object,
    expected: object,
    what: str,
    remedy: str | None = None,
    error: type[GlossError] = SidecarError,
) -> None:
    """Raises the error unless the values are equal."""
    if found != expected:
        raise error(what, expected=expected, found=found, remedy=remedy)


def finding(half: str, name: str, check: Callable[[], str | Finding]) -> Finding:
    """Runs one check; what it raises becomes its line."""
    try:
        found = check()
    except GlossError as error:
        return Finding(half, name, "fail", _line(error), error.remedy or "")
    if isinstance(found, Finding):
        return replace(found, half=half, check=name)
    return Finding(half, name, "ok", found)


def findings(half: Any, rules: Iterable[Rule]) -> list[Finding]:
    """What every rule that concerns a half says of it; none stops the others."""
    found = []
    for rule in (rule for rule in rules if half.role in rule.roles):
        if missing := [part for part in rule.needs if not is_readable(half, part)]:
            says = f"needs a readable {' and '.join(missing)}"
            found.append(Finding(half.role, rule.name, "skipped", says))
        else:
            found.append(finding(half.role, rule.name, partial(rule.check, half)))
    return found


def is_readable(half: Any, part: str) -> bool:
    """Whether one of ``sidecar``, ``config`` and ``tokenizer`` can be read."""
    try:
        getattr(half, part)
    except GlossError:
        return False
    return True


def verify_model_sidecar(
    sidecar: ModelSidecar, *, tokenizer: Any, d_model: int, num_blocks: int | None = None
) -> None:
    """Checks a sidecar against the live tokenizer and config: raises the first rule that fails."""
    config = {"hidden_size": d_model, "num_hidden_layers": num_blocks}
    half = Half(sidecar.role, sidecar, config, tokenizer)
    for rule in CONTRACT_RULES:
        if half.role in rule.loading and (num_blocks is not None or rule.name != "layer"):
            rule.check(half)


_ALSO = {"hidden_size": ("n_embd",), "num_hidden_layers": ("n_layer",)}
"""What GPT-2 calls them."""


def config_integer(half: Any, name: str) -> int:
    """An integer of the config; CheckpointError if it is missing or none."""
    value = next(
        (half.config[key] for key in (name, *_ALSO.get(name, ())) if key in half.config), 0
    )
    if not isinstance(value, int) or not value:
        remedy = "Copy config.json from the model it belongs to"
        raise CheckpointError(f"config.json has no {name}", remedy=remedy)
    return value


def _sidecar_is_readable(half: Half) -> str:
    sidecar = half.sidecar
    require(sidecar.role, half.role, "the sidecar of the other half", "Put its own one there")
    template = sidecar.av_template if half.role == "av" else sidecar.ar_template
    return f"schema {sidecar.schema_version}, a template of {len(template or '')} characters"


def _width_fits(half: Half) -> str:
    width = config_integer(half, "hidden_size")
    remedy = "Use the sidecar that was written with these weights"
    require(half.sidecar.d_model, width, "d_model does not fit the weights", remedy)
    return f"d_model {width} in both"


def _layer_fits(half: Half) -> str | Finding:
    layer, blocks = half.sidecar.layer, config_integer(half, "num_hidden_layers")
    if layer is None:
        remedy = "Write extraction_layer_index into the sidecar"
        return warning("no extraction layer recorded", remedy=remedy)
    if half.role == "av" and layer >= blocks:
        what, below = "the layer is beyond the model", f"below {blocks}"
        raise SidecarError(what, expected=below, found=layer, remedy="Layers count from 0")
    if half.role == "ar" and blocks != layer + 1:
        raise SidecarError(
            "the AR's depth does not fit its layer",
            expected=f"{layer + 1} blocks for layer {layer}",
            found=blocks,
            remedy="K counts from 0, and an AR keeps K+1 blocks. Take the layer from the training"
            " run: one block off costs much of the FVE",
        )
    return f"layer {layer}, {blocks} blocks"


def _tokenizer_fits(half: Half) -> str:
    tokens, table = len(half.tokenizer), half.config.get("vocab_size")
    if half.tokenizer.eos_token_id is None:
        remedy = "Name it in tokenizer_config.json"
        raise CheckpointError("the tokenizer has no end-of-text token", remedy=remedy)
    if isinstance(table, int) and tokens > table:
        what = "the tokenizer has more tokens than the embedding table"
        remedy = "Use the tokenizer saved with these weights"
        raise CheckpointError(what, expected=f"at most {table}", found=tokens, remedy=remedy)
    return f"{tokens} tokens"


def _marker_is_one_token(half: Half) -> str:
    recorded, template = half.sidecar.marker, half.sidecar.av_template
    if recorded is None or template is None:
        return "no marker"
    token_id = marker_for(half.tokenizer, template, recorded.char).token_id
    what = f"the tokenizer gives the marker {recorded.char!r} another id"
    remedy = "Use the tokenizer and the sidecar that were saved together"
    require(token_id, recorded.token_id, what, remedy, MarkerError)
    return f"{recorded.char!r} is token {token_id}"


def _marker_is_found_once(half: Half) -> str:
    marker, ids = half.sidecar.marker, _prompt_ids(half)
    if marker is None or ids is None:
        return "no marker"
    around = f"{marker.left_neighbor_id} and {marker.right_neighbor_id}"
    return f"at token {find_marker(ids, marker)} of {len(ids)}, between {around}"


def _prompt_ids(half: Half) -> list[int] | None:
    sidecar = half.sidecar
    if half.role == "ar" and sidecar.ar_template is not None:
        return ar_prompt_ids(half.tokenizer, sidecar.ar_template, _PROBE)
    if half.role == "av" and sidecar.av_template is not None and sidecar.marker is not None:
        return prompt_ids(half.tokenizer, sidecar.av_template, sidecar.marker.char)
    return None


def _bos_stands_once(half: Half) -> str:
    """A BOS that is the end-of-text token too says nothing: chats may begin with it, texts not."""
    tokenizer, ids, bos = half.tokenizer, _prompt_ids(half), half.tokenizer.bos_token_id
    if ids is None or bos is None or bos == tokenizer.eos_token_id:
        return "this tokenizer has no BOS of its own"
    chat = render_chat_ids(tokenizer, [{"role": "user", "content": _PROBE}])
    wanted = bos in chat[:1] + text_ids(tokenizer, _PROBE)[:1]
    if ids.count(bos) != int(wanted) or (wanted and ids[0] != bos):
        raise SidecarError(
            f"the {half.role.upper()} prompt does not begin with BOS as chats do",
            expected="exactly one BOS, at the start" if wanted else "none",
            found=f"{ids.count(bos)}, first of all {ids[:2]}",
            remedy="Use the tokenizer saved beside the checkpoint, which adds BOS to texts",
        )
    return "one BOS" if wanted else "this tokenizer uses no BOS"


def _suffix_fits(half: Half) -> str | Finding:
    recorded, ids = half.sidecar.ar_suffix_ids, _prompt_ids(half)
    if not recorded or ids is None:
        remedy = "Record the ids behind the explanation: they tell another's template or tokenizer"
        return warning("no tokens.critic_suffix_ids recorded", remedy=remedy)
    what = "the AR prompt does not end as recorded in tokens.critic_suffix_ids"
    remedy = "Use the tokenizer and template saved beside the checkpoint"
    require(ids[-len(recorded) :], list(recorded), what, remedy)
    return f"the prompt ends with {list(recorded)}"


def _pads_right(half: Half) -> str:
    what = "the AR's tokenizer pads on the wrong side, and is read at its last real token"
    remedy = 'Set "padding_side": "right" in tokenizer_config.json'
    require(half.tokenizer.padding_side, "right", what, remedy, CheckpointError)
    return "right"


def _injection_scale_is_plausible(half: Half) -> str | Finding:
    scale, p75 = half.sidecar.injection_scale, half.sidecar.trust.norm_statistics.get("p75")
    if scale is None:
        return "activations go in raw"
    low, high = _PLAUSIBLE_SCALES if p75 is None else (p75 / 10, p75 * 10)
    if not low <= scale <= high:
        expected = f"{low:g} to {high:g}"
        remedy = "It should be near the 75th percentile of the activations' norms in training"
        what, found = "an unusual injection scale", f"{scale:g}"
        return warning(what, expected=expected, found=found, remedy=remedy)
    return f"{scale:g}" + (f", 75th percentile of the norms {p75:g}" if p75 is not None else "")


def _mse_scale_is_root_d(half: Half) -> str:
    scale, root = half.sidecar.mse_scale, math.sqrt(half.sidecar.d_model)
    if not math.isclose(scale, root, rel_tol=1e-4):
        what, expected = "mse_scale is not √d_model", f"{root:.4f}"
        remedy = "Write mse_scale: sqrt_d_model, or train the AR again if it was trained so"
        raise SidecarError(what, expected=expected, found=f"{scale:g}", remedy=remedy)
    return f"√{half.sidecar.d_model}"


def _base_is_public(half: Half) -> str | Finding:
    base = half.sidecar.base_checkpoint
    if not base or Path(base).is_absolute() or base.startswith((".", "~")):
        what = "base_checkpoint is not a model that others can find"
        remedy = "Set it: gloss nla convert PLACE OUT --base-checkpoint ID"
        return warning(what, expected="a hub id", found=base or "nothing", remedy=remedy)
    return base


CONTRACT_RULES = (
    Rule("sidecar", _sidecar_is_readable),
    Rule("d_model", _width_fits, ("sidecar", "config"), loading=_BOTH),
    Rule("layer", _layer_fits, ("sidecar", "config"), loading=_BOTH),
    Rule("tokenizer", _tokenizer_fits, ("config",)),
    Rule("marker token", _marker_is_one_token, ("sidecar", "tokenizer"), ("av",)),
    Rule("marker in prompt", _marker_is_found_once, ("sidecar", "tokenizer"), ("av",), ("av",)),
    Rule("BOS", _bos_stands_once, ("sidecar", "tokenizer"), loading=("ar",)),
    Rule("AR suffix", _suffix_fits, ("sidecar", "tokenizer"), ("ar",), ("ar",)),
    Rule("padding side", _pads_right, ("tokenizer",), ("ar",)),
    Rule("injection scale", _injection_scale_is_plausible, ("sidecar",), ("av",)),
    Rule("mse scale", _mse_scale_is_root_d, ("sidecar",)),
    Rule("base", _base_is_public, ("sidecar",)),
)
