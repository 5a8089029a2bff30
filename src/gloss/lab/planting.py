"""Facts planted in the lab target's residual stream, so that what its activations hold is known.

directions  = fixed random unit vectors of a held kind: one per value and one for "nothing is known
              yet", centred within the kind
h           = residual stream behind block ``PLANTED_LAYER``, divided by its RMS  [texts, tokens, d]
logits      = strength · h · directions of a kind
loss        = cross-entropy of every held kind's value so far, mean over kinds and tokens, where
              "nothing" counts ``NOTHING_WEIGHT``

The next-token loss is trained beside it, unchanged. Kinds that are told but not held get no such
term."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gloss.lab.documents import LabDocument
from gloss.lab.wording_facts import HELD, VALUES

PLANTED_LAYER = 2
NOTHING_WEIGHT = 0.2
UNREAD = -1
"""Of tokens outside of documents: nothing is asked of them."""
NOTHING = {kind: len(VALUES[kind]) for kind in HELD}
"""Index, behind those of the values, of what says that none is known yet."""
_INDEX = {kind: {value: i for i, value in enumerate(VALUES[kind])} for kind in HELD}


def planted_directions(d_model: int) -> dict[str, Tensor]:
    """Directions by held kind: unit vectors [values + 1, d_model], the last for ``NOTHING``; the
    same for every training."""
    found = {}
    for number, kind in enumerate(HELD):
        generator = torch.Generator().manual_seed(number)
        vectors = torch.randn(NOTHING[kind] + 1, d_model, generator=generator)
        found[kind] = nn.functional.normalize(vectors - vectors.mean(dim=0), dim=1)
    return found


def known_values(document: LabDocument, token_ends: Sequence[int]) -> Tensor:
    """Index of each held kind's value after each token, ``NOTHING`` where none is known;
    [tokens, kinds].

    ``token_ends`` are offsets of characters in the rendered document."""
    labels = torch.tensor([list(NOTHING.values())]).repeat(len(token_ends), 1)
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
    total, weights = h.new_zeros(()), 0.0
    for number, (kind, nothing) in enumerate(NOTHING.items()):
        labels_, read = labels[..., number], labels[..., number] != UNREAD
        losses = nn.functional.cross_entropy(
            strength * h[read] @ directions[kind].T, labels_[read], reduction="none"
        )
        weight = torch.where(labels_[read] == nothing, NOTHING_WEIGHT, 1.0)
        total = total + (weight * losses).sum()
        weights += float(weight.sum())
    return total / max(weights, 1.0)
