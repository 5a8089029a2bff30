"""``validate``: every rule on every half, and on both together; here the rules of the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gloss.contract import CONTRACT_RULES, Finding, Rule, check_same_activations
from gloss.contract.checkpoint_rules import (
    config_integer,
    finding,
    findings,
    is_readable,
    require,
    warning,
)
from gloss.errors import CheckpointError, SidecarError
from gloss.models.both_majors import lost_in_4
from gloss.release.card import licence_of
from gloss.release.parts import Half, parts_of
from gloss.target_model.architectures import architecture_of
from gloss.target_model.folder_files import refuse_outside_links, refuse_unsafe_files

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".distcp", ".npy", ".joblib")
_CODE = (".py", ".so", ".sh")


@dataclass(frozen=True)
class Validation:
    """All findings about a checkpoint."""

    findings: tuple[Finding, ...]

    @property
    def failed(self) -> list[Finding]:
        """The findings that say no; a skipped one always has a failed cause."""
        return [finding for finding in self.findings if finding.status == "fail"]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failed


def validate(
    name: str | Path,
    *,
    target: str | None = None,
    texts: Sequence[str] | None = None,
    revision: str | None = None,
) -> Validation:
    """Examines a folder or hub id; with a ``target`` also a round trip, on ``texts`` if given."""
    halves = {role: half.fetch() for role, half in parts_of(name, revision=revision).items()}
    from gloss.release.weight_rules import WEIGHT_RULES

    rules = (*FILE_RULES, *CONTRACT_RULES, *WEIGHT_RULES)
    found = [line for half in halves.values() for line in findings(half, rules)]
    if len(halves) == 2:
        found.append(_belong_together(halves["av"], halves["ar"]))
    if target is not None:
        from gloss.release.round_trip_rules import target_findings

        found += target_findings(halves, target, texts)
    return Validation(tuple(found))


def _files_are_safe(half: Half) -> str | Finding:
    refuse_unsafe_files(half.folder)
    refuse_outside_links(half.folder)
    for name in half.files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            remedy = "Do not use this checkpoint"
            raise CheckpointError("a file outside the folder", found=name, remedy=remedy)
        if path.suffix in _PICKLES or path.name == ".metadata":
            what = "a pickled file, which can run code when it is loaded"
            remedy = "Remove it, or turn it into safetensors: gloss nla convert"
            raise CheckpointError(what, found=name, remedy=remedy)
    if code := [name for name in half.files if PurePosixPath(name).suffix in _CODE]:
        what = "the folder holds code, which Gloss never runs"
        return warning(what, found=", ".join(code[:3]), remedy="Remove it")
    if not any(name.endswith(".safetensors") for name in half.files):
        remedy = "Save the model with safetensors"
        raise CheckpointError("no weights", expected="*.safetensors", remedy=remedy)
    return f"{len(half.files)} files, weights in safetensors"


def _config_is_known(half: Half) -> str:
    family = architecture_of(str(half.config.get("model_type"))).model_type
    blocks, width = (config_integer(half, n) for n in ("num_hidden_layers", "hidden_size"))
    return f"{family}, {blocks} blocks, d_model {width}"


def _per_block_lists_fit(half: Half) -> str:
    blocks = config_integer(half, "num_hidden_layers")
    names = architecture_of(str(half.config.get("model_type"))).per_block_config
    lists = {name: half.config[name] for name in names if isinstance(half.config.get(name), list)}
    for name, values in lists.items():
        if len(values) != blocks:
            what = f"config.json: {name} does not fit the number of blocks"
            expected, remedy = f"{blocks} entries", "Truncate the list together with the blocks"
            raise CheckpointError(what, expected=expected, found=len(values), remedy=remedy)
    return ", ".join(f"{name} has {blocks} entries" for name in lists) or "none in this family"


def _both_majors_read_it(half: Half) -> str:
    if lost := lost_in_4(half.folder):
        raise CheckpointError(
            "Transformers 4, which SGLang and the reference use, reads another model here",
            found="; ".join(lost),
            remedy="Write it in the form of both majors: gloss nla convert PLACE OUT",
        )
    return "in the form of both majors"


def _licence_is_named(half: Half) -> str | Finding:
    return licence_of(half.folder) or warning(
        "no licence", remedy="Name the base model's: gloss nla card PLACE --license ID"
    )


FILE_RULES = (
    Rule("files", _files_are_safe),
    Rule("config", _config_is_known),
    Rule("per-block config", _per_block_lists_fit, ("config",)),
    Rule("Transformers 4", _both_majors_read_it, ("config",)),
    Rule("licence", _licence_is_named),
)


def _belong_together(av: Half, ar: Half) -> Finding:
    if not (is_readable(av, "sidecar") and is_readable(ar, "sidecar")):
        return Finding("pair", "belong together", "skipped", "needs two readable sidecars")
    return finding("pair", "belong together", lambda: _same_nla(av, ar))


def _same_nla(av: Half, ar: Half) -> str | Finding:
    first, second = av.sidecar, ar.sidecar
    check_same_activations(first, second)
    if first.ar_template is not None and first.ar_template != second.ar_template:
        what, remedy = (
            "AV and AR record different AR templates",
            "Use the two halves of one training run",
        )
        expected, found = (repr(str(half.ar_template)[:60]) for half in (first, second))
        raise SidecarError(what, expected=expected, found=found, remedy=remedy)
    family, other = (
        h.config.get("model_type") if is_readable(h, "config") else None for h in (av, ar)
    )
    require(other, family, "AV and AR are of different families", error=CheckpointError)
    if None not in (first.marker, second.marker) and first.marker != second.marker:
        what, remedy = "AV and AR record different markers", "Check that they are halves of one run"
        return warning(what, remedy=remedy)
    layer = first.layer if first.layer is not None else second.layer
    return f"both of layer {layer}, d_model {first.d_model}"
