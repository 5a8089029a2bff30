"""Put activations in the place of the injection marker's embedding."""

from __future__ import annotations

import torch
from torch import Tensor

from gloss.contract import InjectionMarker
from gloss.errors import InjectionError
from gloss.models.geometry import scale_to_norm


def injection_rows(activations: Tensor, injection_scale: float | None) -> Tensor:
    """Activations as they are injected: rescaled to ``injection_scale``, or raw if it is None; [n,
    d] → [n, d] float32.

    Raises: ActivationError if a row is zero or not finite.
    """
    if injection_scale is None:
        scale_to_norm(activations, 1.0)
        return activations.float()
    return scale_to_norm(activations, injection_scale)


def injection_sites(input_ids: Tensor, marker: InjectionMarker) -> Tensor:
    """Where the marker stands with both its neighbours; [batch, tokens] → bool [batch, tokens]."""
    found = torch.zeros_like(input_ids, dtype=torch.bool)
    found[:, 1:-1] = (
        (input_ids[:, 1:-1] == marker.token_id)
        & (input_ids[:, :-2] == marker.left_neighbor_id)
        & (input_ids[:, 2:] == marker.right_neighbor_id)
    )
    return found


def inject(
    embeddings: Tensor,
    input_ids: Tensor,
    activations: Tensor,
    *,
    marker: InjectionMarker,
    injection_scale: float | None,
) -> Tensor:
    """The embeddings with each row's marker replaced by its activation.

    ``embeddings`` are what the first block reads (after any √d factor of the embedding module).
    Shapes: embeddings [batch, tokens, d], input_ids [batch, tokens], activations [batch, d].
    Raises: InjectionError unless every row holds exactly one marker; ActivationError for a zero or
    non-finite activation."""
    sites = injection_sites(input_ids, marker)
    counts = sites.sum(dim=1)
    if len(activations) != len(input_ids) or not bool((counts == 1).all()):
        raise InjectionError(
            f"marker {marker.char!r} and activations do not match",
            expected=f"one marker between its neighbours in each of {len(activations)} rows",
            found=f"{counts.tolist()[:8]} in {len(input_ids)} rows",
            remedy="Check the prompt template and the tokenizer against the sidecar",
        )
    if activations.shape[-1] != embeddings.shape[-1]:
        raise InjectionError(
            "wrong activation width", expected=embeddings.shape[-1], found=activations.shape[-1]
        )
    rows = injection_rows(activations, injection_scale).to(embeddings.dtype)
    return torch.where(sites.unsqueeze(-1), rows.unsqueeze(1), embeddings)
