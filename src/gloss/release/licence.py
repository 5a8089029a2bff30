"""The licence that a model folder names: in the front matter of its README.md, or as a LICENSE
file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_FENCE = "---"


def front_matter(folder: Path) -> dict[str, Any]:
    """The YAML front matter of a folder's model card; empty where there is none that can
    be read.
    """
    card = folder / "README.md"
    if not card.is_file():
        return {}
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines()
    if (
        not lines
        or lines[0].strip() != _FENCE
        or _FENCE not in (line.strip() for line in lines[1:])
    ):
        return {}
    end = next(i for i, line in enumerate(lines[1:], 1) if line.strip() == _FENCE)
    try:
        values = yaml.safe_load("\n".join(lines[1:end]))
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def licence_of(folder: Path) -> str | None:
    """The licence's id, or the name of its file; None if the folder names no licence."""
    named = front_matter(folder).get("license")
    if isinstance(named, str) and named.strip() and named != "unknown":
        return named.strip()
    files = [
        path.name
        for path in sorted(folder.glob("LICEN[SC]E*"))
        if path.is_file() and path.stat().st_size
    ]
    return files[0] if files else None
