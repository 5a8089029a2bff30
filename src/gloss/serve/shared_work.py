"""What clients share: one forward pass for the texts of several, and a cache of what was worked out
before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b

import numpy as np
import torch
from cachetools import LRUCache
from torch import Tensor

from gloss.engines import Rollout
from gloss.models.capture import ReadJob, read_all
from gloss.nla import NLA
from gloss.serve.telemetry import Telemetry

_BATCH_TOKENS, _BATCH_ROWS = 4096, 64
_ENTRY_BYTES = 216
"""What an entry costs beside its value: key, links, objects."""


def num_bytes(value: Tensor | Rollout) -> int:
    """What an entry of the cache takes."""
    if isinstance(value, Tensor):
        return value.element_size() * value.numel() + _ENTRY_BYTES
    return 8 * len(value.token_ids) + 4 * len(value.text) + _ENTRY_BYTES


class WorkCache:
    """Activations, reconstructions and rollouts by key, at most ``max_bytes`` of them; what was not
    used for longest goes first. Thread-safe."""

    def __init__(self, max_bytes: int, telemetry: Telemetry) -> None:
        self._entries = LRUCache[bytes, Tensor | Rollout](max_bytes, getsizeof=num_bytes)
        self._lock, self._telemetry = threading.Lock(), telemetry

    @property
    def num_bytes(self) -> int:
        """What all entries take."""
        return int(self._entries.currsize)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Tensor | Rollout | None:
        """The value, which counts as used now; None if it is not here."""
        with self._lock:
            return self._entries.get(key)

    def put(self, key: bytes, value: Tensor | Rollout) -> None:
        """Keeps a value, unless it is larger than the whole cache."""
        with self._lock, suppress(ValueError):
            self._entries[key] = value

    def vectors(
        self,
        kind: str,
        texts: Sequence[tuple[int, ...] | str],
        nla_name: str,
        work_out: Callable[[list[int]], Sequence[Tensor]],
    ) -> list[Tensor]:
        """The vectors of each text of one NLA. ``work_out`` gives those of the texts of these
        indices: the same text is worked out once, and what is in the cache not at all."""
        keys = [_key(nla_name, kind, text) for text in texts]
        known = {key: value for key in set(keys) if isinstance(value := self.get(key), Tensor)}
        missing = {key: i for i, key in enumerate(keys) if key not in known}
        self._telemetry.shared.labels(kind).inc(len(keys) - len(missing))
        if missing:
            for key, vectors in zip(missing, work_out(list(missing.values())), strict=True):
                known[key] = vectors.clone()
                self.put(key, known[key])
        return [known[key] for key in keys]


def _key(*parts: object) -> bytes:
    text = "\0".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16).digest()


def read_texts(
    nla: NLA, name: str, texts: Sequence[tuple[int, ...]], cache: WorkCache
) -> list[Tensor]:
    """Raw activations of every token of each text [token ids]; [tokens, d_model] each."""

    def work_out(indices: list[int]) -> list[Tensor]:
        nothing = np.zeros(0, dtype=np.int64)
        jobs = [
            ReadJob(np.asarray(texts[i], dtype=np.int64), range(len(texts[i])), nothing)
            for i in indices
        ]
        readings = dict(
            read_all(
                nla.target, nla.layer, jobs, batch_tokens=_BATCH_TOKENS, batch_size=_BATCH_ROWS
            )
        )
        return [torch.from_numpy(readings[i].vectors) for i in range(len(jobs))]

    return cache.vectors("reading", texts, name, work_out)


def reconstruct_groups(
    nla: NLA, name: str, groups: Sequence[tuple[str, ...]], cache: WorkCache
) -> list[Tensor]:
    """What the AR reads in each group of texts; [texts, d_model] each."""
    texts = [text for group in groups for text in group]
    found = cache.vectors(
        "reconstruction",
        texts,
        name,
        lambda indices: list(nla.ar.reconstruct([texts[i] for i in indices])),
    )
    ends = np.cumsum([len(group) for group in groups]).tolist()
    spans = zip(ends, groups, strict=True)
    return [torch.stack(found[end - len(group) : end]) for end, group in spans]
