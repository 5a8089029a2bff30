"""Files that are either whole or not there, and folders that one process at a time may write.

A file is written beside its place, flushed and renamed: a killed process leaves a hidden file."""

from __future__ import annotations

import errno
import json
import os
import re
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
_NOT_ALLOWED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
_WRONG_PLACE = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Raises StorageError for a full disk, a read-only folder, a missing permission at ``path``."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        message = re.search(r"\(os error (\d+)\)", str(error))
        code = error.errno if isinstance(error, OSError) else message and int(message[1])
        if code in _FULL:
            remedy = "Free some space; the same command then goes on from the last saved state"
        elif code in _NOT_ALLOWED | _WRONG_PLACE:
            remedy = "Choose a folder that you may write"
        else:
            raise
        raise StorageError(
            "cannot be written", where=path, found=os.strerror(code or 0), remedy=remedy
        ) from error


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
    temporary, old = (folder.with_name(f".{folder.name}.{end}") for end in ("tmp", "old"))
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
        remedy = "Remove it, or the folder if it describes a run"
        raise ResumeError(f"not a JSON file ({error})", where=path, remedy=remedy) from error


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
        writer = {"pid": os.getpid(), "host": socket.gethostname()}
        write_json(owner, {**writer, "since": since, "command": command})
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _owner(folder: Path) -> str:
    try:
        owner = json.loads((folder / OWNER_NAME).read_text(encoding="utf-8"))
        return "process {pid} on {host} since {since}: {command}".format_map(owner)
    except (OSError, ValueError, KeyError):
        return "a process that has not said which"


def _flush(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
