"""What a stopped run resumes from: parameters, optimizer moments and the step, checksummed.

There is no generator state and no data cursor: row order and sampling are functions of
(seed, step), see ``batches.py``."""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gloss.durable import read_json, replaced_file, write_json
from gloss.stopping import StopRequest
from gloss.store.record import require_same_settings
from gloss.target_model import weights_fingerprint
from gloss.train.optimization import GuardedOptimizer

KEPT_STATES = 2
FINISHED_NAME = "finished.json"


class _TornState(Exception):
    """A state file that was cut off or changed; its message says how it shows."""


@dataclass(frozen=True)
class TrainedPart:
    """A module and the optimizer that trains it."""

    module: nn.Module
    optimizer: GuardedOptimizer


class TrainingState:
    """A loop's state: ``state-<step>.safetensors`` while it runs, then ``finished.json``.

    ``settings`` (JSON values) is all the result depends on; the weights at the start are added, so
    make it before anything is trained. A folder with other settings is refused."""

    def __init__(
        self, folder: Path, parts: Mapping[str, TrainedPart], settings: Mapping[str, Any]
    ) -> None:
        self.folder, self.parts = folder, parts
        start = {name: weights_fingerprint(part.module) for name, part in parts.items()}
        self.settings: dict[str, Any] = json.loads(json.dumps({**settings, "start": start}))
        self.first_step = 0

    @property
    def files(self) -> list[Path]:
        """Saved states, newest first."""
        return sorted(self.folder.glob("state-*.safetensors"), reverse=True)

    def save(self, step: int) -> None:
        """Writes the state after ``step`` finished steps; the newest two are kept."""
        tensors = dict(self._tensors())
        metadata = {
            "step": str(step),
            "settings": json.dumps(self.settings),
            "skipped": json.dumps(
                {name: part.optimizer.skipped for name, part in self.parts.items()}
            ),
            "checksums": json.dumps({key: _checksum(tensor) for key, tensor in tensors.items()}),
        }
        with replaced_file(self.folder / f"state-{step:08d}.safetensors") as temporary:
            save_file(tensors, temporary, metadata=metadata)
        for old in self.files[KEPT_STATES:]:
            old.unlink()

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, part in self.parts.items():
            for key, parameter in part.module.named_parameters():
                if parameter.requires_grad:
                    yield f"{name}/parameter/{key}", parameter.detach().contiguous()
                    for moment, value in part.optimizer.moments(parameter).items():
                        yield f"{name}/{moment}/{key}", value

    def load(self) -> int:
        """Restores the newest whole state and returns its steps, 0 without one; names torn ones.

        Raises: ResumeError if a state belongs to other settings, naming what differs."""
        for file in self.files:
            try:
                self.first_step = self._restore(file)
                return self.first_step
            except _TornState as torn:
                print(
                    f"gloss: {file}: damaged ({torn}); going on from the state before it",
                    file=sys.stderr,
                )
        return 0

    def _restore(self, path: Path) -> int:
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata()
                require_same_settings(json.loads(metadata["settings"]), self.settings, where=path)
                checksums = json.loads(metadata["checksums"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            step, skipped = int(metadata["step"]), json.loads(metadata["skipped"])
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise _TornState(
                str(error).splitlines()[0][:120] if str(error) else type(error).__name__
            ) from error
        if checksums.keys() != tensors.keys():
            raise _TornState("tensors are missing")
        wrong = [key for key, tensor in tensors.items() if _checksum(tensor) != checksums[key]]
        if wrong:
            raise _TornState(f"the checksum of {wrong[0]} does not fit")
        for name, part in self.parts.items():
            part.optimizer.skipped = skipped[name]
            _put_back(
                part,
                {
                    k.removeprefix(f"{name}/"): v
                    for k, v in tensors.items()
                    if k.startswith(f"{name}/")
                },
            )
        return step

    def steps(self, total: int, every: int, stop: StopRequest) -> Iterator[int]:
        """The steps still to do; saves behind every ``every``-th one, and before it is stopped."""
        for step in range(self.first_step, total):
            yield step
            if (step + 1) % every == 0 or stop.requested:
                self.save(step + 1)
            stop.obey()

    def finish(self, result: Mapping[str, Any]) -> None:
        """Records that the checkpoint is on disk, with numbers for next time; drops the states."""
        write_json(self.folder / FINISHED_NAME, {"settings": self.settings, "result": dict(result)})
        for file in self.files:
            file.unlink()

    def finished(self, *checkpoints: Path) -> dict[str, Any] | None:
        """What ``finish`` was given earlier; None without, or if a checkpoint has gone."""
        path = self.folder / FINISHED_NAME
        if not path.exists():
            return None
        record = read_json(path)
        require_same_settings(record["settings"], self.settings, where=path)
        if not all(checkpoint.is_dir() for checkpoint in checkpoints):
            return None
        result: dict[str, Any] = record["result"]
        return result


def _checksum(tensor: Tensor) -> int:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    content: Any = flat.view(torch.uint8).numpy()
    return zlib.crc32(content)


def _put_back(part: TrainedPart, tensors: Mapping[str, Tensor]) -> None:
    moments: dict[str, dict[str, Tensor]] = {}
    for place, tensor in tensors.items():
        moment, _, key = place.partition("/")
        moments.setdefault(key, {})[moment] = tensor
    for key, parameter in part.module.named_parameters():
        if not parameter.requires_grad:
            continue
        saved = moments[key]
        with torch.no_grad():
            parameter.copy_(saved.pop("parameter"))
        if saved:
            part.optimizer.restore(parameter, saved)
