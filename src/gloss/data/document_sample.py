"""Which rows are measured where not all can be: a random sample of documents, never the first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gloss.seeds import keyed_bits


def sample_documents(doc_ids: Sequence[str], limit: int, *, seed: int) -> list[int]:
    """Indices, ascending, of at most ``limit`` rows: whole documents in an order that depends on
    the seed and their ids alone; of the last one as many rows as fit, drawn at random."""
    rows: dict[str, list[int]] = {}
    for row, doc_id in enumerate(doc_ids):
        rows.setdefault(doc_id, []).append(row)
    chosen: list[int] = []
    for key, doc_id in sorted((keyed_bits(seed, name, purpose="sample"), name) for name in rows):
        room, of_document = limit - len(chosen), rows[doc_id]
        if room <= 0:
            break
        if len(of_document) > room:
            drawn = np.random.default_rng(key).permutation(len(of_document))[:room]
            of_document = [of_document[i] for i in drawn.tolist()]
        chosen += of_document
    return sorted(chosen)
