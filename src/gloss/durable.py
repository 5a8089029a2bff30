"""Files that are either whole or not there, and folders that one process at a time may write.

A file is written beside its place, flushed and renamed: a killed process leaves a hidden file."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from gloss.errors import LockError, ResumeError, StorageError

LOCK_NAME, OWNER_NAME = ".gloss.lock", ".gloss.owner"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_WRITABLE = {
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Raises StorageError for a full disk, a read-only folder, a missing permission at ``path``."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        code = error.errno if isinstance(error, OSError) else _code_in(str(error))
        if code in _FULL:
            remedy = "Free some space; the same command then goes on from the last saved state"
        elif code in _NOT_WRITABLE:
            remedy = "Choose a folder that you may write"
        else:
            raise
        raise StorageError(
            "cannot be written", where=path, found=os.strerror(code or 0), remedy=remedy
        ) from error


def _code_in(text: str) -> int | None:
    _, found, rest = text.partition("(os error ")
    digits = rest.partition(")")[0]
    return int(digits) if found and digits.isdigit() else None


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """A temporary path that takes ``path``'s place when the block ends; gone if it fails."""
    temporary = path.with_name(f".{path.name}.tmp")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _flush(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes ``folder``'s place when the block ends; gone if it fails."""
    temporary, old = (
        folder.with_name(f".{folder.name}.tmp"),
        folder.with_name(f".{folder.name}.old"),
    )
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove(temporary)
        temporary.mkdir()
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush(file)
            if folder.exists():
                _remove(old)
                folder.replace(old)
            temporary.replace(folder)
            _remove(old)
        finally:
            _remove(temporary)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    with replaced_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The value in a JSON file that Gloss wrote. Raises: ResumeError if it is no JSON any more."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ResumeError(
            f"not a JSON file ({error})",
            where=path,
            remedy="Remove it, or the folder if it describes a run",
        ) from error


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Keeps every other process from writing ``folder``; the lock dies with its process.

    Raises: LockError that names the process that holds it; StorageError."""
    from filelock import FileLock, Timeout

    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_NAME, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise LockError(
                "another process is writing this folder",
                where=folder,
                found=_owner(folder),
                remedy="Wait for it, stop it, or choose another folder",
            ) from error
    owner = folder / OWNER_NAME
    try:
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        write_json(
            owner,
            {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "command": command},
        )
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _owner(folder: Path) -> str:
    try:
        owner = json.loads((folder / OWNER_NAME).read_text(encoding="utf-8"))
        return (
            f"process {owner['pid']} on {owner['host']} since {owner['since']}: {owner['command']}"
        )
    except (OSError, ValueError, KeyError):
        return "a process that has not said which"


def _flush(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
