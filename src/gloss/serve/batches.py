"""Readings and reconstructions of several clients in one forward pass."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from gloss.models.capture import ReadJob, read_all
from gloss.nla import NLA
from gloss.serve.cache import BoundedCache
from gloss.serve.telemetry import Telemetry

_BATCH_TOKENS, _BATCH_ROWS = 4096, 64


@dataclass(frozen=True)
class Kept:
    """The cache of one lane, and who counts what is taken from it."""

    lane: str
    cache: BoundedCache[object]
    lock: threading.Lock
    telemetry: Telemetry

    def known(self, kind: str, keys: Sequence[bytes]) -> dict[bytes, Tensor]:
        """Vectors kept by key; what need not be worked out is counted as ``kind``."""
        with self.lock:
            known = {key: kept for key in keys if isinstance(kept := self.cache.get(key), Tensor)}
        self.telemetry.shared.labels(kind).inc(len(keys) - len(set(keys) - set(known)))
        return known

    def key(self, kind: str, text: object) -> bytes:
        """Tells a text of this lane from every other."""
        return blake2b(
            f"{self.lane}\0{kind}\0{text}".encode("utf-8", "surrogatepass"), digest_size=16
        ).digest()

    def keep(self, key: bytes, vectors: Tensor) -> None:
        """Keeps vectors."""
        with self.lock:
            self.cache.put(key, vectors, vectors.element_size() * vectors.numel())


def read_many(nla: NLA, texts: Sequence[tuple[int, ...]], kept: Kept) -> list[Tensor]:
    """Raw activations of every token of each text [token ids]; [tokens, d_model] each. The same
    text is read once.
    """
    keys = [kept.key("reading", text) for text in texts]
    known = kept.known("reading", keys)
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    jobs = [
        ReadJob(np.asarray(text, dtype=np.int64), range(len(text)), np.zeros(0, dtype=np.int64))
        for text in missing.values()
    ]
    order = list(missing)
    for index, reading in read_all(
        nla.target, nla.layer, jobs, batch_tokens=_BATCH_TOKENS, batch_size=_BATCH_ROWS
    ):
        known[order[index]] = torch.from_numpy(reading.vectors.copy())
        kept.keep(order[index], known[order[index]])
    return [known[key] for key in keys]


def reconstruct_many(nla: NLA, groups: Sequence[tuple[str, ...]], kept: Kept) -> list[Tensor]:
    """What the AR reads in each group of texts; [texts, d_model] each. The same text is read
    once.
    """
    keys = {text: kept.key("reconstruction", text) for group in groups for text in group}
    known = kept.known("reconstruction", list(keys.values()))
    missing = [text for text, key in keys.items() if key not in known]
    if missing:
        for text, vector in zip(missing, nla.reconstruct(missing), strict=True):
            known[keys[text]] = vector.clone()
            kept.keep(keys[text], known[keys[text]])
    return [torch.stack([known[keys[text]] for text in group]) for group in groups]
