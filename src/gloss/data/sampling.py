"""Which token positions of a document become activations: drawn by an RNG keyed on (seed, document
id) alone.
"""

from __future__ import annotations

import random
from collections.abc import Collection

from gloss.seeds import keyed_bits


def sample_positions(
    num_tokens: int,
    *,
    seed: int,
    doc_id: str,
    count: int,
    min_position: int,
    excluded: Collection[int] = (),
) -> list[int]:
    """Up to ``count`` distinct token indices from ``min_position`` on, ascending; all of them where
    there are fewer.

    The draw depends on the arguments only: not on paths, on the order of documents or on other
    documents."""
    barred = excluded if isinstance(excluded, set | frozenset) else set(excluded)
    candidates = [i for i in range(max(0, min_position), num_tokens) if i not in barred]
    rng = random.Random(keyed_bits(seed, doc_id, purpose="positions"))
    for i in range(min(count, len(candidates))):
        j = i + int(rng.random() * (len(candidates) - i))
        candidates[i], candidates[j] = candidates[j], candidates[i]
    return sorted(candidates[:count])
