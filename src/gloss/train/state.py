"""What a stopped run resumes from: parameters, optimizer moments and the step, checksummed.

There is no generator state and no data cursor: row order and sampling are functions of
(seed, step), see ``batches.py``."""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gloss.durable import read_json, replaced_file, write_json
from gloss.errors import first_line
from gloss.foreign import json_text
from gloss.progress import Stage
from gloss.stopping import StopRequest, deferred_stop
from gloss.store.digests import check_digests, digests_of
from gloss.store.record import require_same_settings
from gloss.target_model import weights_fingerprint
from gloss.train.config import JointConfig, SFTConfig
from gloss.train.metrics import MetricsLog
from gloss.train.optimization import GuardedOptimizer

KEPT_STATES = 2
FINISHED_NAME = "finished.json"


@dataclass(frozen=True)
class TrainedPart:
    """A module and the optimizer that trains it."""

    module: nn.Module
    optimizer: GuardedOptimizer


class TrainingState:
    """A loop's state: ``state-<step>.safetensors`` while it runs, then ``finished.json``.

    ``settings`` (JSON values) is all the result depends on; the weights at the start are added, so
    make it before anything is trained. A folder with other settings is refused; one that an older
    Gloss wrote without a setting is taken to have had its default, of ``defaults``."""

    def __init__(
        self,
        folder: Path,
        parts: Mapping[str, TrainedPart],
        settings: Mapping[str, Any],
        *,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self.parts, self._defaults = folder, parts, defaults or {}
        start = {name: weights_fingerprint(part.module) for name, part in parts.items()}
        self.settings: dict[str, Any] = json.loads(json_text({**settings, "start": start}))
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
            "settings": json_text(self.settings, only_ascii=True),
            "skipped": json_text({n: part.optimizer.skipped for n, part in self.parts.items()}),
            "checksums": json_text({key: _checksum(tensor) for key, tensor in tensors.items()}),
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
                step, skipped, tensors = self._read(file)
            except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
                torn = f"gloss: {file}: damaged ({first_line(error)})"
                print(f"{torn}; going on from the state before it", file=sys.stderr)
                continue
            for name, part in self.parts.items():
                part.optimizer.skipped = skipped[name]
                _put_back(part, f"{name}/", tensors)
            self.first_step = step
            return step
        return 0

    def _read(self, path: Path) -> tuple[int, dict[str, int], dict[str, Tensor]]:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            self._require_same(json.loads(metadata["settings"]), path)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        checksums = json.loads(metadata["checksums"])
        if checksums.keys() != tensors.keys():
            raise ValueError("tensors are missing")
        for key, tensor in tensors.items():
            if _checksum(tensor) != checksums[key]:
                raise ValueError(f"the checksum of {key} does not fit")
        return int(metadata["step"]), json.loads(metadata["skipped"]), tensors

    def _require_same(self, found: Any, path: Path) -> None:
        require_same_settings(found, self.settings, where=path, defaults=self._defaults)

    def steps(self, total: int, every: int, stop: StopRequest) -> Iterator[int]:
        """The steps still to do; saves behind every ``every``-th one, and before it is stopped."""
        for step in range(self.first_step, total):
            yield step
            if (step + 1) % every == 0 or stop.requested:
                self.save(step + 1)
            stop.obey()

    @contextmanager
    def loop(
        self, config: SFTConfig | JointConfig, stage: str, title: str, total: int
    ) -> Iterator[tuple[Iterator[int], MetricsLog, Stage]]:
        """Goes on from the newest state: the ``steps``, where they log, and how they progress."""
        first = self.load()
        with (
            deferred_stop() as stop,
            MetricsLog(self.folder, stage, first_step=first, tensorboard=config.tensorboard) as log,
            Stage(title, total=total, unit="step", initial=first) as progress,
        ):
            yield self.steps(total, config.checkpoint_every, stop), log, progress

    def finish(self, result: dict[str, Any], *checkpoints: Path) -> dict[str, Any]:
        """Records that the checkpoints are on disk, with numbers for next time; drops the
        states."""
        files = digests_of(checkpoints, self.folder)
        record = {"settings": self.settings, "result": result, "files": files}
        write_json(self.folder / FINISHED_NAME, record)
        for file in self.files:
            file.unlink()
        return result

    def finished(self, *checkpoints: Path) -> dict[str, Any] | None:
        """What ``finish`` was given earlier; None without, or if a checkpoint has gone.

        Raises: ResumeError for other settings, or a checkpoint that is not what was saved."""
        path = self.folder / FINISHED_NAME
        if not path.exists():
            return None
        record = read_json(path)
        self._require_same(record["settings"], path)
        if not all(place.is_dir() for place in checkpoints):
            return None
        check_digests(record.get("files", {}), self.folder, stage=self.folder.name, use="wrote")
        result: dict[str, Any] = record["result"]
        return result


def _checksum(tensor: Tensor) -> int:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return zlib.crc32(flat.view(torch.uint8).numpy().data)


def _put_back(part: TrainedPart, prefix: str, tensors: Mapping[str, Tensor]) -> None:
    saved: dict[str, dict[str, Tensor]] = {}
    for place, tensor in tensors.items():
        if place.startswith(prefix):
            moment, _, key = place.removeprefix(prefix).partition("/")
            saved.setdefault(key, {})[moment] = tensor
    for key, parameter in part.module.named_parameters():
        if parameter.requires_grad:
            moments = saved[key]
            with torch.no_grad():
                parameter.copy_(moments.pop("parameter"))
            if moments:
                part.optimizer.restore(parameter, moments)
