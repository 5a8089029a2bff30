"""Readings and reconstructions of several clients in one forward pass."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from gloss.data.forward import ReadJob, read_all
from gloss.nla import NLA
from gloss.serve.cache import BoundedCache
from gloss.serve.telemetry import Telemetry

_BATCH_TOKENS, _BATCH_ROWS = 4096, 64


def read_many(
    lane: str,
    nla: NLA,
    texts: Sequence[tuple[int, ...]],
    cache: BoundedCache[object],
    lock: threading.Lock,
    telemetry: Telemetry,
) -> list[Tensor]:
    """Raw activations of every token of each text [token ids]; [tokens, d_model] each. The same text is read once."""
    keys = [blake2b(f"{lane}\0{text}".encode(), digest_size=16).digest() for text in texts]
    with lock:
        known = {key: kept for key in keys if isinstance(kept := cache.get(key), Tensor)}
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    telemetry.shared.labels("reading").inc(len(texts) - len(missing))
    jobs = [
        ReadJob(np.asarray(text, dtype=np.int64), range(len(text)), np.zeros(0, dtype=np.int64))
        for text in missing.values()
    ]
    order = list(missing)
    for index, reading in read_all(nla.target, nla.layer, jobs, batch_tokens=_BATCH_TOKENS, batch_size=_BATCH_ROWS):
        vectors = torch.from_numpy(reading.vectors.copy())
        known[order[index]] = vectors
        with lock:
            cache.put(order[index], vectors, 4 * vectors.numel())
    return [known[key] for key in keys]


def reconstruct_many(nla: NLA, groups: Sequence[tuple[str, ...]]) -> list[Tensor]:
    """What the AR reads in each group of texts; [texts, d_model] each. The same text is read once."""
    different = list(dict.fromkeys(text for group in groups for text in group))
    row_of = {text: row for row, text in enumerate(different)}
    vectors = nla.reconstruct(different)
    return [vectors[[row_of[text] for text in group]] for group in groups]
