"""The files of a run, read once: what is missing becomes a note, never an error, except for the
results themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloss.contract.files import RESULTS_NAME
from gloss.errors import ConfigError
from gloss.formatting import cleaned

METRICS_NAME = "metrics.jsonl"
SAMPLES_NAME = "samples.jsonl"

Rows = tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class RunFiles:
    """What a run folder holds: the results, metrics and samples of joint RL, and notes on what
    could not be read.
    """

    name: str
    results: Mapping[str, Any]
    metrics: Rows
    samples: Rows
    notes: tuple[str, ...]


def read_run(run_dir: Path) -> RunFiles:
    """Reads a run folder.

    Raises: ConfigError if ``results.json`` is missing or is not a JSON object.
    """
    results = read_run_results(run_dir / RESULTS_NAME)
    metrics, metrics_notes = read_rows(run_dir / METRICS_NAME)
    samples, samples_notes = read_rows(run_dir / SAMPLES_NAME)
    notes = (*metrics_notes, *samples_notes)
    return RunFiles(
        cleaned(run_dir.resolve().name), results, _of_joint(metrics), _of_joint(samples), notes
    )


def section(results: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of the results, empty where it is missing or null."""
    part = results.get(name)
    return part if isinstance(part, Mapping) else {}


def read_run_results(path: Path) -> Mapping[str, Any]:
    """The results of a run. Raises: ConfigError if the file is missing or is not a JSON object."""
    remedy = "Give the folder of a finished run; 'gloss quickstart' makes one"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError("no results to report", where=path, remedy=remedy) from None
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}"
        raise ConfigError(
            "the results are not JSON", where=where, found=error.msg, remedy=remedy
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "the results cannot be read", where=path, found=error, remedy=remedy
        ) from error
    if not isinstance(results, dict):
        found = type(results).__name__
        raise ConfigError(
            "wrong results", where=path, expected="a JSON object", found=found, remedy=remedy
        )
    return dict(cleaned(results))


def read_rows(path: Path) -> tuple[list[Mapping[str, Any]], list[str]]:
    """The rows of a file of JSON lines that have a step, and notes on those that could not be
    read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return [], [f"{path.name} is not in the run folder; what is drawn from it is left out."]
    found = [_row(line) for line in text.split("\n") if line.strip()]
    rows = [row for row in found if row is not None]
    unreadable = len(found) - len(rows)
    if not unreadable:
        return rows, []
    lines = "line" if unreadable == 1 else "lines"
    return rows, [
        f"{unreadable} {lines} of {path.name} could not be read (cut off while writing?) and left"
        " out."
    ]


def _row(line: str) -> Mapping[str, Any] | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return cleaned(row) if isinstance(row, dict) and isinstance(row.get("step"), int) else None


def _of_joint(rows: list[Mapping[str, Any]]) -> Rows:
    joint = [row for row in rows if row.get("stage", "joint") == "joint"]
    return tuple(sorted(joint, key=lambda row: int(row["step"])))
