"""What makes a stage resumable: a small JSON record of the settings its files were made with and of
what is done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gloss.durable import write_json
from gloss.errors import ResumeError


@dataclass
class StageRecord:
    """The record of one stage in the file ``path``: ``settings`` that must stay the same, and what
    is ``done``.
    """

    path: Path
    settings: Mapping[str, Any]
    done: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, Any]) -> StageRecord:
        """Begins a record, or continues one.

        Raises: ResumeError if the record was made with other settings, naming the first that
        differ, or cannot be read."""
        record = cls(path, json.loads(json.dumps(settings)))
        if not path.exists():
            return record
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            settings_found, record.done = dict(found["settings"]), dict(found["done"])
        except (ValueError, KeyError, TypeError) as error:
            raise ResumeError(
                "the record of an earlier run cannot be read",
                where=path,
                remedy="Remove it and the files it describes",
            ) from error
        require_same_settings(settings_found, record.settings, where=path)
        return record

    def save(self) -> None:
        """Writes the record atomically."""
        write_json(self.path, {"settings": self.settings, "done": self.done})


def fingerprint(value: Any) -> str:
    """Sixteen hexadecimal digits that identify a JSON value."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def require_same_settings(found: Any, wanted: Any, *, where: Path) -> None:
    """Refuses to continue what was begun with other settings.

    Raises: ResumeError that names ``where`` and the first three settings that differ.
    """
    differences = _differences(found, wanted)
    if differences:
        raise ResumeError(
            "made with other settings or inputs",
            where=where,
            found="; ".join(differences[:3]),
            remedy="Choose another output, or remove this one and what it describes",
        )


def _differences(found: Any, wanted: Any, key: str = "") -> list[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        return [
            line
            for name in sorted(set(found) | set(wanted))
            for line in _differences(found.get(name), wanted.get(name), f"{key}.{name}".strip("."))
        ]
    return [] if found == wanted else [f"{key} = {_short(found)} there, {_short(wanted)} here"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
