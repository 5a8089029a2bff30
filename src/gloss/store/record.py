"""What makes a stage resumable: a small JSON record of its settings and of what is done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from gloss.durable import write_json
from gloss.errors import ResumeError
from gloss.foreign import json_text


@dataclass
class StageRecord:
    """One stage's ``settings``, which must stay the same, and what is ``done``, in ``path``."""

    path: Path
    settings: Mapping[str, Any]
    done: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        path: Path,
        settings: Mapping[str, Any],
        *,
        defaults: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Self:
        """Begins or continues a record; a setting that it lacks is taken to be of ``defaults``.

        Raises: ResumeError for other settings, or a torn one."""
        record = cls(path, json.loads(json_text(settings)), **more)
        if not path.exists():
            return record
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            settings_found, record.done = dict(found["settings"]), dict(found["done"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            what = "the record of an earlier run cannot be read"
            remedy = "Remove it and the files it describes"
            raise ResumeError(what, where=path, remedy=remedy) from error
        require_same_settings(settings_found, record.settings, where=path, defaults=defaults)
        return record

    def save(self) -> None:
        """Writes the record atomically."""
        write_json(self.path, {"settings": self.settings, "done": self.done})


def fingerprint(value: Any) -> str:
    """Sixteen hexadecimal digits that identify a JSON value."""
    text = json_text(value, sort_keys=True, only_ascii=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def require_same_settings(
    found: Any, wanted: Any, *, where: Path, defaults: Mapping[str, Any] | None = None
) -> None:
    """Raises ResumeError that names ``where`` and the first three settings that differ.

    A setting that is new since ``found`` was written counts as its value in ``defaults``."""
    differences = _differences(_completed(found, wanted, defaults or {}), wanted)
    if differences:
        raise ResumeError(
            "made with other settings or inputs",
            where=where,
            found="; ".join(differences[:3]),
            remedy="Choose another output, or remove this one and what it describes",
        )


def _completed(found: Any, wanted: Any, defaults: Mapping[str, Any]) -> Any:
    """``found`` with the defaults of the settings that only ``wanted`` has."""
    if not isinstance(found, dict) or not isinstance(wanted, dict):
        return found
    new = {name: value for name, value in defaults.items() if name in wanted}
    inner = {
        name: _completed(found[name], wanted[name], value)
        for name, value in new.items()
        if isinstance(value, Mapping) and name in found
    }
    return {**new, **found, **inner}


def _differences(found: Any, wanted: Any, key: str = "") -> list[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        names = sorted(set(found) | set(wanted))
        inner = ((found.get(name), wanted.get(name), f"{key}.{name}".strip(".")) for name in names)
        return [line for pair in inner for line in _differences(*pair)]
    return [] if found == wanted else [f"{key} = {_short(found)} there, {_short(wanted)} here"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
