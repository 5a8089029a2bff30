"""The process that opens an uploaded file: what the file does to memory and time, it does here.

``python -m gloss.serve.upload_process FILE D_MODEL MAX_ROWS MAX_BYTES`` writes the answer as JSON,
or a user's error with exit status 2."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

_CPU_S = 120
_NO_MEMORY = ("Resource temporarily unavailable", "Cannot allocate memory", "malloc of size")
"""What libraries say in errors of their own where memory or threads run out."""


def main(file: str, d_model: str, max_rows: str, max_bytes: str) -> int:
    """The exit status; see above."""
    import pyarrow as pa
    import torch

    from gloss.errors import GlossError
    from gloss.foreign import json_text
    from gloss.serve.json_text import answer_bytes
    from gloss.serve.uploads import read_upload

    os.nice(10)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    torch.set_num_threads(1)
    _bound_memory(int(max_bytes))
    try:
        found = read_upload(Path(file), int(d_model), max_rows=int(max_rows))
    except GlossError as error:
        if any(one in str(error) for one in _NO_MEMORY):
            return 1
        said: dict[str, str | None] = {
            "kind": type(error).__name__,
            "what": error.what,
            "where": "upload",
            "expected": _shown(error.expected),
            "found": _shown(error.found),
            "remedy": error.remedy,
        }
        sys.stdout.buffer.write(json_text(said).encode())
        return 2
    sys.stdout.buffer.write(answer_bytes(found))
    return 0


def _shown(value: object) -> str | None:
    return None if value is None else str(value)[:200]


def _bound_memory(max_bytes: int) -> None:
    """Bounds what the process may take beside what it has now, and its time."""
    pages = Path("/proc/self/statm")
    held = int(pages.read_text().split()[0]) * resource.getpagesize() if pages.exists() else 0
    for kind, most in ((resource.RLIMIT_AS, held + max_bytes), (resource.RLIMIT_CPU, _CPU_S)):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (most if hard < 0 else min(most, hard), hard))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
