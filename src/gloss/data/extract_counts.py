"""What becomes of the documents of an extraction: counted and said, and refused if too many."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gloss.data.refusals import Refusals
from gloss.data.settings import ExtractConfig
from gloss.errors import CorpusError
from gloss.text.document import Document


@dataclass(frozen=True, kw_only=True)
class ExtractCounts:
    """What became of documents and activations."""

    documents: int = 0
    empty: int = 0
    """Documents without text."""
    refused: int = 0
    """Documents that the target cannot read, such as a chat that its template refuses."""
    repeated: int = 0
    """Documents with the id of an earlier one: which part they belong to could not be said."""
    cut: int = 0
    """Documents of more than ``max_tokens`` tokens, of which only the beginning was read."""
    without_positions: int = 0
    """Documents that are too short to take an activation from."""
    rows: int = 0
    outliers: int = 0
    """Activations left out for their norm."""
    not_finite: int = 0
    """Activations left out because they hold NaN or infinity, or are zero."""

    def __add__(self, other: ExtractCounts) -> ExtractCounts:
        sums = {key: value + getattr(other, key) for key, value in asdict(self).items()}
        return ExtractCounts(**sums)


class LeftOut:
    """Documents that are left out: counted, reported, and too many of them refused."""

    def __init__(self, config: ExtractConfig) -> None:
        where = config.corpus or None
        self.refusals = Refusals("documents", where, config.max_refused, "extract.max_refused")
        self._ids = set[bytes]()

    def without_repeated(self, documents: Sequence[Document]) -> list[Document]:
        """Those whose id no earlier one had."""
        new = []
        for document in documents:
            key = hashlib.blake2b(document.doc_id.encode(), digest_size=12).digest()
            if key in self._ids:
                self.refusals.add(f"{document.doc_id}: the id of an earlier document")
            else:
                self._ids.add(key)
                new.append(document)
        return new

    def check(self, counts: ExtractCounts, *, at_end: bool = False) -> None:
        """Raises CorpusError if too many of the documents were left out."""
        left_out = counts.refused + counts.repeated
        self.refusals.check(left_out, counts.documents, at_end=at_end)

    def lines(self, counts: ExtractCounts) -> list[str]:
        """What a user reads, one line each."""
        parts = {
            "refused": counts.refused,
            "with the id of an earlier one": counts.repeated,
            "empty": counts.empty,
            "too short": counts.without_positions,
        }
        causes = [f"{number} {what}" for what, number in parts.items() if number]
        named = f", such as {self.refusals.first}" if self.refusals.count else ""
        lines = [f"of {counts.documents} documents {', '.join(causes)}{named}"] if causes else []
        if counts.cut:
            lines.append(
                f"of {counts.documents} documents only the beginning of {counts.cut} was read: they"
                " are longer than extract.max_tokens or than what the target reads"
            )
        if counts.not_finite:
            lines.append(f"{counts.not_finite} activations left out: NaN, infinite or zero")
        return lines


def corpus_lines(documents: Iterable[Document]) -> list[str]:
    """What a user reads of the corpus that the documents come from."""
    counts = getattr(documents, "counts", None)
    return counts.lines() if counts is not None else []


def summed(shards: Sequence[Mapping[str, Any]]) -> ExtractCounts:
    """The counts of shards, as their records hold them."""
    fields = ExtractCounts.__dataclass_fields__
    return ExtractCounts(**{key: sum(s.get(key, 0) for s in shards) for key in fields})


def nothing_taken(config: ExtractConfig, counts: ExtractCounts) -> CorpusError:
    """Why there is no activation at all."""
    if counts.not_finite:
        return CorpusError(
            "no activation could be taken",
            where=config.corpus or None,
            expected="finite values",
            found=f"{counts.not_finite} activations that are NaN, infinite or zero",
            remedy=f"{config.dtype} may overflow in this target: set extract.dtype to bfloat16 or"
            " float32",
        )
    return CorpusError(
        "no activation could be taken",
        where=config.corpus or None,
        expected=f"documents of more than {config.min_position} tokens",
        found=f"{counts.documents} documents, {counts.empty} empty,"
        f" {counts.without_positions} too short",
        remedy="Use longer documents or a smaller extract.min_position",
    )
