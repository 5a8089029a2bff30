"""Metrics and samples as JSON lines, and TensorBoard where asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, Self, TextIO

from gloss.durable import storage_errors, write_text
from gloss.errors import MissingExtraError
from gloss.foreign import json_text


class MetricsLog:
    """Appends JSON lines to ``folder``/metrics.jsonl and samples.jsonl; a context manager.

    On resume the lines of ``first_step`` and later are dropped: no step stands there twice."""

    def __init__(
        self, folder: Path, stage: str, *, first_step: int = 0, tensorboard: bool = False
    ) -> None:
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.stage, self.first_step = stage, first_step
        self._paths = folder / "metrics.jsonl", folder / "samples.jsonl"
        self._board = _tensorboard_writer(folder / "tensorboard") if tensorboard else None

    def __enter__(self) -> Self:
        for path in self._paths:
            _drop_lines_from(path, self.first_step)
        self._metrics, self._samples = (path.open("a", encoding="utf-8") for path in self._paths)
        return self

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """One line of numbers for ``step``."""
        self._write(self._metrics, {"stage": self.stage, "step": step, **_rounded(values)})
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{self.stage}/{name}", value, step)

    def sample(self, step: int, values: Mapping[str, Any]) -> None:
        """One line with an example explanation for ``step``."""
        self._write(self._samples, {"stage": self.stage, "step": step, **values})

    def _write(self, file: TextIO, values: Mapping[str, Any]) -> None:
        with storage_errors(Path(file.name)):
            file.write(json_text(values) + "\n")
            file.flush()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # The first error is the one to tell.
        with suppress(OSError) if kind is not None else nullcontext():
            self._metrics.close()
            self._samples.close()
        if self._board is not None:
            self._board.close()


def _rounded(values: Mapping[str, float]) -> dict[str, float | None]:
    return {
        name: round(value, 6) if math.isfinite(value) else None for name, value in values.items()
    }


def _drop_lines_from(path: Path, first_step: int) -> None:
    """Drops lines of ``first_step`` and later, and one that a killed process left unfinished."""
    if path.exists():
        *lines, _unfinished = path.read_text(encoding="utf-8", errors="replace").split("\n")
        write_text(path, "".join(f"{line}\n" for line in lines if _step_of(line) < first_step))


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _tensorboard_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("tensorboard", "tensorboard") from error
    return SummaryWriter(str(folder))
