"""The round trip activation → explanation → activation, its FVE with interval and controls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gloss.contract import Explanation
from gloss.engines import Engine, Rollout
from gloss.models import (
    ActivationReconstructor,
    direction_mse,
    direction_variance,
    fraction_of_variance_explained,
)
from gloss.train.rewards import rebuilt


@dataclass(frozen=True)
class RoundTrip:
    """One explanation per activation and how well it is rebuilt.

    ``vectors`` [n, d_model] is the reconstruction (zeros where nothing was extracted), ``errors``
    [n] the direction MSE (2 there)."""

    rollouts: list[Rollout]
    vectors: Tensor
    errors: Tensor
    extracted: Tensor
    variance: float

    @property
    def fve(self) -> float:
        """FVE over all activations; failed extractions count as orthogonal."""
        return fraction_of_variance_explained(self.errors, self.variance)

    @property
    def texts(self) -> list[str]:
        """The explanations, empty where nothing could be extracted."""
        explanations = (rollout.explanation for rollout in self.rollouts)
        return [e.text if isinstance(e, Explanation) else "" for e in explanations]

    @property
    def failure_rate(self) -> float:
        """Share of responses without an extractable explanation."""
        return 1 - float(self.extracted.float().mean())

    @property
    def mean_tokens(self) -> float:
        """Mean generated length, tags and stop token included."""
        return float(np.mean([len(rollout.token_ids) for rollout in self.rollouts]))


def round_trip(
    engine: Engine,
    ar: ActivationReconstructor,
    activations: Tensor,
    *,
    temperature: float,
    max_new_tokens: int,
    seed: int,
) -> RoundTrip:
    """Explains every activation [n, d_model] once and rebuilds it from the text."""
    rollouts = engine.generate(
        activations, temperature=temperature, max_new_tokens=max_new_tokens, seed=seed
    )
    variance = direction_variance(activations)
    return RoundTrip(rollouts, *rebuilt(ar, rollouts, activations), variance)


def bootstrap_fve(
    errors: Tensor, activations: Tensor, doc_ids: Sequence[str], *, resamples: int, seed: int
) -> tuple[float, float]:
    """95 % interval of the FVE, resampling whole documents; errors [n], activations [n, d]."""
    variance = direction_variance(activations)
    documents, index = np.unique(np.asarray(doc_ids), return_inverse=True)
    sums, counts = np.bincount(index, weights=errors.double().numpy()), np.bincount(index)
    size = (resamples, len(documents))
    drawn = np.random.default_rng(seed).integers(len(documents), size=size)
    fves = 1 - sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1) / variance
    low, high = np.quantile(fves, [0.025, 0.975])
    return float(low), float(high)


def control_fves(
    ar: ActivationReconstructor, trip: RoundTrip, activations: Tensor, *, seed: int
) -> dict[str, float]:
    """FVE of what knows nothing of the single activation [n, d_model].

    The mean direction, explanations of other rows, an empty text, Gaussian vectors."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(activations.float(), dim=1)
    n, kept = len(activations), trip.extracted
    shift = int(torch.randint(1, n, (1,), generator=generator)) if n > 1 else 0
    shuffled = direction_mse(trip.vectors[kept], activations.roll(shift, dims=0)[kept])

    noise = torch.randn(activations.shape, generator=generator)

    def fve(vectors: Tensor) -> float:
        errors = direction_mse(vectors.expand_as(activations), activations)
        return fraction_of_variance_explained(errors, trip.variance)

    return {
        "mean_direction": fve(directions.mean(dim=0, keepdim=True)),
        "shuffled_activations": (
            fraction_of_variance_explained(shuffled, trip.variance) if len(shuffled) else math.nan
        ),
        "empty_text": fve(ar.reconstruct([""])),
        "random_activation": fve(noise),
    }
