"""Checks that need both halves, or the target: do they belong together, and do words carry anything
from one to the other?
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gloss.contract import check_same_activations, text_ids
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
from gloss.release.findings import Doubt, Finding, Half, finding_of
from gloss.release.summary import recorded_by_training
from gloss.target_model import Target, capture_activations, load_target

SENTENCES = (
    (
        "The ferry leaves the old harbour at seven, and by noon the islands are only a grey line"
        " behind the rain."
    ),
    (
        "In 1928 a mould on a forgotten plate showed that bacteria could be killed by something"
        " that grows by itself."
    ),
    (
        "To make the dough rise, dissolve the yeast in warm milk, add flour and salt, and wait"
        " until it has doubled."
    ),
    (
        "The court found that the contract was void, because neither party had the right to sell"
        " the land in question."
    ),
    (
        "def mean(values):\n    total = sum(values)\n    return total / len(values)  # fails for an"
        " empty list"
    ),
    (
        "She had not expected her brother to answer the door, and for a moment neither of them knew"
        " what to say."
    ),
)
FIRST_POSITION = 10
MAX_ACTIVATIONS = 48
LAYER_MARGIN = 0.02
"""By how much another block must be rebuilt better before the recorded layer is called wrong."""


def pair_findings(av: Half, ar: Half) -> list[Finding]:
    """Whether AV and AR say that they are about the same activations."""
    if not (av.has("sidecar") and ar.has("sidecar")):
        return [Finding("pair", "belong together", "skipped", "needs two readable sidecars")]
    return [finding_of("pair", "belong together", lambda: _belong_together(av, ar))]


def _belong_together(av: Half, ar: Half) -> str:
    first, second = av.sidecar, ar.sidecar
    check_same_activations(first, second)
    if first.ar_template is not None and first.ar_template != second.ar_template:
        raise SidecarError(
            "AV and AR record different AR templates",
            expected=repr(first.ar_template[:60]),
            found=repr(str(second.ar_template)[:60]),
            remedy="Use the two halves of one training run",
        )
    if None not in (first.marker, second.marker) and first.marker != second.marker:
        raise Doubt(
            "AV and AR record different markers", remedy="Check that they are halves of one run"
        )
    families = [half.config.get("model_type") if half.has("config") else None for half in (av, ar)]
    if families[0] != families[1]:
        raise CheckpointError(
            "AV and AR are of different families", expected=families[0], found=families[1]
        )
    layer = first.layer if first.layer is not None else second.layer
    return f"both of layer {layer}, d_model {first.d_model}"


def target_findings(
    halves: Mapping[str, Half], target_name: str, texts: Sequence[str] | None = None
) -> list[Finding]:
    """Round trip and layer on activations of a few texts, with the target; whatever cannot be
    loaded is one line.
    """
    found, loaded = _load_all(halves, target_name)
    sidecars = [
        half.sidecar
        for half in halves.values()
        if half.has("sidecar") and half.sidecar.layer is not None
    ]
    if "target" not in loaded or not sidecars:
        return [
            *found,
            Finding("pair", "target", "skipped", "needs the target and a sidecar with a layer"),
        ]
    target, layer = loaded["target"], int(sidecars[0].layer or 0)
    fits = finding_of("pair", "target", lambda: _target_fits(target, layer, sidecars[0].d_model))
    if fits.status == "fail" or not {"av", "ar"} <= set(loaded):
        return [
            *found,
            fits,
            Finding("pair", "round trip", "skipped", "needs AV, AR and their target"),
        ]
    enough = finding_of("pair", "texts", lambda: _texts_suffice(target, texts))
    if enough.status == "fail":
        return [*found, fits, enough]
    activations = text_activations(target, layer, texts)
    most = recorded_by_training(sidecars[0]).get("max_new_tokens")
    trip = round_trip(
        LocalEngine(loaded["av"]),
        loaded["ar"],
        activations,
        temperature=0,
        max_new_tokens=most if isinstance(most, int) and most > 0 else 150,
        seed=0,
    )
    controls = control_fves(loaded["ar"], trip, activations, seed=0)
    carries = finding_of("pair", "round trip", lambda: _round_trip_carries(trip, controls))
    right = finding_of(
        "pair", "layer of the AR", lambda: _layer_is_right(target, trip, layer, texts)
    )
    return [*found, fits, enough, carries, right]


def _load_all(halves: Mapping[str, Half], target_name: str) -> tuple[list[Finding], dict[str, Any]]:
    """Target and halves as far as they load, and one line for each."""
    loaders: dict[str, Callable[[], Any]] = {"target": lambda: load_target(target_name)}
    if "av" in halves:
        loaders["av"] = lambda: load_av(halves["av"].folder)
    if "ar" in halves:
        loaders["ar"] = lambda: load_ar(halves["ar"].folder)
    found, loaded = [], {}
    for part, load in loaders.items():

        def look(part: str = part, load: Callable[[], Any] = load) -> str:
            loaded[part] = load()
            return f"{part} is complete"

        found.append(finding_of("pair" if part == "target" else part, "loads", look))
    return found, loaded


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
    return (
        f"{len(chosen)} {'built in' if texts is None else 'given'}, {usable} tokens after the first"
        f" {FIRST_POSITION} of each"
    )


def text_activations(target: Target, layer: int, texts: Sequence[str] | None = None) -> Tensor:
    """Raw activations of block ``layer`` at later tokens of the texts, the built-in ones by
    default; [n ≤ 48, d_model].
    """
    rows = []
    for text in SENTENCES if texts is None else texts:
        ids = torch.tensor([text_ids(target.tokenizer, text)], device=target.model.device)
        with torch.inference_mode():
            captured = capture_activations(target.model, ids, None, layer)[0].float().cpu()
        rows.append(captured[FIRST_POSITION:])
    every = torch.cat(rows)
    chosen = torch.linspace(0, len(every) - 1, min(MAX_ACTIVATIONS, len(every))).round().long()
    return every[chosen]


def _round_trip_carries(trip: RoundTrip, controls: dict[str, float]) -> str:
    shuffled = controls["shuffled_activations"]
    numbers = (
        f"FVE {trip.fve:.3f}, cosine {1 - float(trip.errors.mean()) / 2:.3f} on {len(trip.errors)}"
        f" activations; controls: shuffled {shuffled:.3f}, mean direction"
        f" {controls['mean_direction']:.3f}, empty text {controls['empty_text']:.3f}"
    )
    if not bool(trip.extracted.any()):
        sample = trip.rollouts[0].text[:60]
        raise CheckpointError(
            "no explanation could be extracted",
            expected="<explanation>…</explanation>",
            found=repr(sample),
            remedy=(
                "An untrained AV writes none; a trained one that writes about the marker was not"
                " injected"
            ),
        )
    if not trip.fve > shuffled:
        raise CheckpointError(
            "explanations tell nothing about their own activation",
            expected="an FVE above that of shuffled texts",
            found=numbers,
            remedy="Check target, layer and injection scale against the training run",
        )
    numbers += f"; {trip.failure_rate:.0%} not extracted" if trip.failure_rate else ""
    if not trip.fve > max(controls["mean_direction"], controls["empty_text"]):
        raise Doubt(
            f"no better than a control that knows nothing: {numbers}",
            remedy="Give texts like those it was trained on: --texts FILE",
        )
    return numbers


def _layer_is_right(
    target: Target, trip: RoundTrip, layer: int, texts: Sequence[str] | None
) -> str:
    if not trip.fve > 0:
        raise Doubt(
            "cannot be told on these texts: the AR does no better than the mean activation",
            remedy="Give texts like those it was trained on: --texts FILE",
        )
    fves = {}
    for block in range(max(0, layer - 1), min(target.num_blocks, layer + 2)):
        activations = text_activations(target, block, texts)
        errors = direction_mse(trip.vectors[trip.extracted], activations[trip.extracted])
        fves[block] = fraction_of_variance_explained(errors, direction_variance(activations))
    shown = ", ".join(f"block {block} {fve:.3f}" for block, fve in fves.items())
    best = max(fves, key=lambda block: fves[block])
    if fves[best] > fves[layer] + LAYER_MARGIN:
        raise SidecarError(
            "the AR rebuilds another block better than its own",
            expected=f"block {layer} best",
            found=f"FVE of {shown}",
            remedy=f"The layer is probably {best}, not {layer}: compare with the training run",
        )
    return f"FVE of {shown}"
