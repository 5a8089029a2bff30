"""Large blocks go back to the system when they are freed, whatever was freed before."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from gloss.serve.memory import LARGE_BYTES

_BLOCKS = f"""
import ctypes, sys
from gloss.serve.memory import give_back_large_blocks
if sys.argv[1] == "set":
    assert give_back_large_blocks()
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ("a", "b", "c", "hblks", "hblkhd", *"fghij")]
mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info
large = bytearray(20 * {LARGE_BYTES})
del large  # from here on glibc by itself keeps blocks of up to this size
before = mallinfo().hblkhd
kept = [bytearray(2 * {LARGE_BYTES}) for _ in range(8)]
print(mallinfo().hblkhd - before)
"""


@pytest.mark.parametrize(("setting", "expected"), [("set", True), ("unset", False)])
def test_large_blocks_are_not_kept_on_the_heap(setting: str, expected: bool) -> None:
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("only glibc 2.33 and later tells where blocks lie")
    mapped = subprocess.run(
        [sys.executable, "-c", _BLOCKS, setting], capture_output=True, text=True, check=True
    )
    assert (int(mapped.stdout) >= 16 * LARGE_BYTES) is expected
