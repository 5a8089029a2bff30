"""Checkpoints that a stopped run resumes from: parameters and optimizer moments in one safetensors file, written atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gloss.errors import ResumeError
from gloss.train.optimization import GuardedOptimizer


@dataclass(frozen=True)
class TrainedPart:
    """A module and the optimizer that trains it."""

    module: nn.Module
    optimizer: GuardedOptimizer


class TrainingState:
    """The resumable state of a loop in ``folder``: one file, replaced at every save.

    ``fingerprint`` identifies settings and inputs; a state with another one is refused.
    """

    def __init__(self, folder: Path, parts: Mapping[str, TrainedPart], fingerprint: str) -> None:
        self.path, self.parts, self.fingerprint = folder / "state.safetensors", parts, fingerprint

    def save(self, step: int) -> None:
        """Writes the state after ``step`` finished steps."""
        tensors: dict[str, Tensor] = {}
        skipped = {}
        for name, part in self.parts.items():
            skipped[name] = part.optimizer.skipped
            for key, parameter in part.module.named_parameters():
                if not parameter.requires_grad:
                    continue
                tensors[f"{name}/parameter/{key}"] = parameter.detach()
                for moment, value in part.optimizer.moments(parameter).items():
                    tensors[f"{name}/{moment}/{key}"] = value
        metadata = {"step": str(step), "fingerprint": self.fingerprint, "skipped": json.dumps(skipped)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        save_file(tensors, temporary, metadata=metadata)
        temporary.replace(self.path)

    def load(self) -> int:
        """Restores a saved state in place and returns how many steps it holds; 0 where nothing was saved.

        Raises: ResumeError if the state belongs to other settings.
        """
        if not self.path.exists():
            return 0
        with safe_open(self.path, "pt") as file:
            metadata = file.metadata()
            if metadata["fingerprint"] != self.fingerprint:
                raise ResumeError(
                    "this folder holds a run with other settings or inputs",
                    where=self.path.parent,
                    remedy="Choose another output folder, or remove this one",
                )
            skipped = json.loads(metadata["skipped"])
            for name, part in self.parts.items():
                part.optimizer.skipped = skipped[name]
                self._load_part(name, part, file)
        return int(metadata["step"])

    def _load_part(self, name: str, part: TrainedPart, file: Any) -> None:
        keys = set(file.keys())
        for key, parameter in part.module.named_parameters():
            if not parameter.requires_grad:
                continue
            with torch.no_grad():
                parameter.copy_(file.get_tensor(f"{name}/parameter/{key}"))
            saved = {k.split("/", 2)[1]: k for k in keys if k.startswith(f"{name}/") and k.split("/", 2)[2] == key}
            moments = {moment: file.get_tensor(place) for moment, place in saved.items() if moment != "parameter"}
            if moments:
                part.optimizer.restore(parameter, moments)

    def remove(self) -> None:
        """Deletes the state once the finished checkpoint is on disk."""
        self.path.unlink(missing_ok=True)
