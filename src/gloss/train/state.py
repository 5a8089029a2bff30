"""What a stopped run resumes from: parameters, optimizer moments and the step, with checksums; the
newest two states are kept.

There is no generator state and no data cursor to save: row order and sampling are functions of
(seed, step)."""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gloss.durable import read_json, replaced_file, write_json
from gloss.errors import cause
from gloss.stopping import StopRequest
from gloss.store.record import require_same_settings
from gloss.target_model import weights_fingerprint
from gloss.train.optimization import GuardedOptimizer

KEPT_STATES = 2
FINISHED_NAME = "finished.json"


def batch_rows(
    num_rows: int, batch_size: int, step: int, seed: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Row indices of step ``step``, a function of seed and step alone: every epoch is a permutation
    of all rows keyed on (seed, epoch); [batch_size].
    """
    start, rows = step * batch_size, np.empty(0, dtype=np.int64)
    while len(rows) < batch_size:
        epoch, offset = divmod(start + len(rows), num_rows)
        order = np.random.default_rng([seed, epoch]).permutation(num_rows)
        rows = np.concatenate([rows, order[offset : offset + batch_size - len(rows)]])
    return rows


def step_seed(seed: int, step: int) -> int:
    """A seed for the sampling of one step."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, dtype=np.uint64)[0] >> 1)


class _TornState(Exception):
    """A state file that was cut off or changed; its message says how it shows."""


@dataclass(frozen=True)
class TrainedPart:
    """A module and the optimizer that trains it."""

    module: nn.Module
    optimizer: GuardedOptimizer


class TrainingState:
    """The resumable state of a loop in ``folder``: ``state-<step>.safetensors`` while it runs,
    ``finished.json`` afterwards.

    ``settings`` is everything the result depends on (JSON values), to which the parts' weights at
    the start are added; a folder with other settings is refused. Make it before anything is
    trained."""

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
        """Writes the state after ``step`` finished steps and drops all but the newest two.

        Raises: StorageError.
        """
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
        """Restores the newest whole state in place and returns how many steps it holds; 0 where
        none was saved.

        A torn one is named on standard error and the one before it is used.
        Raises: ResumeError if a state belongs to other settings, naming what differs.
        """
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
            raise _TornState(cause(error)) from error
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
        """The steps still to do; saves behind every ``every``-th one, and behind the one in which a
        stop was asked for.
        """
        for step in range(self.first_step, total):
            yield step
            if (step + 1) % every == 0 or stop.requested:
                self.save(step + 1)
            stop.obey()

    def finish(self, result: Mapping[str, Any]) -> None:
        """Records that the trained checkpoint is on disk, with a few numbers to return next time,
        and drops the states.
        """
        write_json(self.folder / FINISHED_NAME, {"settings": self.settings, "result": dict(result)})
        for file in self.files:
            file.unlink()

    def finished(self, *checkpoints: Path) -> dict[str, Any] | None:
        """What ``finish`` was given by an earlier run with these settings; None if there was none
        or a checkpoint has gone.

        Raises: ResumeError if it had other settings.
        """
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
    """Copies ``parameter/<name>`` and ``<moment>/<name>`` back into a part."""
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
