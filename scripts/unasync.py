"""Writes the synchronous client from the asynchronous one; ``--check`` only says whether it is
current.

The asynchronous file is the one to edit. Every word of it that is awaited has a synchronous twin
in ``TWINS``; the rest is the same in both.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

REMOTE = Path(__file__).resolve().parents[1] / "src/gloss/nla/remote"
SOURCE, GENERATED = REMOTE / "async_client.py", REMOTE / "sync_client.py"
NOTICE = "# Generated from async_client.py by scripts/unasync.py; do not edit.\n"
TWINS = (
    (r"async (def|with|for)\b", r"\1"),
    (r"await ", ""),
    (r"Coroutine\[Any, Any, Answer\]", "Answer"),
    (r"import Callable, Coroutine", "import Callable"),
    (r"\bAsyncRemoteNLA\b", "RemoteNLA"),
    (r"\bAsyncRetrying\b", "Retrying"),
    (r"\bAsyncClient\b", "Client"),
    (r"\baclose\b", "close"),
    (r"__aenter__", "__enter__"),
    (r"__aexit__", "__exit__"),
    (r"asynchronous", "synchronous"),
    (r"an async context manager", "a context manager"),
)


def synchronous(text: str) -> str:
    """The synchronous twin of an asynchronous module, formatted like the rest of the code.

    Raises: ValueError if a word of the asynchronous world is left in it.
    """
    for pattern, twin in TWINS:
        text = re.sub(pattern, twin, text)
    if (left := re.search(r"\b(a?sync(?!hronous)\w*|await)\b|\bAsync\w+", text)) is not None:
        raise ValueError(f"no synchronous twin of {left.group()!r}")
    formatted = text
    for arguments in (["check", "--select", "I,UP034", "--fix", "--quiet"], ["format", "--quiet"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(GENERATED)]
        formatted = subprocess.run(
            [*command, "-"], input=formatted, capture_output=True, text=True, check=True
        ).stdout
    return NOTICE + formatted


if __name__ == "__main__":
    written = GENERATED.read_text(encoding="utf-8") if GENERATED.is_file() else ""
    text = synchronous(SOURCE.read_text(encoding="utf-8"))
    if "--check" in sys.argv:
        if written != text:
            sys.exit(f"{GENERATED.name} is out of date; run: python scripts/unasync.py")
    else:
        GENERATED.write_text(text, encoding="utf-8")
