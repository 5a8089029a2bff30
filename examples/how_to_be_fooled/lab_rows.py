"""Activations of the shipped target at tokens of lab documents, with what is known of each."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from gloss.evaluate import FactRows
from gloss.formatting import decimal
from gloss.lab import (
    LabJudge,
    document_by_id,
    generate_documents,
    lab_target_folder,
    render,
    write_label,
)
from gloss.models import direction_mse, direction_variance, fraction_of_variance_explained
from gloss.target_model import Target, capture_activations, load_target

LAYER, FIRST_POSITION, POSITIONS = 2, 10, 8
READ, FITTED = (100, 1), (300, 2)
"""Number and seed of the documents that are scored, and that classifiers are fitted on."""
JUDGE = LabJudge()
Found = Mapping[str, float | int | str]
"""What the page shows: shares and FVE as floats, counts as integers, texts."""


def as_lines(found: Found) -> list[str]:
    """As the page shows it."""
    return [
        f"{name:<50}{decimal(value) if isinstance(value, float) else value}"
        for name, value in found.items()
    ]


@dataclass(frozen=True)
class Rows:
    """Activations [n, d_model] at tokens of lab documents, and the text up to each."""

    activations: Tensor
    doc_ids: list[str]
    contexts: list[str]
    positions: list[int]

    @property
    def variance(self) -> float:
        """Of the directions."""
        return direction_variance(self.activations)

    @property
    def facts(self) -> FactRows:
        """With what is known at each row."""
        known = [JUDGE.known(*at) for at in zip(self.doc_ids, self.contexts, strict=True)]
        return FactRows(self.activations.numpy(), known, self.doc_ids)

    def fve(self, predicted: Tensor) -> float:
        """FVE of vectors [n, d_model], or of one for all."""
        errors = direction_mse(predicted.expand_as(self.activations), self.activations)
        return fraction_of_variance_explained(errors, self.variance)

    def labels(self, error_rate: float = 0.08) -> list[str]:
        """What the label writer says of each row's text."""
        texts = []
        for doc_id, context, at in zip(self.doc_ids, self.contexts, self.positions, strict=True):
            document, end = document_by_id(doc_id), len(context)
            texts.append(write_label(document, end, seed=0, position=at, error_rate=error_rate))
        return texts


@cache
def target() -> Target:
    """The shipped target."""
    return load_target(lab_target_folder())


@cache
def rows(number: int, seed: int, layer: int = LAYER) -> Rows:
    """Eight tokens at random of each document, none of the first ten."""
    states, doc_ids, contexts, positions = list[Tensor](), list[str](), list[str](), list[int]()
    for document in generate_documents(number, seed):
        text = render(document)
        read = target().tokenizer(text, return_offsets_mapping=True)
        ids = torch.tensor([read["input_ids"]])
        where = range(FIRST_POSITION, ids.shape[1])
        chosen = random.Random(document.doc_id).sample(where, min(POSITIONS, len(where)))
        with torch.no_grad():
            captured = capture_activations(target().model, ids, None, layer)[0].float()
        states.append(captured[chosen])
        doc_ids += [document.doc_id] * len(chosen)
        contexts += [text[: read["offset_mapping"][i][1]] for i in chosen]
        positions += chosen
    return Rows(torch.cat(states), doc_ids, contexts, positions)


def share_of_commonest(kind: str, facts: FactRows) -> float:
    """What always saying the commonest value gets right."""
    values = Counter(known[kind] for known in facts.known if kind in known)
    return max(values.values()) / sum(values.values())


def end_of(text: str, chars: int = 56) -> str:
    """The last whole words."""
    return "… " + " ".join(text.split())[-chars:].partition(" ")[2]


def measured(value: Any) -> Any:
    """A number that must be there."""
    assert value is not None
    return value
