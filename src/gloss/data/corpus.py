"""Documents from text files, JSON lines, Parquet, folders of those, or Hugging Face datasets.

A document's id comes from its record (``id`` or ``doc_id``), else from the file's name and the line
it starts on, never from the folder: a corpus can be moved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from gloss.data.corpus_files import CorpusFile, corpus_files, open_text, unreadable
from gloss.data.refusals import Refusals
from gloss.errors import CorpusError, GlossError, MissingExtraError, first_line
from gloss.foreign import without_surrogates
from gloss.text.document import TEMPLATE_DATA, Document, chat_document, json_value

HUB_PREFIX = "hf:"
_PARQUET_BATCH_ROWS = 1024
_NAMED = 3

Record = Document | CorpusError
"""A document, or why there is none."""


@dataclass
class CorpusCounts:
    """What became of a corpus: documents read, records refused, files skipped with the reason."""

    refusals: Refusals
    read: int = 0
    skipped_files: tuple[tuple[str, str], ...] = ()

    @property
    def refused(self) -> int:
        """Records that cannot be read."""
        return self.refusals.count

    def check(self, *, at_end: bool = False) -> None:
        """Raises CorpusError if too many records were refused."""
        self.refusals.check(self.refused, self.read + self.refused, at_end=at_end)

    def lines(self) -> list[str]:
        """What a user reads of it, one line each; none if all was read."""
        lines = []
        if self.skipped_files:
            some = ", ".join(f"{name} ({why})" for name, why in self.skipped_files[:_NAMED])
            more = " …" if len(self.skipped_files) > _NAMED else ""
            lines.append(f"{len(self.skipped_files)} files skipped: {some}{more}")
        if self.refused:
            lines.append(f"{self.refused} records refused, such as {self.refusals.first}")
        return lines


class Corpus(Iterator[Document]):
    """The documents of a source, one after the other, and ``counts`` of what was left out."""

    def __init__(
        self, records: Iterator[Record], source: str, limit: int | None, max_refused: float
    ) -> None:
        refusals = Refusals("records", source, max_refused, "corpus.max_refused")
        self.counts = CorpusCounts(refusals)
        self._records, self._source, self._limit = records, source, limit

    def __next__(self) -> Document:
        if self.counts.read == self._limit:
            raise StopIteration
        for record in self._records:
            if isinstance(record, Document):
                self.counts.read += 1
                return record
            self.counts.refusals.add(str(record))
            self.counts.check()
        self.counts.check(at_end=True)
        if not self.counts.read:
            what, expected = "the corpus is empty", "at least one document"
            raise CorpusError(what, where=self._source, expected=expected)
        raise StopIteration


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
    max_refused: float = 0.05,
) -> Corpus:
    """Documents of a file, a folder, or a Hugging Face dataset ``hf:owner/name``.

    Blank lines separate the documents of a .txt file; other records hold ``text_field`` or
    ``messages``. A record that cannot be read is counted. Raises: CorpusError, at once if the
    source is missing or of no known kind, else where a file cannot be read or more than the share
    ``max_refused`` of the records was refused."""
    if limit is not None and limit < 1:
        what, expected = "no documents are asked for", "limit ≥ 1"
        raise CorpusError(what, where=source, expected=expected, found=limit)
    if source.startswith(HUB_PREFIX):
        return Corpus(_read_hub(source, text_field, split, streaming), source, limit, max_refused)
    files = corpus_files(Path(source))
    records = chain.from_iterable(_read_file(file, text_field) for file in files.read)
    corpus = Corpus(records, source, limit, max_refused)
    corpus.counts.skipped_files = files.skipped
    return corpus


def _read_file(file: CorpusFile, text_field: str) -> Iterator[Record]:
    readers = {".txt": _read_text, ".json": _read_json, ".parquet": _read_parquet}
    try:
        yield from readers.get(file.kind, _read_json_lines)(file, text_field)
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x}"
        raise CorpusError(
            "not a text file", where=file.path, expected="UTF-8", found=found
        ) from error
    except OSError as error:
        raise unreadable(error, file.path) from error


def _lines(file: CorpusFile) -> Iterator[tuple[int, str]]:
    with open_text(file) as text:
        for number, line in enumerate(text, start=1):
            if "\0" in line:
                wrong = {"expected": "UTF-8 text", "found": "a NUL byte"}
                raise CorpusError("not a text file", where=f"{file.path}:{number}", **wrong)
            yield number, line.rstrip("\r\n")


def _read_text(file: CorpusFile, _text_field: str) -> Iterator[Record]:
    block: list[str] = []
    start = 1
    for number, line in chain(_lines(file), [(0, "")]):
        if line.strip():
            start = start if block else number
            block.append(line)
        elif block:
            yield Document(f"{file.stem}:{start}", "\n".join(block))
            block = []


def _read_json_lines(file: CorpusFile, text_field: str) -> Iterator[Record]:
    for number, line in _lines(file):
        if line.strip():
            yield _json_record(line, file, number, text_field)


def _json_record(line: str, file: CorpusFile, number: int, text_field: str) -> Record:
    where = f"{file.path}:{number}"
    try:
        record = json_value(line, where=where)
    except CorpusError as error:
        return CorpusError(error.what, where=where, remedy="Each line holds one JSON object")
    return _document(record, f"{file.stem}:{number}", text_field, where)


def _read_json(file: CorpusFile, text_field: str) -> Iterator[Record]:
    """A list of objects, one object, or an object on each line."""
    with open_text(file) as text:
        begin = next((line.strip() for line in text if line.strip()), "")
    one_line = begin.startswith("{") and begin.endswith("}")
    if one_line or not begin:
        yield from _read_json_lines(file, text_field)
        return
    value = json_value("\n".join(line for _, line in _lines(file)), where=file.path)
    for number, record in enumerate(value if isinstance(value, list) else [value], start=1):
        where = f"{file.path}, record {number}"
        yield _document(record, f"{file.stem}:{number}", text_field, where)


def _read_parquet(file: CorpusFile, text_field: str) -> Iterator[Record]:
    columns = ("id", "doc_id", text_field, "messages", *TEMPLATE_DATA)
    for number, record in enumerate(_parquet_records(file.path, columns), start=1):
        where = f"{file.path}, row {number}"
        yield _document(record, f"{file.stem}:{number}", text_field, where)


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


def _read_hub(source: str, text_field: str, split: str, streaming: bool) -> Iterator[Record]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MissingExtraError("datasets", "hub") from error
    name, _, subset = source.removeprefix(HUB_PREFIX).partition(":")
    number = 0
    try:
        rows = load_dataset(name, subset or None, split=split, streaming=streaming)
        for number, record in enumerate(rows, start=1):
            doc_id = f"{Path(name).name}:{split}:{number}"
            yield _document(record, doc_id, text_field, f"{source}, row {number}")
    except GlossError:
        raise
    except Exception as error:
        what = f"the dataset cannot be read ({type(error).__name__}: {first_line(error)})"
        where = f"{source}, behind row {number}" if number else source
        raise CorpusError(what, where=where) from error


def _document(record: Any, default_id: str, text_field: str, where: str) -> Record:
    try:
        return _checked_document(record, default_id, text_field, where)
    except CorpusError as error:
        return error


def _checked_document(record: Any, default_id: str, text_field: str, where: str) -> Document:
    if not isinstance(record, dict):
        found = type(record).__name__
        raise CorpusError("not a JSON object", where=where, expected="an object", found=found)
    named = record.get("id", record.get("doc_id"))
    doc_id = (
        without_surrogates(str(named))
        if isinstance(named, str | int) and str(named)
        else default_id
    )
    value = record.get(text_field)
    if isinstance(value, list) or (value is None and record.get("messages") is not None):
        messages = value if isinstance(value, list) else record["messages"]
        return chat_document(doc_id, {**record, "messages": messages}, where)
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
    return Document(doc_id, without_surrogates(value or ""))
