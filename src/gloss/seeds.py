"""Every random draw is keyed: it depends on a seed and on what it is for, never on order or
company.
"""

from __future__ import annotations

import hashlib


def keyed_bits(seed: int, doc_id: str, *, purpose: str) -> int:
    """64 bits that depend on the seed, the document id and what they are for, and on nothing
    else.
    """
    key = f"{purpose}\0{seed}\0".encode() + doc_id.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")


def keyed_fraction(seed: int, doc_id: str, *, purpose: str) -> float:
    """A number in [0, 1) that depends on the seed, the document id and what it is for."""
    return (keyed_bits(seed, doc_id, purpose=purpose) >> 11) / float(1 << 53)


def row_seed(seed: int, row: int, sample: int = 0) -> int:
    """The seed that sample ``sample`` of row ``row`` is drawn with, on every path.

    A row is a token's position in its text, a row of a file or array, or an index in a batch of
    joint RL. Seeds are exact in JSON's numbers, and the samples of a row have consecutive ones, as
    a server counts that draws several at once.
    """
    digest = hashlib.blake2b(f"{seed}/{row}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 12) + sample
