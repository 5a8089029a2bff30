"""What the command line prints: answers to standard output, everything else to standard error."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gloss.errors import first_line
from gloss.foreign import json_text, printable


@dataclass(frozen=True)
class Answer:
    """What a verb found: the JSON of ``--json`` (or what makes it), what a terminal shows, the
    command that may come next, and the exit code."""

    as_json: Any
    shown: Iterable[Any] = ()
    then: str | None = None
    exit_code: int = 0


def quiet_libraries() -> None:
    """Keeps progress bars and advice of libraries out of the terminal; a warning is one line."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.showwarning = _warned
    for library in ("transformers", "huggingface_hub"):
        logging.getLogger(library).setLevel(logging.ERROR)


def steady_streams() -> None:
    """Makes standard streams take any text: what a console's encoding lacks is shown as \\u2014. A
    closed one becomes one that reads as empty, or that cannot be written."""
    for name in ("stdin", "stdout", "stderr"):  # in this order: each takes the lowest free number
        stream = getattr(sys, name)
        if stream is None:
            handle = os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            mode = "r" if name == "stdin" else "w"
            stand_in = os.fdopen(handle, mode, encoding="utf-8", errors="backslashreplace")
            setattr(sys, name, stand_in)
        elif name != "stdin" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_json(value: Any) -> None:
    """One JSON document on standard output; in ASCII where that is not UTF-8."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "")
    print(json_text(value, indent=1, only_ascii=encoding != "utf8"))


def print_rich(*renderables: Any) -> None:
    """Tables and panels on standard output; brackets in their texts are no markup."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 110, markup=False, emoji=False)
    for renderable in renderables:
        console.print(renderable)


def note(line: str) -> None:
    """A line for whoever watches."""
    print(f"gloss: {printable(line)}", file=sys.stderr, flush=True)


def _warned(message: Warning | str, *_place: Any, **_options: Any) -> None:
    note(f"warning: {first_line(Warning(message))}")


def next_command(command: str) -> None:
    """The last line: what to run next."""
    print(f"\nNext: {command}", file=sys.stderr)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Any:
    """A table for ``print_rich``; a column whose name ends in > is aligned to the right. A cell is
    text, a number, None or a rich Text."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(show_lines=True, header_style="bold")
    for name in columns:
        shown.add_column(name.removesuffix(">"), justify="right" if ">" in name else "left")
    for row in rows:
        cells = ("" if cell is None else cell for cell in row)
        shown.add_row(*(c if isinstance(c, Text) else Text(printable(str(c))) for c in cells))
    return shown
