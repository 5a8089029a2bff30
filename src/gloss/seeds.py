"""Every random draw is keyed on a seed and on what it is for, never on order or company."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Draws = np.ndarray[Any, np.dtype[np.float32]]


def keyed_bits(seed: int, doc_id: str, *, purpose: str) -> int:
    """64 bits that depend on the seed, the document id and what they are for."""
    key = f"{purpose}\0{seed}\0".encode() + doc_id.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")


def keyed_fraction(seed: int, doc_id: str, *, purpose: str) -> float:
    """A number in [0, 1) that depends on the same."""
    return (keyed_bits(seed, doc_id, purpose=purpose) >> 11) / float(1 << 53)


def row_seed(seed: int, row: int, sample: int = 0) -> int:
    """The seed that sample ``sample`` of row ``row`` is drawn with, on every path.

    A row is a token's position, a row of a file or array, or an index in a batch of joint RL. Seeds
    are exact in JSON's numbers, and consecutive for samples, as a server draws several at once."""
    digest = hashlib.blake2b(f"{seed}/{row}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 12) + sample


def uniform_draws(seeds: Sequence[int], steps: Sequence[int]) -> Draws:
    """One number in [0, 1) per seed and step, and of nothing else; [n], [n] → [n] float32.

    Source: SplitMix64 (Steele, Lea, Flood 2014), the seed mixed before the step is added."""
    import numpy as np

    def mixed(bits: Any) -> Any:
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return bits ^ (bits >> np.uint64(31))

    golden = np.uint64(0x9E3779B97F4A7C15)
    keys = mixed(np.array([seed % 2**64 for seed in seeds], dtype=np.uint64) + golden)
    bits = mixed(keys + (np.array(steps, dtype=np.uint64) + np.uint64(1)) * golden)
    draws: Draws = (bits >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
    return draws
