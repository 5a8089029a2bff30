"""Runs the examples of a documentation page: its ```python blocks in one namespace, its ```bash
blocks' gloss commands, in a folder.

An HTML comment in front of a block says what is different about it: ``<!-- not run: reason -->``,
or ``<!-- ends with 1: reason -->``. Commands are run in this process, by the very code of the
command line; a block of another language (text, toml, json) is text.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

RUNNABLE = ("python", "bash", "console", "sh", "shell")
_BLOCK = re.compile(
    r"^(?:<!-- (?P<note>[^\n]*?) -->\n)?```(?P<language>\w+)[^\n]*\n(?P<content>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_ENDS_WITH = re.compile(r"ends with (\d+): \S")


@dataclass(frozen=True)
class Example:
    """One block of a page: where, language, the comment before it, and content."""

    where: str
    language: str
    note: str
    content: str

    @property
    def reason(self) -> str | None:
        """Why it is not run; None if it is."""
        return self.note.removeprefix("not run: ") if self.note.startswith("not run: ") else None

    @property
    def is_run(self) -> bool:
        return self.language in RUNNABLE and self.reason is None

    @property
    def exit_code(self) -> int:
        wanted = _ENDS_WITH.match(self.note)
        return int(wanted[1]) if wanted else 0


def examples(page: Path) -> list[Example]:
    """The blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Example(
            f"{page.name}:{text.count(chr(10), 0, m.start('language')) + 1}",
            m["language"],
            m["note"] or "",
            m["content"],
        )
        for m in _BLOCK.finditer(text)
    ]


def run_page(
    page: Path, folder: Path, fit: Callable[[str], str] = lambda content: content
) -> list[str]:
    """Runs every example of a page with ``folder`` as the working folder; returns what each
    printed. ``fit`` puts what stands here in the place of what only a reader has.

    Raises: AssertionError that names the page and line of the example that failed.
    """
    namespace: dict[str, object] = {"__name__": "__main__"}
    before, printed = Path.cwd(), []
    os.chdir(folder)
    try:
        for example in examples(page):
            if example.is_run:
                printed.append(_run(example, fit(example.content), namespace))
    finally:
        os.chdir(before)
    return printed


def _run(example: Example, content: str, namespace: dict[str, object]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        if example.language == "python":
            try:
                exec(compile(content, example.where, "exec"), namespace)
            except Exception as error:
                raise AssertionError(f"{example.where}: {type(error).__name__}: {error}") from error
        else:
            for command in _commands(example, content):
                _gloss(example, command)
    return out.getvalue()


def _commands(example: Example, content: str) -> list[list[str]]:
    lines = content.replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True) for line in lines]
    wrong = [words for words in commands if words and words[0] != "gloss"]
    assert not wrong, f"{example.where}: only gloss commands are run, not {wrong[0]}"
    return [words[1:] for words in commands if words]


def _gloss(example: Example, arguments: list[str]) -> None:
    from gloss.cli.main import app

    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        try:
            app(arguments)
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    assert code == example.exit_code, (
        f"{example.where}: gloss {shlex.join(arguments)} ended with {code}:"
        f" {errors.getvalue()[-500:]}"
    )
    assert "from now on" not in errors.getvalue(), f"{example.where}: an old name of a verb"
