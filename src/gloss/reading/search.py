"""Finds explanations in tables of them: by a pattern, or by meaning with an embedding model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from heapq import nlargest
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from gloss.errors import CheckpointError, ConfigError, MissingExtraError, first_line
from gloss.reading.tables import iter_results
from gloss.text.patterns import Pattern

Vectors = np.ndarray[Any, np.dtype[np.float32]]
Embed = Callable[[list[str]], Vectors]


@dataclass(frozen=True)
class Hit:
    """One explanation that was found; ``spans`` are its matches, ``similarity`` is by meaning."""

    file: str
    row: int
    doc_id: str | None
    position: int | None
    token: str | None
    context: str | None
    sample: int
    text: str
    spans: tuple[tuple[int, int], ...]
    similarity: float | None
    fve: float | None
    flags: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping."""
        return asdict(self)


def search(
    files: Sequence[Path],
    query: str,
    *,
    fixed: bool = False,
    case_sensitive: bool = False,
    limit: int | None = None,
) -> Iterator[Hit]:
    """Explanations that match a regular expression, or with ``fixed`` hold the words, in order.

    Raises: ConfigError for a query that cannot be read or takes too long; DatasetError.
    """
    if not query:
        raise ConfigError("the query is empty", expected="words or a regular expression")
    remedy = "Write a simpler one" if fixed else "Search for the words themselves with --fixed"
    pattern = Pattern(query, ConfigError, fixed=fixed, any_case=not case_sensitive, remedy=remedy)

    def hits() -> Iterator[Hit]:
        for file, row in _rows(files):
            (spans,) = pattern.spans([row["text"]])
            if spans:
                yield _hit(file, row, tuple(spans), None)

    yield from islice(hits(), limit)


def search_by_meaning(
    files: Sequence[Path], query: str, embed: Embed, *, limit: int = 20, batch_rows: int = 256
) -> list[Hit]:
    """The ``limit`` explanations that are most like the query, the most similar first.

    ``embed`` gives rows [n, width], not zero, for n texts; each different explanation is embedded
    once.
    Raises: DatasetError.
    """
    (wanted,) = _unit(embed([query]))
    known: dict[str, float] = {}

    def scored() -> Iterator[tuple[float, Path, dict[str, Any]]]:
        rows = _rows(files)
        while batch := list(islice(rows, batch_rows)):
            new = list(dict.fromkeys(row["text"] for _, row in batch if row["text"] not in known))
            if new:
                known.update(zip(new, (_unit(embed(new)) @ wanted).tolist(), strict=True))
            yield from ((known[row["text"]], file, row) for file, row in batch)

    best = nlargest(limit, scored(), key=lambda item: item[0])
    return [_hit(file, row, (), similarity) for similarity, file, row in best]


def sentence_embedder(model: str | Path) -> Embed:
    """Embeddings by a sentence-transformers model in a folder.

    Raises: MissingExtraError if the package is not installed; CheckpointError for a folder without
    such a model."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtraError("sentence-transformers", "semantic") from error
    folder = Path(model)
    if not folder.is_dir():
        expected = "a sentence-transformers model"
        raise CheckpointError("no such folder", where=folder, expected=expected)
    try:
        encode = SentenceTransformer(str(folder), local_files_only=True).encode
    except (OSError, ValueError, KeyError) as error:
        what = f"no sentence-transformers model ({first_line(error)})"
        raise CheckpointError(what, where=folder) from error
    return lambda texts: np.asarray(encode(texts, show_progress_bar=False), dtype=np.float32)


def _rows(files: Sequence[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for file in files:
        for table in iter_results(file):
            yield from ((file, row) for row in table.to_pylist() if row["text"])


def _unit(vectors: Vectors) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, np.finfo(np.float32).tiny))


def _hit(
    file: Path, row: dict[str, Any], spans: tuple[tuple[int, int], ...], similarity: float | None
) -> Hit:
    known = {one.name: row[one.name] for one in fields(Hit) if one.name in row}
    flags = tuple(row["flags"] or ())
    return Hit(**{**known, "flags": flags}, file=str(file), spans=spans, similarity=similarity)
