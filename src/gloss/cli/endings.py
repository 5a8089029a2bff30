"""How a command ends: every error as one line and an exit code; a traceback only if asked for."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from gloss.cli.output import note
from gloss.errors import GlossError, first_line
from gloss.stopping import Terminated

USERS_MISTAKE, FAULT_OF_GLOSS, READER_GONE = 2, 70, 141
_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


@contextmanager
def one_line(ended: Callable[[int], BaseException], *, debug: bool = False) -> Iterator[None]:
    """Turns whatever ends a command into one line on standard error and ``ended(exit_code)``.

    A user's mistake ends with 2, Ctrl-C with 130, SIGTERM with 143, a reader that has gone with
    141, and what nobody has foreseen, a fault of Gloss, with 70; ``debug`` prints where that was.
    """
    try:
        yield
    except (SystemExit, GeneratorExit, typer.Exit, typer.Abort):
        raise
    except BrokenPipeError as error:
        _drop_output()
        raise ended(READER_GONE) from error
    except BaseException as error:
        if type(error).__module__.startswith(
            ("typer.", "click.")
        ):  # a usage error, shown with its usage
            raise
        line, code = _line_of(error)
        if isinstance(error, OSError):
            _drop_output()
        if debug:
            traceback.print_exc()
        note(line)
        raise ended(code) from error


def _line_of(error: BaseException) -> tuple[str, int]:
    """The line that tells of an error, and the exit code."""
    if isinstance(error, GlossError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        command = shlex.join(["gloss", *sys.argv[1:]])
        code = 143 if isinstance(error, Terminated) else 130
        return f"stopped; what is finished is saved. Go on with: {command}", code
    if isinstance(error, OSError):
        where = f"{error.filename!s}: " if error.filename else ""
        return f"{where}{error.strerror or first_line(error)}", USERS_MISTAKE
    if isinstance(error, MemoryError) or any(one in str(error).lower() for one in _NO_MEMORY):
        return "not enough memory. Ask for less at once: a shorter text, fewer rows", USERS_MISTAKE
    said = f"{type(error).__name__}: {first_line(error)}"
    again = shlex.join(["gloss", "--debug", *sys.argv[1:]]).replace(" --debug --debug", " --debug")
    return f"a fault of Gloss, not of yours ({said}). Please report what this says: {again}", (
        FAULT_OF_GLOSS
    )


def _drop_output() -> None:
    """Sends what is still to be printed nowhere: the reader has gone, or the disk behind it is
    full."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):  # a stand-in without a file behind it
        return
