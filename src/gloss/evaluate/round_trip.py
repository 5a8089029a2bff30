"""The round trip activation → explanation → activation, its FVE and its controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gloss.contract import Explanation
from gloss.engines import Engine, Rollout
from gloss.models import (
    ORTHOGONAL_MSE,
    ActivationReconstructor,
    direction_mse,
    direction_variance,
    fraction_of_variance_explained,
    mean_direction,
)
from gloss.seeds import keyed_bits
from gloss.train.rewards import rebuilt

LOOP_COPIES, LOOP_TOKENS = 3, 12


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
    def fve_extracted(self) -> float | None:
        """FVE over the activations with an extracted explanation, against the same variance."""
        errors = self.errors[self.extracted]
        return fraction_of_variance_explained(errors, self.variance) if len(errors) else None

    @property
    def texts(self) -> list[str]:
        """The explanations, empty where nothing could be extracted."""
        explanations = (rollout.explanation for rollout in self.rollouts)
        return [e.text if isinstance(e, Explanation) else "" for e in explanations]

    @property
    def failure_rate(self) -> float:
        """Share of responses without an extractable explanation."""
        return int((~self.extracted).sum()) / len(self.extracted)

    @property
    def loop_rate(self) -> float:
        """Share of responses, extracted or not, in which a stretch of tokens comes again and
        again."""
        return sum(is_loop(rollout.token_ids) for rollout in self.rollouts) / len(self.rollouts)

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
    rows: Sequence[int] | None = None,
) -> RoundTrip:
    """Explains every activation [n, d_model] once and rebuilds it from the text; ``rows`` number
    the activations for their seeds."""
    rollouts = engine.generate(
        activations, temperature=temperature, max_new_tokens=max_new_tokens, seed=seed, rows=rows
    )
    variance = direction_variance(activations)
    return RoundTrip(rollouts, *rebuilt(ar, rollouts, activations), variance)


def is_loop(token_ids: Sequence[int]) -> bool:
    """Whether a stretch of tokens stands three times or more in a row, 12 tokens or more in all."""
    ids = np.asarray(token_ids)
    for period in range(1, len(ids) // LOOP_COPIES + 1):
        needed = max(LOOP_COPIES * period, LOOP_TOKENS) - period
        same = ids[period:] == ids[:-period]
        ends = np.flatnonzero(np.concatenate([[True], ~same, [True]]))
        if np.diff(ends).max() - 1 >= needed:
            return True
    return False


def other_documents(doc_ids: Sequence[str], *, seed: int) -> list[int]:
    """For every row the index of a row of another document; each row is taken once.

    Where one document holds more than half of the rows, some get another row of their own."""
    order = sorted(range(len(doc_ids)), key=lambda row: doc_ids[row])
    n, most = len(order), max(Counter(doc_ids).values())
    apart = np.random.default_rng(seed).integers(most, n - most + 1) if 2 * most <= n else n // 2
    shift = int(apart)
    partners = dict(zip(order, order[shift:] + order[:shift], strict=True))
    return [partners[row] for row in range(n)]


def control_errors(
    ar: ActivationReconstructor,
    trip: RoundTrip,
    activations: Tensor,
    doc_ids: Sequence[str] | None = None,
    *,
    seed: int,
) -> dict[str, Tensor]:
    """Direction MSE [n] of what knows nothing of the single activation [n, d_model].

    The mean direction, explanations of other documents (of other rows without ``doc_ids``; one that
    was not extracted counts as orthogonal), an empty text, Gaussian vectors."""
    n, mean = len(activations), mean_direction(activations)
    other = other_documents([str(i) for i in range(n)] if doc_ids is None else doc_ids, seed=seed)
    own_seed = keyed_bits(seed, "", purpose="random activation control") >> 1
    noise = torch.randn(activations.shape, generator=torch.Generator().manual_seed(own_seed))
    kept = trip.extracted[other]
    orthogonal = torch.full((n,), ORTHOGONAL_MSE)
    shuffled = orthogonal.clone()
    shuffled[kept] = direction_mse(trip.vectors[other][kept], activations[kept])

    def errors(vectors: Tensor) -> Tensor:
        return direction_mse(vectors.expand_as(activations), activations)

    return {
        "mean_direction": errors(mean) if bool(mean.any()) else orthogonal,
        "shuffled_activations": shuffled,
        "empty_text": errors(ar.reconstruct([""])),
        "random_activation": errors(noise),
    }


def control_fves(
    ar: ActivationReconstructor,
    trip: RoundTrip,
    activations: Tensor,
    doc_ids: Sequence[str] | None = None,
    *,
    seed: int,
) -> dict[str, float]:
    """FVE of every control, over all rows; see ``control_errors``."""
    errors = control_errors(ar, trip, activations, doc_ids, seed=seed)
    return {
        name: fraction_of_variance_explained(each, trip.variance) for name, each in errors.items()
    }
