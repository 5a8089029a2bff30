"""A run's series of checkpoints: at a few steps of joint RL both halves are measured and kept.

series.json                     per point its step, its measures, and the file of its weights
series/step-<step>.safetensors  what the weights are above the start of RL, in bfloat16

What is measured comes from above as a call; here the numbers have names only. A training that is
stopped and resumed measures the points behind its state again, with the same result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from gloss.data.document_sample import sample_documents
from gloss.durable import read_json, replaced_file, write_json
from gloss.engines import Engine
from gloss.errors import CheckpointError, ConfigError, DatasetError
from gloss.formatting import decimal
from gloss.models import ActivationReconstructor
from gloss.train.config import JointConfig
from gloss.train.inputs import TrainingRows

SERIES_NAME, WEIGHTS_FOLDER = "series.json", "series"
DELTA_BYTES = 2

SeriesMeasure = Callable[[Engine, ActivationReconstructor, TrainingRows], Mapping[str, Any]]
"""Measures an AV's engine and an AR on some rows: numbers by name."""
Parts = Mapping[str, nn.Module]
Entry = dict[str, Any]


def set_apart(rows: TrainingRows, config: JointConfig) -> tuple[list[int], TrainingRows | None]:
    """The rows to train on, and those that the series measures: no document is in both.

    Raises: DatasetError if nothing is left to train on."""
    if not config.series.points:
        return list(range(len(rows))), None
    measured = sample_documents(rows.doc_ids, config.series.rows, seed=config.seed)
    documents = {rows.doc_ids[row] for row in measured}
    trained = [row for row, doc_id in enumerate(rows.doc_ids) if doc_id not in documents]
    if len(trained) < config.prompts_per_step:
        raise DatasetError(
            "too few documents to train on beside those that joint.series measures",
            where=rows.path,
            expected=f"{config.prompts_per_step} rows or more, as joint.prompts_per_step",
            found=len(trained),
            remedy="Give more documents, lower joint.series.rows, or set joint.series.points=0",
        )
    return trained, rows.take(measured)


class Series:
    """The points of one training in ``folder``; those behind ``first_step`` are measured anew.

    ``parts`` are trained, ``starts`` gives both as they were before."""

    def __init__(
        self, folder: Path, config: JointConfig, parts: Parts, starts: Callable[[], Parts]
    ) -> None:
        self.folder, self.config, self._parts, self._starts = folder, config, parts, starts
        self.points = points_of(config)
        self.entries: list[Entry] = []
        size = sum(p.numel() for _, p in _trained(parts)) * DELTA_BYTES
        self._room = int(config.series.max_mb * 2**20) // max(1, size)
        if config.series.keep is not None and not self._room:
            raise ConfigError(
                "joint.series.max_mb: not even one checkpoint fits, so none could be kept",
                expected=f"{size / 2**20:,.1f} or more",
                found=config.series.max_mb,
            )

    def resume(self, first_step: int) -> None:
        """Takes up the points of an earlier start, as far as its saved state goes."""
        path = self.folder / SERIES_NAME
        earlier = read_json(path)["points"] if path.exists() else []
        self.entries = [entry for entry in earlier if entry["step"] < first_step]

    def reach(self, step: int, measure: Callable[[], Mapping[str, Any]]) -> str | None:
        """Measures and keeps the halves where ``step`` is a point; why to stop, if so.

        Raises: ConfigError if a measure that decides on something is not among the numbers."""
        if step not in self.points:
            return None
        numbers = measure()
        for name in self.config.judged_by:
            if numbers.get(name) is None:
                raise ConfigError(
                    "joint: decides by a number that is not measured here",
                    expected="one of "
                    + ", ".join(name for name, number in numbers.items() if number is not None),
                    found=name,
                )
        self.entries.append({"step": step, "weights": self._saved(step), **numbers})
        self._make_room()
        write_json(
            self.folder / SERIES_NAME, {"keep": self.config.series.keep, "points": self.entries}
        )
        return self._reason_to_stop()

    @property
    def best(self) -> Entry:
        """The point that becomes the NLA, among the last and those whose weights are there; the
        earliest of equal ones."""
        rule, name = self.config.stop_when, self.config.series.keep
        if name is None and rule is not None and self._reason_to_stop() is not None:
            name = rule.falls
        last = self.entries[-1]
        there = [e for e in self.entries if e["weights"] or not e["step"] or e is last]
        return last if name is None else max(there, key=lambda entry: entry[name])

    def restore(self, entry: Entry) -> None:
        """Gives the halves the weights of a point. Raises: CheckpointError if they have gone."""
        put_back(self.folder, entry, self._parts, self._starts())

    def _saved(self, step: int) -> str | None:
        """Writes a point's weights; None for the start, which is on disk anyway."""
        if not self._room or not step:
            return None
        start = dict(_trained(self._starts()))
        deltas = {
            name: (value.detach() - start[name].detach().to(value.device)).to("cpu", torch.bfloat16)
            for name, value in _trained(self._parts)
        }
        name = f"{WEIGHTS_FOLDER}/step-{step:06d}.safetensors"
        (self.folder / WEIGHTS_FOLDER).mkdir(parents=True, exist_ok=True)
        with replaced_file(self.folder / name) as temporary:
            save_file(deltas, temporary)
        return name

    def _make_room(self) -> None:
        """Drops the weights of the worst points, or the oldest where nothing is chosen by."""
        rule = self.config.stop_when
        by = self.config.series.keep or (rule.falls if rule else "step")
        kept = sorted((e for e in self.entries if e["weights"]), key=lambda e: float(e[by]))
        for entry in kept[: max(0, len(kept) - self._room)]:
            (self.folder / entry["weights"]).unlink(missing_ok=True)
            entry["weights"] = None

    def _reason_to_stop(self) -> str | None:
        rule = self.config.stop_when
        if rule is None or len(self.entries) <= rule.points:
            return None
        last = self.entries[-rule.points - 1 :]
        falling, rising = (
            [entry[name] for entry in last] for name in (rule.falls, rule.while_rises)
        )
        pairs = zip(falling, falling[1:], rising, rising[1:], strict=False)
        if not all(now < before and more > less for before, now, less, more in pairs):
            return None
        fell, rose = (f"{decimal(x[0], 3)} to {decimal(x[-1], 3)}" for x in (falling, rising))
        where = f"between steps {last[0]['step']} and {last[-1]['step']}"
        return f"{rule.falls} fell from {fell} while {rule.while_rises} rose from {rose} {where}"


def points_of(config: JointConfig) -> list[int]:
    """The steps behind which a point is taken, the start among them; none for a series of none."""
    count = config.series.points
    return [round(i * config.steps / count) for i in range(count + 1)] if count else []


def put_back(folder: Path, entry: Entry, parts: Parts, starts: Parts) -> None:
    """Gives ``parts`` the weights of a point: the start and what it had learned by then.

    Raises: CheckpointError if the point's weights were not kept or cannot be read."""
    deltas: Mapping[str, torch.Tensor] = {}
    if entry["step"]:
        if not entry["weights"]:
            what = f"the weights of step {entry['step']} were not kept"
            raise CheckpointError(what, where=folder, remedy="Raise joint.series.max_mb")
        try:
            deltas = load_file(folder / entry["weights"])
        except (OSError, SafetensorError) as error:
            what = f"cannot read the weights of step {entry['step']}"
            raise CheckpointError(what, where=folder, found=str(error)) from error
    start = dict(_trained(starts))
    with torch.no_grad():
        for name, value in _trained(parts):
            value.copy_(start[name])
            if name in deltas:
                value.add_(deltas[name].to(value.device, value.dtype))


def _trained(parts: Parts) -> list[tuple[str, nn.Parameter]]:
    return [
        (f"{part}/{name}", parameter)
        for part, module in parts.items()
        for name, parameter in module.named_parameters()
    ]
