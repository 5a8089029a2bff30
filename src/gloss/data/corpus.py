"""Documents from text files, JSON lines, Parquet, folders of those, or Hugging Face datasets.

A document's id comes from its record (``id`` or ``doc_id``), else from the file's name and the line
it starts on, never from the folder: a corpus can be moved."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from gloss.errors import CorpusError, MissingExtraError, first_line
from gloss.text.document import Document, chat_messages, clean_text

SUFFIXES = (".txt", ".jsonl", ".parquet")
HUB_PREFIX = "hf:"
_PARQUET_BATCH_ROWS = 1024


def load_corpus(source: str | Path | Iterable[Document], **options: Any) -> Iterator[Document]:
    """Documents of an iterable, or of what `read_corpus` knows. Raises: CorpusError."""
    return read_corpus(str(source), **options) if isinstance(source, str | Path) else iter(source)


def read_corpus(
    source: str,
    *,
    text_field: str = "text",
    limit: int | None = None,
    split: str = "train",
    streaming: bool = True,
) -> Iterator[Document]:
    """Documents of a file, a folder, or a Hugging Face dataset ``hf:owner/name``.

    Blank lines separate the documents of a .txt file; other records hold ``text_field`` or
    ``messages``. Raises: CorpusError, at once if the source is missing or of no known kind, else at
    the record that cannot be read."""
    if limit is not None and limit < 1:
        what, expected = "no documents are asked for", "limit ≥ 1"
        raise CorpusError(what, where=source, expected=expected, found=limit)
    if source.startswith(HUB_PREFIX):
        records = _read_hub(source, text_field, split, streaming)
    else:
        files = _files(Path(source))
        records = chain.from_iterable(_read_file(path, stem, text_field) for path, stem in files)
    return _checked(records, source, limit)


def _checked(documents: Iterator[Document], source: str, limit: int | None) -> Iterator[Document]:
    count = 0
    for document in documents:
        yield document
        count += 1
        if count == limit:
            return
    if count == 0:
        raise CorpusError("the corpus is empty", where=source, expected="at least one document")


def _files(path: Path) -> list[tuple[Path, str]]:
    """Files with the stem of their documents' ids: the name inside the folder."""
    try:
        exists = path.exists()
    except OSError as error:
        raise _unreadable(error, str(path)[:200]) from error
    if not exists:
        expected = "a file, a folder, or hf:owner/name"
        raise CorpusError("no such corpus", where=path, expected=expected)
    kinds = " or ".join(SUFFIXES)
    if path.is_file():
        if path.suffix not in SUFFIXES:
            found = path.suffix or "no suffix"
            raise CorpusError("unknown kind of corpus", where=path, expected=kinds, found=found)
        return [(path, _as_text(path.stem))]
    files = (p for p in _files_inside(path) if p.suffix in SUFFIXES and p.name[0] != ".")
    inside = sorted(p.relative_to(path) for p in files)
    if not inside:
        raise CorpusError("no corpus files in this folder", where=path, expected=kinds)
    shared = Counter(p.with_suffix("").as_posix() for p in inside)
    return [
        (path / p, _as_text(p.as_posix() if shared[s := p.with_suffix("").as_posix()] > 1 else s))
        for p in inside
    ]


def _as_text(name: str) -> str:
    """A file's name as text, another for every name: what is no UTF-8 in it becomes \\xe9."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _files_inside(folder: Path) -> Iterator[Path]:
    """Files at any depth, broken links among them: what cannot be read is an error."""

    def refuse(error: OSError) -> None:
        raise _unreadable(error, error.filename) from error

    for place, _, names in os.walk(folder, onerror=refuse):
        for path in (Path(place, name) for name in names):
            if path.is_file() or not path.exists():
                yield path


def _read_file(path: Path, stem: str, text_field: str) -> Iterator[Document]:
    readers = {".txt": _read_text, ".jsonl": _read_json_lines, ".parquet": _read_parquet}
    try:
        yield from readers[path.suffix](path, stem, text_field)
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x}"
        raise CorpusError("not a text file", where=path, expected="UTF-8", found=found) from error
    except OSError as error:
        raise _unreadable(error, path) from error


def _unreadable(error: OSError, where: object) -> CorpusError:
    return CorpusError(f"cannot be read ({error.strerror or first_line(error)})", where=where)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if "\0" in line:
                wrong = {"expected": "UTF-8 text", "found": "a NUL byte"}
                raise CorpusError("not a text file", where=f"{path}:{number}", **wrong)
            yield number, line.rstrip("\r\n")


def _read_text(path: Path, stem: str, _text_field: str) -> Iterator[Document]:
    block: list[str] = []
    start = 1
    for number, line in chain(_lines(path), [(0, "")]):
        if line.strip():
            start = start if block else number
            block.append(line)
        elif block:
            yield Document(f"{stem}:{start}", "\n".join(block))
            block = []


def _read_json_lines(path: Path, stem: str, text_field: str) -> Iterator[Document]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            what, remedy = f"not JSON ({first_line(error)})", "Each line holds one JSON object"
            raise CorpusError(what, where=where, remedy=remedy) from error
        if not isinstance(record, dict):
            found = type(record).__name__
            raise CorpusError("not a JSON object", where=where, expected="an object", found=found)
        yield _document(record, f"{stem}:{number}", text_field, where)


def _read_parquet(path: Path, stem: str, text_field: str) -> Iterator[Document]:
    records = _parquet_records(path, ("id", "doc_id", text_field, "messages"))
    for number, record in enumerate(records, start=1):
        yield _document(record, f"{stem}:{number}", text_field, f"{path}, row {number}")


def _parquet_records(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, with those of the columns that it has."""
    import pyarrow as pa

    from gloss.store.native_files import parquet_file

    what = "not a Parquet file"
    try:
        with parquet_file(path, page_checksum_verification=True) as file:
            what, rest = "a damaged Parquet file", file.metadata.num_rows
            names = [name for name in columns if name in file.schema_arrow.names]
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH_ROWS, columns=names):
                rest -= len(batch)
                yield from batch.to_pylist()
            if rest:
                raise ValueError(f"{rest} rows are missing")
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise CorpusError(what, where=path, found=first_line(error)) from error


def _read_hub(source: str, text_field: str, split: str, streaming: bool) -> Iterator[Document]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MissingExtraError("datasets", "hub") from error
    name, _, subset = source.removeprefix(HUB_PREFIX).partition(":")
    try:
        rows = load_dataset(name, subset or None, split=split, streaming=streaming)
        for number, record in enumerate(rows, start=1):
            doc_id = f"{Path(name).name}:{split}:{number}"
            yield _document(record, doc_id, text_field, f"{source}, row {number}")
    except (OSError, ValueError, RuntimeError) as error:
        what = f"the dataset cannot be read ({first_line(error)})"
        raise CorpusError(what, where=source) from error


def _document(record: Mapping[str, Any], default_id: str, text_field: str, where: str) -> Document:
    named = record.get("id", record.get("doc_id"))
    doc_id = clean_text(str(named)) if isinstance(named, str | int) and str(named) else default_id
    value = record.get(text_field)
    if isinstance(value, list) or (value is None and record.get("messages") is not None):
        messages = value if isinstance(value, list) else record["messages"]
        return Document(doc_id, None, chat_messages(messages, where))
    if text_field not in record:
        raise CorpusError(
            f"no field {text_field!r}",
            where=where,
            expected=f"{text_field!r} or 'messages'",
            found=sorted(record),
            remedy="Name the field that holds the text with corpus.text_field",
        )
    if value is not None and not isinstance(value, str):
        what, found = f"field {text_field!r} is no text", type(value).__name__
        raise CorpusError(what, where=where, expected="a string", found=found)
    return Document(doc_id, clean_text(value or ""))
