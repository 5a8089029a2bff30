"""Runs the examples of a guide page: its ```python blocks in one namespace, its ```bash blocks'
gloss commands, in a folder.

A block whose info string has more words is treated as they say: ``python not-run`` is not run;
``bash exits=1`` must end so. Commands are run in this process, by the very code of the command
line; a block of another language is text."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """One block of a page: where, language, options and content."""

    where: str
    language: str
    options: tuple[str, ...]
    content: str

    @property
    def is_run(self) -> bool:
        return self.language in ("python", "bash") and "not-run" not in self.options


def examples(page: Path) -> list[Example]:
    """The blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Example(
            f"{page.name}:{text.count(chr(10), 0, m.start()) + 1}", m[1], tuple(m[2].split()), m[3]
        )
        for m in _BLOCK.finditer(text)
    ]


def run_page(page: Path, folder: Path) -> list[str]:
    """Runs every example of a page with ``folder`` as the working folder; returns what each
    printed.

    Raises: AssertionError that names the page and line of the example that failed.
    """
    namespace: dict[str, object] = {"__name__": "__main__"}
    before, printed = Path.cwd(), []
    os.chdir(folder)
    try:
        for example in examples(page):
            if example.is_run:
                printed.append(_run(example, namespace))
    finally:
        os.chdir(before)
    return printed


def _run(example: Example, namespace: dict[str, object]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        if example.language == "python":
            try:
                exec(compile(example.content, example.where, "exec"), namespace)
            except Exception as error:
                raise AssertionError(f"{example.where}: {type(error).__name__}: {error}") from error
        else:
            for command in _commands(example):
                _gloss(example, command)
    return out.getvalue()


def _commands(example: Example) -> list[list[str]]:
    lines = example.content.replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True) for line in lines]
    wrong = [words for words in commands if words and words[0] != "gloss"]
    assert not wrong, f"{example.where}: only gloss commands are run, not {wrong[0]}"
    return [words[1:] for words in commands if words]


def _gloss(example: Example, arguments: list[str]) -> None:
    from gloss.cli.main import app

    wanted = next((int(option[6:]) for option in example.options if option.startswith("exits=")), 0)
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        try:
            app(arguments)
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    assert code == wanted, (
        f"{example.where}: gloss {shlex.join(arguments)} ended with {code}:"
        f" {errors.getvalue()[-500:]}"
    )
