"""Facts planted in the lab target's residual stream, so that what its activations hold is known.

directions  = one fixed random unit vector per value of a held kind, centred within the kind
h           = residual stream behind block ``PLANTED_LAYER``, divided by its RMS  [texts, tokens, d]
logits      = strength · h · directions of a kind
loss        = cross-entropy of every held fact that is known so far, mean over facts and tokens

The next-token loss is trained beside it, unchanged. Kinds that are told but not held get no such
term."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gloss.lab.documents import LabDocument
from gloss.lab.wording_facts import HELD, VALUES

PLANTED_LAYER = 2
UNKNOWN = -1
_INDEX = {kind: {value: i for i, value in enumerate(VALUES[kind])} for kind in HELD}


def planted_directions(d_model: int) -> dict[str, Tensor]:
    """Directions by held kind: unit vectors [values, d_model], the same for every training."""
    found = {}
    for number, kind in enumerate(HELD):
        generator = torch.Generator().manual_seed(number)
        vectors = torch.randn(len(VALUES[kind]), d_model, generator=generator)
        found[kind] = nn.functional.normalize(vectors - vectors.mean(dim=0), dim=1)
    return found


def known_values(document: LabDocument, token_ends: Sequence[int]) -> Tensor:
    """Index of each held kind's value after each token, −1 where none is known; [tokens, kinds].

    ``token_ends`` are offsets of characters in the rendered document."""
    labels = torch.full((len(token_ends), len(HELD)), UNKNOWN, dtype=torch.long)
    ends = torch.tensor(token_ends)
    for fact in document.facts:
        if fact.kind in _INDEX:
            last = ends.max() if fact.end is None else fact.end
            here = (ends >= fact.start) & (ends <= last)
            labels[here, HELD.index(fact.kind)] = _INDEX[fact.kind][fact.value]
    return labels


def planting_loss(
    residuals: Tensor, labels: Tensor, directions: dict[str, Tensor], strength: float
) -> Tensor:
    """The loss above, in nats; residuals [texts, tokens, d], labels [texts, tokens, kinds]."""
    h = residuals.float()
    h = h / h.pow(2).mean(dim=-1, keepdim=True).sqrt().clamp_min(1e-6)
    total, count = h.new_zeros(()), 0
    for number, kind in enumerate(HELD):
        known = labels[..., number] != UNKNOWN
        logits = strength * h[known] @ directions[kind].T
        total = total + nn.functional.cross_entropy(
            logits, labels[..., number][known], reduction="sum"
        )
        count += int(known.sum())
    return total / max(count, 1)
