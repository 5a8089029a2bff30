"""Rules that need the target: do the words carry anything, and is the layer the recorded one?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gloss.contract import Finding, text_ids
from gloss.contract.checkpoint_rules import finding, is_readable, warning
from gloss.engines import LocalEngine
from gloss.errors import CheckpointError, ConfigError, SidecarError
from gloss.evaluate import RoundTrip, control_fves, round_trip
from gloss.models import (
    direction_mse,
    direction_variance,
    fraction_of_variance_explained,
    load_ar,
    load_av,
)
from gloss.release.parts import Half
from gloss.target_model import Target, capture_activations, load_target

SENTENCES = (
    "The ferry leaves the old harbour at seven, and by noon the islands are only a grey line behind"
    " the rain.",
    "In 1928 a mould on a forgotten plate showed that bacteria could be killed by something that"
    " grows by itself.",
    "To make the dough rise, dissolve the yeast in warm milk, add flour and salt, and wait until it"
    " has doubled.",
    "The court found that the contract was void, because neither party had the right to sell the"
    " land in question.",
    "def mean(values):\n    total = sum(values)\n    return total / len(values)  # fails for an"
    " empty list",
    "She had not expected her brother to answer the door, and for a moment neither of them knew"
    " what to say.",
)
_OTHERS = "Give texts like those it was trained on: --texts FILE"
FIRST_POSITION = 10
MAX_ACTIVATIONS = 48
LAYER_MARGIN = 0.02
"""By how much another block must be rebuilt better before the recorded layer is called wrong."""


def target_findings(
    halves: Mapping[str, Half], target_name: str, texts: Sequence[str] | None = None
) -> list[Finding]:
    """Round trip and layer on a few texts, with the target; what cannot be loaded is one line."""
    loaded: dict[str, Any] = {}
    loaders = {"target": load_target, "av": load_av, "ar": load_ar}

    def load(part: str) -> str:
        place = target_name if part == "target" else halves[part].folder
        loaded[part] = loaders[part](place)
        return f"{part} is complete"

    parts = {"target": "pair", **{part: part for part in halves}}
    lines = [finding(half, "loads", partial(load, part)) for part, half in parts.items()]
    sidecars = [half.sidecar for half in halves.values() if is_readable(half, "sidecar")]
    sidecar = next((one for one in sidecars if one.layer is not None), None)
    if "target" not in loaded or sidecar is None or sidecar.layer is None:
        says = "needs the target and a sidecar with a layer"
        return [*lines, Finding("pair", "target", "skipped", says)]
    target, layer = loaded["target"], sidecar.layer
    fits = finding("pair", "target", lambda: _target_fits(target, layer, sidecar.d_model))
    if fits.status == "fail" or not {"av", "ar"} <= set(loaded):
        says = "needs AV, AR and their target"
        return [*lines, fits, Finding("pair", "round trip", "skipped", says)]
    enough = finding("pair", "texts", lambda: _texts_suffice(target, texts))
    if enough.status == "fail":
        return [*lines, fits, enough]
    activations = text_activations(target, layer, texts)
    most = sidecar.trust.max_new_tokens or 150
    engine, ar = LocalEngine(loaded["av"]), loaded["ar"]
    trip = round_trip(engine, ar, activations, temperature=0, max_new_tokens=most, seed=0)
    controls = control_fves(ar, trip, activations, seed=0)
    carries = finding("pair", "round trip", lambda: _round_trip_carries(trip, controls))
    right = partial(_layer_is_right, target, trip, layer, texts)
    return [*lines, fits, enough, carries, finding("pair", "layer of the AR", right)]


def _target_fits(target: Target, layer: int, d_model: int) -> str:
    if target.d_model != d_model or layer >= target.num_blocks:
        raise CheckpointError(
            "another target than this NLA was trained on",
            expected=f"d_model {d_model} and more than {layer} blocks",
            found=f"d_model {target.d_model} and {target.num_blocks} blocks",
            remedy="Name the model that base_checkpoint in the sidecar leads to",
        )
    return f"{target.num_blocks} blocks, d_model {target.d_model}"


def _texts_suffice(target: Target, texts: Sequence[str] | None) -> str:
    chosen = SENTENCES if texts is None else texts
    usable = sum(max(0, len(text_ids(target.tokenizer, text)) - FIRST_POSITION) for text in chosen)
    if usable < 2:
        raise ConfigError(
            "too little text to measure on",
            expected=f"texts of more than {FIRST_POSITION} tokens",
            found=f"{usable} tokens behind the first {FIRST_POSITION} of each",
            remedy="Give longer ones, one a line: --texts FILE",
        )
    origin = "built in" if texts is None else "given"
    return f"{len(chosen)} {origin}, {usable} tokens after the first {FIRST_POSITION} of each"


def text_activations(target: Target, layer: int, texts: Sequence[str] | None = None) -> Tensor:
    """Raw activations of block ``layer`` at later tokens of the texts; [n ≤ 48, d_model]."""
    rows = []
    for text in SENTENCES if texts is None else texts:
        ids = torch.tensor([text_ids(target.tokenizer, text)], device=target.model.device)
        with torch.inference_mode():
            captured = capture_activations(target.model, ids, None, layer)[0].float().cpu()
        rows.append(captured[FIRST_POSITION:])
    every = torch.cat(rows)
    chosen = torch.linspace(0, len(every) - 1, min(MAX_ACTIVATIONS, len(every))).round().long()
    return every[chosen]


def _round_trip_carries(trip: RoundTrip, controls: Mapping[str, float]) -> str | Finding:
    shuffled = controls["shuffled_activations"]
    numbers = (
        f"FVE {trip.fve:.3f}, cosine {1 - float(trip.errors.mean()) / 2:.3f} on {len(trip.errors)}"
        f" activations; controls: shuffled {shuffled:.3f}, mean direction"
        f" {controls['mean_direction']:.3f}, empty text {controls['empty_text']:.3f}"
    )
    if not bool(trip.extracted.any()):
        raise CheckpointError(
            "no explanation could be extracted",
            expected="<explanation>…</explanation>",
            found=repr(trip.rollouts[0].text[:60]),
            remedy="An untrained AV writes none; one that writes about the marker was not injected",
        )
    if not trip.fve > shuffled:
        what = "explanations tell nothing about their own activation"
        expected = "an FVE above that of shuffled texts"
        remedy = "Check target, layer and injection scale against the training run"
        raise CheckpointError(what, expected=expected, found=numbers, remedy=remedy)
    numbers += f"; {trip.failure_rate:.0%} not extracted" if trip.failure_rate else ""
    if not trip.fve > max(controls["mean_direction"], controls["empty_text"]):
        return warning(f"no better than a control that knows nothing: {numbers}", remedy=_OTHERS)
    return numbers


def _layer_is_right(
    target: Target, trip: RoundTrip, layer: int, texts: Sequence[str] | None
) -> str | Finding:
    if not trip.fve > 0:
        what = "cannot be told on these texts: the AR does no better than the mean activation"
        return warning(what, remedy=_OTHERS)
    fves = {}
    for block in range(max(0, layer - 1), min(target.num_blocks, layer + 2)):
        activations = text_activations(target, block, texts)
        errors = direction_mse(trip.vectors[trip.extracted], activations[trip.extracted])
        fves[block] = fraction_of_variance_explained(errors, direction_variance(activations))
    shown = ", ".join(f"block {block} {fve:.3f}" for block, fve in fves.items())
    best = max(fves, key=fves.__getitem__)
    if fves[best] > fves[layer] + LAYER_MARGIN:
        what = "the AR rebuilds another block better than its own"
        remedy = f"The layer is probably {best}, not {layer}: compare with the training run"
        found = f"FVE of {shown}"
        raise SidecarError(what, expected=f"block {layer} best", found=found, remedy=remedy)
    return f"FVE of {shown}"
