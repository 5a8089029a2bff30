"""The files of a corpus: which are read, how, and which are left out for what reason."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gloss.errors import CorpusError, first_line

KINDS = (".txt", ".jsonl", ".ndjson", ".json", ".parquet")
COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
READABLE = f"{', '.join(KINDS)}, or these with {', '.join(COMPRESSED)}"
_ABOUT = ("license", "licence", "readme", "notice", "copying", "changelog", "citation")
_NOTES = (".md", ".rst", ".py", ".yaml", ".yml", ".toml", ".lock", ".pdf", ".html")


@dataclass(frozen=True)
class CorpusFile:
    """A file to be read: ``stem`` begins the ids of its documents, ``kind`` is one of ``KINDS``."""

    path: Path
    stem: str
    kind: str
    compression: str | None


@dataclass(frozen=True)
class CorpusFiles:
    """The files of a corpus, and of those left out the name and the reason."""

    read: tuple[CorpusFile, ...]
    skipped: tuple[tuple[str, str], ...] = ()


def corpus_files(path: Path) -> CorpusFiles:
    """The files of a corpus: the one that is named, or those of a folder, at any depth.

    Raises: CorpusError if there is none, or if most of the folder's data could not be read."""
    try:
        exists = path.exists()
    except OSError as error:
        raise unreadable(error, str(path)[:200]) from error
    if not exists:
        expected = "a file, a folder, or hf:owner/name"
        raise CorpusError("no such corpus", where=path, expected=expected)
    if not path.is_dir():
        if not path.is_file():
            what, expected = "neither a file nor a folder", "a corpus"
            raise CorpusError(what, where=path, expected=expected)
        kind, compression = _kind(path)
        if kind is None:
            found = path.suffix or "no suffix"
            raise CorpusError("unknown kind of corpus", where=path, expected=READABLE, found=found)
        return CorpusFiles((CorpusFile(path, _stem(path), kind, compression),))
    return _of_folder(path)


def _of_folder(folder: Path) -> CorpusFiles:
    read: list[Path] = []
    skipped: list[tuple[Path, str]] = []
    for path in sorted(_files_inside(folder)):
        reason = _reason_to_skip(path, folder)
        read += [] if reason else [path]
        skipped += [(path, reason)] if reason else []
    about = [path for path in read if _is_about(path)]
    if len(about) < len(read):
        read = [path for path in read if path not in about]
        skipped += [(path, "about the corpus") for path in about]
    if not read:
        raise CorpusError(
            "no corpus files in this folder",
            where=folder,
            expected=READABLE,
            found=", ".join(path.name for path, _ in skipped[:3]) or "nothing",
        )
    _check_most_is_read(folder, read, skipped)
    inside = [path.relative_to(folder) for path in read]
    shared = Counter(_stem_of(path) for path in inside)
    files = []
    for path in inside:
        kind, compression = _kind(path)
        assert kind is not None
        stem = _stem_of(path)
        stem = _as_text(path.as_posix()) if shared[stem] > 1 else stem
        files.append(CorpusFile(folder / path, stem, kind, compression))
    left_out = ((_as_text(p.relative_to(folder).as_posix()), why) for p, why in skipped)
    return CorpusFiles(tuple(files), tuple(left_out))


def _kind(path: Path) -> tuple[str | None, str | None]:
    """The kind of a file's records and its compression, by its name in any case."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = COMPRESSED.get(suffixes[-1]) if suffixes else None
    kind = suffixes[-2] if compression and len(suffixes) > 1 else suffixes[-1] if suffixes else ""
    return (kind if kind in KINDS else None), compression


def _stem(path: Path) -> str:
    return _stem_of(Path(path.name))


def _stem_of(path: Path) -> str:
    """The path without the suffixes that say what it is."""
    path = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return _as_text(path.with_suffix("").as_posix())


def _as_text(name: str) -> str:
    """A file's name as text, another for every name: what is no UTF-8 in it becomes \\xe9."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _reason_to_skip(path: Path, folder: Path) -> str | None:
    parts = path.relative_to(folder).parts
    if any(part.startswith(".") for part in parts):
        return "hidden"
    return None if _kind(path)[0] else f"unknown kind {path.suffix or 'without a suffix'}"


def _is_about(path: Path) -> bool:
    """Whether a file tells about a corpus, such as its licence."""
    kind, compression = _kind(path)
    name = path.name.lower().partition(".")[0]
    return kind == ".txt" and compression is None and name.startswith(_ABOUT)


def _check_most_is_read(folder: Path, read: list[Path], skipped: list[tuple[Path, str]]) -> None:
    """Raises CorpusError if the data left out is more than what is read."""
    unknown = [
        path
        for path, reason in skipped
        if reason.startswith("unknown")
        and path.suffix.lower() not in _NOTES
        and not path.name.lower().startswith(_ABOUT)
    ]
    if sum(map(_size, unknown)) > sum(map(_size, read)):
        raise CorpusError(
            "most of this folder is of a kind that cannot be read",
            where=folder,
            expected=READABLE,
            found=f"{len(unknown)} other files such as {unknown[0].name}, {len(read)} readable",
            remedy="Name the files that are meant, or convert the others",
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _files_inside(folder: Path) -> Iterator[Path]:
    """Files at any depth, broken links among them: what cannot be read is an error."""

    def refuse(error: OSError) -> None:
        raise unreadable(error, error.filename) from error

    for place, _, names in os.walk(folder, onerror=refuse):
        for path in (Path(place, name) for name in names):
            if path.is_file() or not path.exists():
                yield path


def unreadable(error: OSError, where: object) -> CorpusError:
    """The error of a file that the system does not give."""
    return CorpusError(f"cannot be read ({error.strerror or first_line(error)})", where=where)


def open_text(file: CorpusFile) -> IO[str]:
    """The text of a file, decompressed, without a byte order mark."""
    if file.compression is None:
        return file.path.open(encoding="utf-8-sig", newline="\n")
    import pyarrow as pa

    with file.path.open("rb"):  # says in the system's words why a file cannot be read
        pass
    stream = pa.input_stream(str(file.path), compression=file.compression)
    return io.TextIOWrapper(stream, encoding="utf-8-sig", newline="\n")
