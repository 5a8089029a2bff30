"""Finds explanations in tables of them: by a pattern, or by meaning where an embedding model is at
hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from heapq import nlargest
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from gloss.errors import CheckpointError, ConfigError, MissingExtraError
from gloss.reading.tables import iter_results

Embed = Callable[[list[str]], "np.ndarray[Any, np.dtype[np.float32]]"]


@dataclass(frozen=True)
class Hit:
    """One explanation that was found: whose, where the matches stand in it, and its similarity in a
    search by meaning.
    """

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
    """Explanations that hold a match, in the order of the files: a regular expression, or with
    ``fixed`` the words themselves.

    Raises: ConfigError for a query that cannot be read; DatasetError.
    """
    try:
        pattern = re.compile(
            re.escape(query) if fixed else query, 0 if case_sensitive else re.IGNORECASE
        )
    except re.error as error:
        raise ConfigError(
            "cannot read the query as a regular expression",
            found=f"{query!r} ({error})",
            remedy="Search for the words themselves with --fixed",
        ) from error
    if not query:
        raise ConfigError("the query is empty", expected="words or a regular expression")
    count = 0
    for file, row in _rows(files):
        spans = tuple(
            (m.start(), m.end()) for m in pattern.finditer(row["text"]) if m.end() > m.start()
        )
        if spans:
            yield _hit(file, row, spans, None)
            count += 1
            if count == limit:
                return


def search_by_meaning(
    files: Sequence[Path], query: str, embed: Embed, *, limit: int = 20, batch_rows: int = 256
) -> list[Hit]:
    """The ``limit`` explanations whose embeddings are most like the query's, the most similar
    first.

    ``embed`` gives rows [n, width], not zero, for n texts; each different explanation is embedded
    once.
    Raises: DatasetError.
    """
    (wanted,) = _unit(embed([query]))
    known: dict[str, float] = {}

    def similarities(
        batch: list[tuple[Path, dict[str, Any]]],
    ) -> Iterator[tuple[float, Path, dict[str, Any]]]:
        new = list(dict.fromkeys(row["text"] for _, row in batch if row["text"] not in known))
        if new:
            known.update(zip(new, (_unit(embed(new)) @ wanted).tolist(), strict=True))
        for file, row in batch:
            yield known[row["text"]], file, row

    rows = _rows(files)
    batches = iter(lambda: list(islice(rows, batch_rows)), [])
    scored = (item for batch in batches for item in similarities(batch))
    best = nlargest(limit, scored, key=lambda item: item[0])
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
        raise CheckpointError(
            "no such folder", where=folder, expected="a sentence-transformers model"
        )
    try:
        encoder = SentenceTransformer(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise CheckpointError(f"no sentence-transformers model ({reason})", where=folder) from error
    return lambda texts: np.asarray(
        encoder.encode(texts, show_progress_bar=False), dtype=np.float32
    )


def _rows(files: Sequence[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for file in files:
        for table in iter_results(file):
            yield from ((file, row) for row in table.to_pylist() if row["text"])


def _unit(vectors: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray[Any, np.dtype[np.float32]] = vectors / np.maximum(
        norms, np.finfo(np.float32).tiny
    )
    return unit


def _hit(
    file: Path, row: dict[str, Any], spans: tuple[tuple[int, int], ...], similarity: float | None
) -> Hit:
    names = ("row", "doc_id", "position", "token", "context", "sample", "text", "fve")
    known = {name: row[name] for name in names}
    return Hit(
        file=str(file), spans=spans, similarity=similarity, flags=tuple(row["flags"] or ()), **known
    )
