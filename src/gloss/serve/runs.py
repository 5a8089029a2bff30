"""Run folders below one folder that was named when the server was started; a request names a run by
its id, never by a path."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from gloss.contract.files import RESULTS_NAME
from gloss.errors import ConfigError, GlossError
from gloss.formatting import cleaned
from gloss.nla.remote.answers import RunAnswer, RunEntry
from gloss.store.run_files import METRICS_NAME, SAMPLES_NAME, read_rows, read_run_results, section

_DEPTH = 3
_CONFIG_NAME = "config.json"
_SIGNS = (METRICS_NAME, RESULTS_NAME)


def list_runs(root: Path | None) -> list[RunEntry]:
    """The runs below a folder, the newest first; none where no folder is shown."""
    entries = [_entry(run_id, folder) for run_id, folder in _folders(root).items()]
    return sorted(entries, key=lambda entry: -(entry.updated or 0.0))


def read_run(root: Path | None, run_id: str) -> RunAnswer:
    """Metrics, samples and results of one run, as far as they are written.

    Raises: ConfigError if there is no such run.
    """
    folder = _folders(root).get(run_id)
    if folder is None:
        raise ConfigError("no such run", found=repr(run_id), remedy="GET /v1/runs lists them")
    rows = (read_rows(folder / name)[0] for name in (METRICS_NAME, SAMPLES_NAME))
    metrics, samples = ([dict(row) for row in found] for found in rows)
    return RunAnswer(run_id, metrics, samples, _results(folder))


def _folders(root: Path | None) -> dict[str, Path]:
    """Run folders by id: their path below the root. Links are not followed."""
    found: dict[str, Path] = {}
    if root is None:
        return found
    for place, below, names in os.walk(root):
        folder = Path(place)
        depth = len(folder.relative_to(root).parts)
        below[:] = sorted(name for name in below if depth < _DEPTH and not name.startswith("."))
        if any(sign in names for sign in _SIGNS):
            found[folder.relative_to(root).as_posix() if depth else folder.resolve().name] = folder
            below.clear()
    return found


def _entry(run_id: str, folder: Path) -> RunEntry:
    results = _results(folder)
    times = [path.stat().st_mtime for name in _SIGNS if (path := folder / name).is_file()]
    fve = section(results or {}, "fve").get("rl")
    return RunEntry(
        id=run_id,
        state="unfinished" if results is None else "finished",
        preset=_preset(folder),
        fve=fve if isinstance(fve, int | float) else None,
        updated=max(times, default=None),
    )


def _results(folder: Path) -> dict[str, Any] | None:
    try:
        return dict(read_run_results(folder / RESULTS_NAME))
    except GlossError:
        return None


def _preset(folder: Path) -> str | None:
    try:
        name = json.loads((folder / _CONFIG_NAME).read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return cleaned(name) if isinstance(name, str) else None
