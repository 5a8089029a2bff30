"""Files of a model folder from elsewhere, refused where they lead out of it or to code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gloss.errors import CheckpointError, GlossError, first_line
from gloss.foreign import shown

UNREADABLE = (Exception,)
"""What a damaged model folder raises: the libraries that read it have no narrower kind."""


_KERNEL_KEYS = ("attn_implementation", "kernel_config", "experts_implementation")


@contextmanager
def readable(what: str, where: object, remedy: str | None = None) -> Iterator[None]:
    """Turns what reading a damaged folder raises into CheckpointError: ``what`` and the reason."""
    try:
        yield
    except (GlossError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic of Rust is no Exception
        line = f"{what} ({first_line(error)})"
        raise CheckpointError(line, where=where, remedy=remedy) from error


def refuse_unsafe_files(folder: Path) -> None:
    """Raises CheckpointError for shards outside the folder and kernels fetched from a hub."""
    for index in sorted(folder.glob("*.safetensors.index.json")):
        weight_map = json_object(index).get("weight_map")
        names = weight_map.values() if isinstance(weight_map, dict) else [None]
        if not all(isinstance(name, str) for name in names):
            expected = "weight_map, from names to files"
            raise CheckpointError("wrong index of weights", where=index, expected=expected)
        for name in sorted(set(names)):
            if name != Path(name).name or "\\" in name or not name.endswith(".safetensors"):
                remedy = "Do not load this folder: its files were put together wrongly or to harm"
                raise CheckpointError(
                    "a shard outside the folder",
                    where=index,
                    expected="names of .safetensors files beside the index",
                    found=shown(name, 120),
                    remedy=remedy,
                )
    config = folder / "config.json"
    kernel = _kernel_named(json_object(config)) if config.is_file() else None
    if kernel is not None:
        what = "config.json names an attention kernel to be fetched"
        remedy = "Remove attn_implementation from the file"
        raise CheckpointError(what, where=config, found=kernel[:80], remedy=remedy)


def _kernel_named(values: Any, *, of_kernel: bool = False) -> str | None:
    """What any key for attention or other kernels, at any depth, names of a repository."""
    if isinstance(values, str):
        return values if of_kernel and "/" in values else None
    if isinstance(values, list):
        return next(filter(None, (_kernel_named(one, of_kernel=of_kernel) for one in values)), None)
    if not isinstance(values, dict):
        return None
    for key, value in values.items():
        of_one = of_kernel or any(part in str(key) for part in _KERNEL_KEYS)
        if found := _kernel_named(value, of_kernel=of_one):
            return found
    return None


def refuse_outside_links(folder: Path) -> None:
    """Raises CheckpointError for links to files outside the folder; the hub's cache has its own."""
    snapshot = folder.resolve()
    inside = snapshot.parent.parent if snapshot.parent.name == "snapshots" else snapshot
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            what, remedy = "a link to a file outside the folder", "Put the file itself in its place"
            raise CheckpointError(what, where=folder, found=path.name, remedy=remedy)


def json_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file; CheckpointError if it cannot be read or holds no object."""
    with readable("cannot be read as JSON", file):
        values = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        found = type(values).__name__
        raise CheckpointError("wrong content", where=file, expected="a JSON object", found=found)
    return values
