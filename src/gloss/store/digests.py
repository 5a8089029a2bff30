"""Digests of files, so that what a stage read or wrote is known when its work is taken up again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gloss.errors import ResumeError

_WHOLE_BYTES = 256 * 2**20
_BLOCK, _BLOCKS = 2**20, 64
Digests = dict[str, list[Any]]
"""By path inside of a folder: size in bytes, time of change in ns, digest of the content."""


def digests_of(paths: Iterable[Path], folder: Path, *, times: bool = True) -> Digests:
    """Digests of files, and of all files in folders but hidden ones; names are relative to
    ``folder`` where they are inside of it. Without ``times`` equal files have equal records."""
    found: Digests = {}
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and not any(part.startswith(".") for part in _parts(file, path)):
                stat = file.stat()
                found[_name(file, folder)] = [
                    stat.st_size,
                    stat.st_mtime_ns if times else None,
                    _digest(file),
                ]
    return found


def check_digests(recorded: Mapping[str, Any], folder: Path, *, stage: str, use: str) -> None:
    """Raises ResumeError for a file that has gone or holds something else than it did.

    A file of the same size and time of change is not read again."""
    for name, (size, changed_ns, digest) in recorded.items():
        file = folder / name
        remedy = f"Restore it, or choose another output: {stage} {use} it"
        try:
            stat = file.stat()
        except OSError as error:
            found = error.strerror or "nothing"
            what = f"a file of the finished stage {stage} has gone"
            raise ResumeError(what, where=file, found=found, remedy=remedy) from error
        if (stat.st_size, stat.st_mtime_ns) == (size, changed_ns):
            continue
        if stat.st_size != size or _digest(file) != digest:
            what = f"a file has changed since the stage {stage} {use} it"
            found = f"{stat.st_size:,} bytes where there were {size:,}"
            found = found if stat.st_size != size else "other content"
            raise ResumeError(what, where=file, found=found, remedy=remedy)


def _name(file: Path, folder: Path) -> str:
    if file.is_relative_to(folder):
        return file.relative_to(folder).as_posix()
    return file.absolute().as_posix()


def _parts(file: Path, root: Path) -> tuple[str, ...]:
    return file.relative_to(root).parts if file != root else ()


def _digest(file: Path) -> str:
    """Of the content; of a file above 256 MiB of its size and of 64 blocks spread over it."""
    digest, size = hashlib.blake2b(digest_size=16), file.stat().st_size
    with file.open("rb") as handle:
        if size <= _WHOLE_BYTES:
            while block := handle.read(_BLOCK):
                digest.update(block)
            return digest.hexdigest()
        digest.update(str(size).encode())
        for i in range(_BLOCKS):
            handle.seek((size - _BLOCK) * i // (_BLOCKS - 1))
            digest.update(handle.read(_BLOCK))
    return digest.hexdigest()
