"""What a Gloss server answers beside the results of questions, for the server and its clients."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gloss.errors import ActivationError
from gloss.nla.results import Score


@dataclass(frozen=True)
class ArrayAnswer:
    """Activations as base64 of little-endian float32 [n, d_model], exact and compact."""

    activations: str
    shape: tuple[int, int]

    @classmethod
    def of(cls, vectors: Tensor) -> ArrayAnswer:
        """The answer that holds vectors [n, d]."""
        rows = vectors.detach().cpu().float().contiguous().numpy().astype("<f4")
        return cls(base64.b64encode(rows.tobytes()).decode(), (rows.shape[0], rows.shape[1]))

    @property
    def vectors(self) -> Tensor:
        """The vectors [n, d]. Raises: as ``decode_array``."""
        return decode_array(self.activations, self.shape)


def decode_array(data: str, shape: Sequence[int] | None) -> Tensor:
    """Vectors [n, d] from base64.

    Raises: ActivationError if it is not base64 of as many numbers as the shape says.
    """
    if shape is None or len(shape) != 2 or shape[0] < 0 or shape[1] < 1:
        raise ActivationError(
            "base64 activations need their shape", expected="[n, d_model]", found=shape
        )
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ActivationError("the activations are not base64", found=str(error)) from error
    if len(raw) != 4 * shape[0] * shape[1]:
        expected = f"{4 * shape[0] * shape[1]} bytes"
        raise ActivationError(
            "the activations do not have their shape", expected=expected, found=len(raw)
        )
    return torch.from_numpy(np.frombuffer(raw, dtype="<f4").astype(np.float32).reshape(*shape))


@dataclass(frozen=True)
class ScoresAnswer:
    """Scores in the order of the explanations."""

    scores: list[Score]


@dataclass(frozen=True)
class LoadedNLA:
    """A loaded NLA. ``chat`` says whether the target has a chat template, ``fve`` is the held-out
    FVE that the checkpoint records."""

    name: str
    target: str | None
    layer: int
    d_model: int
    has_av: bool
    has_ar: bool
    has_target: bool
    chat: bool
    fve: float | None
    median_norm: float | None
    max_new_tokens: int
    direction_variance: float | None


@dataclass(frozen=True)
class NLAsAnswer:
    """All loaded NLAs, the default one first."""

    nlas: list[LoadedNLA]


@dataclass(frozen=True)
class RunEntry:
    """A run folder; ``updated`` is a Unix time."""

    id: str
    state: Literal["unfinished", "finished"]
    preset: str | None
    fve: float | None
    updated: float | None


@dataclass(frozen=True)
class RunsAnswer:
    """Run folders, the newest first."""

    runs: list[RunEntry]


@dataclass(frozen=True)
class RunAnswer:
    """What a run wrote down, as its files have it."""

    id: str
    metrics: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    results: dict[str, Any] | None
