"""Where the command line prints: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from typing import Any


def quiet_libraries() -> None:
    """Keeps progress bars and advice of libraries out of the terminal."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning)
    for library in ("transformers", "huggingface_hub"):
        logging.getLogger(library).setLevel(logging.ERROR)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=1, ensure_ascii=False))


def print_rich(*renderables: Any) -> None:
    """Tables and panels on standard output; brackets in their texts are no markup."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 110, markup=False, emoji=False)
    for renderable in renderables:
        console.print(renderable)


def next_command(command: str) -> None:
    """The last line: what to run next."""
    print(f"\nNext: {command}", file=sys.stderr)
