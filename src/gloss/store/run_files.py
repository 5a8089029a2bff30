"""The files of a run: what is missing becomes a note, except for the results themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, StrictFloat, StrictInt, ValidationError

from gloss.contract.files import RESULTS_NAME
from gloss.errors import ConfigError, CorpusError
from gloss.formatting import cleaned
from gloss.text.document import read_json_file

METRICS_NAME, SAMPLES_NAME = "metrics.jsonl", "samples.jsonl"
Rows = tuple[Mapping[str, Any], ...]
Number = StrictInt | StrictFloat | None
Numbers = Mapping[str, Number | list[Number]] | None


class _Example(BaseModel):
    """Of an entry of ``examples`` what is counted with or walked through."""

    position: Number = None
    fve: Number = None
    cosine: Number = None
    facts: Mapping[str, Any] | None = None
    claims: list[Mapping[str, Any]] | None = None
    flags: list[Any] | None = None


class _Results(BaseModel):
    """Of ``results.json`` what is counted with or walked through."""

    fve: Numbers = None
    fve_extracted: Numbers = None
    gains: Mapping[str, Any] | None = None
    controls: Numbers = None
    claims: Mapping[str, Mapping[str, Any] | None] | None = None
    seconds: Numbers = None
    versions: Mapping[str, Any] | None = None
    examples: list[_Example] | None = None
    heldout_errors: list[Number] | None = None
    layer: Number = None
    n_heldout: Number = None
    n_heldout_documents: Number = None
    extraction_failure_rate: Number = None
    extraction_failure_rate_sampled: Number = None
    loop_rate: Number = None
    mean_explanation_tokens: Number = None


@dataclass(frozen=True)
class RunFiles:
    """The results, metrics and samples of joint RL, and notes on what could not be read."""

    name: str
    results: Mapping[str, Any]
    metrics: Rows
    samples: Rows
    notes: tuple[str, ...]


def read_run(run_dir: Path) -> RunFiles:
    """Reads a run folder. Raises: ConfigError if ``results.json`` is missing or is no object."""
    name, results = cleaned(run_dir.resolve().name), read_run_results(run_dir / RESULTS_NAME)
    metrics, first_notes = read_rows(run_dir / METRICS_NAME)
    samples, notes = read_rows(run_dir / SAMPLES_NAME)
    notes = [*first_notes, *notes]
    return RunFiles(name, results, _of_joint(metrics), _of_joint(samples), tuple(notes))


def section(results: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of the results, empty where it is missing or null."""
    part = results.get(name)
    return part if isinstance(part, Mapping) else {}


def read_run_results(path: Path) -> Mapping[str, Any]:
    """The results of a run. Raises: ConfigError if they are missing, or are no measurements."""
    wrong = partial(
        ConfigError, remedy="Give the folder of a finished run; 'gloss quickstart' makes one"
    )
    try:
        results = read_json_file(path)
    except CorpusError as error:
        raise wrong(f"no results of a run: {error.what}", where=path) from error
    if not isinstance(results, dict):
        found = type(results).__name__
        raise wrong("wrong results", where=path, expected="a JSON object", found=found)
    try:
        checked = _Results.model_validate(results)
    except ValidationError as error:
        raise wrong(**_what_is_wrong(error), where=path) from error
    if not any(isinstance(value, int | float) for value in (checked.fve or {}).values()):
        raise wrong("no results of a run", where=path, expected="an FVE, as a finished run has")
    return dict(cleaned(results))


def _what_is_wrong(error: ValidationError) -> dict[str, str]:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if str(part) not in ("int", "float", "list")]
    return {
        "what": "wrong " + ".".join(part for part in place if "[" not in part),
        "expected": first["msg"].removeprefix("Input should be "),
        "found": repr(first["input"])[:80],
    }


def read_rows(path: Path) -> tuple[list[Mapping[str, Any]], list[str]]:
    """The rows of a JSON lines file that have a step, and notes on those that cannot be read."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return [], [f"{path.name} is not in the run folder; what is drawn from it is left out."]
    found = [_row(line) for line in text.split("\n") if line.strip()]
    rows = [row for row in found if row is not None]
    if not (unreadable := found.count(None)):
        return rows, []
    what = f"{unreadable} {'line' if unreadable == 1 else 'lines'} of {path.name}"
    return rows, [f"{what} could not be read (cut off while writing?) and left out."]


def _row(line: str) -> Mapping[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return cleaned(row) if isinstance(row, dict) and isinstance(row.get("step"), int) else None


def _of_joint(rows: list[Mapping[str, Any]]) -> Rows:
    joint = [row for row in rows if row.get("stage", "joint") == "joint"]
    return tuple(sorted(joint, key=lambda row: int(row["step"])))
