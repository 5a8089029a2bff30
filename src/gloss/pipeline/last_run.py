"""Finished runs: where the last quickstart put its NLA, and whether a folder holds one."""

from __future__ import annotations

import os
from pathlib import Path

from gloss.errors import CheckpointError, ResumeError


def _record() -> Path:
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "gloss" / "last_quickstart"


def remember_quickstart(folder: Path) -> None:
    """Records a finished quickstart's folder; a home that cannot be written is no error."""
    record = _record()
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(f"{folder.resolve()}\n", encoding="utf-8")
    except OSError:
        return


def last_quickstart() -> Path:
    """The folder of the last finished quickstart. Raises: CheckpointError if there is none."""
    record = _record()
    if record.exists():
        folder = Path(record.read_text(encoding="utf-8").strip())
        if (folder / "nla" / "av").is_dir():
            return folder
    remedy = "Make one with: gloss quickstart, or name one with --nla"
    raise CheckpointError("no NLA was named and no quickstart is known", remedy=remedy)


def require_finished_run(folder: Path) -> None:
    """Raises ResumeError if the folder holds no finished run."""
    if not (folder / "config.json").is_file() or not (folder / "nla" / "av").is_dir():
        remedy = "Make one with: gloss quickstart, or gloss run CONFIG.toml"
        raise ResumeError("no finished run here", where=folder, remedy=remedy)
