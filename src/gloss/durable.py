"""Files that are either whole or not there, and folders that one process at a time may write.

A file is written beside its place, flushed and renamed: a killed process leaves a hidden file. One
rule for every output: what a link points to is replaced and the link stays, missing folders are
made, and what is no regular file (a pipe, a device, a folder) is refused."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from gloss.errors import LockError, ResumeError, StorageError, first_line
from gloss.foreign import json_text

LOCK_NAME, OWNER_NAME = ".gloss.lock", ".gloss.owner"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_ALLOWED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
_WRONG_PLACE = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}
_WRONG_PLACE |= {errno.EBUSY, errno.ENXIO, errno.EXDEV}
_MODELS = ("config.json", "nla_meta.yaml", "stages.json")
"""Where one of these stands, the folder is a model or a run."""
_PARTS = (
    *("config.", "generation_config.", "nla_meta.", "tokenizer", "special_tokens", "chat_template"),
    *("adapter_", "model.", "vocab", "merges", "stages.", "results.", "evaluation.", "finished."),
)
"""How the names of their files begin."""
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISREG, "a file"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


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
        elif code in _NOT_ALLOWED | _WRONG_PLACE or _takes_no_files(error, path):
            remedy = "Choose a folder that you may write"
        else:
            raise
        raise StorageError(
            "cannot be written", where=path, found=os.strerror(code or 0), remedy=remedy
        ) from error


def _takes_no_files(error: Exception, path: Path) -> bool:
    """Whether the folder is there and yet nothing can be made in it, as in /proc."""
    named = getattr(error, "filename", None)
    if not isinstance(error, FileNotFoundError) or not isinstance(named, str | Path):
        return False
    return Path(named).parent == Path(os.path.realpath(path)).parent


def output_file(path: Path | str, *, unlike: Path | str | None = None) -> Path:
    """The file that is written where somebody asked for ``path``: what a link points to, or the
    path.

    Raises: StorageError if something else than a file stands there, it may not be written, it is
    ``unlike``, the input, or a part of a model or a run."""
    place, remedy = _file(path), "Choose another name"
    if unlike is not None and place.exists() and place.samefile(os.path.realpath(unlike)):
        raise StorageError("the output is the input", where=path, remedy=remedy)
    is_part = place.suffix == ".safetensors" or place.name.startswith(_PARTS)
    if is_part and place.exists() and any((place.parent / name).exists() for name in _MODELS):
        what = "the output would replace a part of a model or a run"
        raise StorageError(what, where=path, remedy=remedy)
    return place


def _file(path: Path | str) -> Path:
    return _place(Path(path), wanted="a file", fits=stat.S_ISREG)


def output_folder(path: Path | str) -> Path:
    """The folder that is written where ``path`` is asked for, as ``output_file``."""
    return _place(Path(path), wanted="a folder", fits=stat.S_ISDIR)


def _place(path: Path, *, wanted: str, fits: Callable[[int], bool]) -> Path:
    try:
        with storage_errors(path):
            place = Path(os.path.realpath(path))
            there = path.exists()
            mode = path.stat().st_mode if there else 0
            _check_parents(place)
    except ValueError as error:  # a NUL in the name
        raise StorageError("cannot be written", where=path, found=first_line(error)) from error
    same = place.exists() and place.samefile(path) if there else not place.is_symlink()
    if not same or (there and not fits(mode)):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "a link to itself")
        remedy = "Choose another place"
        what = "cannot be written"
        raise StorageError(what, where=path, expected=wanted, found=kind, remedy=remedy)
    if there and not os.access(place, os.W_OK):
        found, remedy = "it may not be written", "Choose another place, or allow it"
        raise StorageError("cannot be written", where=path, found=found, remedy=remedy)
    return place


def _check_parents(place: Path) -> None:
    """Raises OSError if the first folder above that is there is none."""
    above = next((one for one in place.parents if os.path.lexists(one)), place)
    if not above.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(above))


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """A temporary path that takes ``path``'s place when the block ends; gone if it fails.

    Raises: StorageError, as ``output_file`` does."""
    place = _file(path)
    temporary = place.with_name(f".{place.name}.tmp")
    with storage_errors(path):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _flush(temporary)
            if place.exists():
                shutil.copymode(place, temporary)
            temporary.replace(place)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes ``folder``'s place when the block ends; gone if it fails.

    Raises: StorageError, as ``output_folder`` does."""
    place = output_folder(folder)
    temporary, old = (place.with_name(f".{place.name}.{end}") for end in ("tmp", "old"))
    with storage_errors(folder):
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove(temporary)
        temporary.mkdir()
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush(file)
            if place.exists():
                _remove(old)
                place.replace(old)
            temporary.replace(place)
            _remove(old)
        finally:
            _remove(temporary)


def copy_files(source: Path, folder: Path) -> None:
    """Copies all files below ``source`` to the same places below ``folder``.

    Raises: OSError: of the first file that cannot be copied, with its number (what copies a whole
    tree in the standard library gathers texts, which nobody can act on).
    """
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        place = folder / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    with replaced_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically."""
    write_text(path, json_text(value, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """The value in a JSON file that Gloss wrote. Raises: ResumeError if it is no JSON any more."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        what, remedy = f"not a JSON file ({first_line(error)})", "Remove it, or the run's folder"
        raise ResumeError(what, where=path, remedy=remedy) from error


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Keeps every other process from writing ``folder``; the lock dies with its process.

    Raises: LockError that names the process that holds it; StorageError."""
    from filelock import FileLock, Timeout

    place = output_folder(folder)
    with storage_errors(folder):
        place.mkdir(parents=True, exist_ok=True)
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
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "a process that has not said which"


def _flush(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
