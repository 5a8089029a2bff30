"""Progress of long work on standard error: a bar with rate and time left, or lines in a log."""

from __future__ import annotations

import sys
import time
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

LOG_INTERVAL_S = 30.0


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f} {task.fields['unit']}/s", style="cyan")


class Stage:
    """Progress of one stage of work; a context manager that writes to standard error only.

    On a terminal it draws a bar; elsewhere it prints a line every 30 seconds and one at the end."""

    def __init__(self, description: str, *, total: int, unit: str = "it", initial: int = 0) -> None:
        self.description, self.total, self.unit, self.done = description, total, unit, initial
        self._initial, self._note = initial, ""
        self._console = Console(stderr=True)
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        self._started = self._last_logged = time.monotonic()
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description:<22}"),
                BarColumn(bar_width=28),
                TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
                _RateColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("[dim]{task.fields[note]}"),
                console=self._console,
                redirect_stdout=False,  # what is printed there may go into a file
            )
            self._bar.start()
            self._task = self._bar.add_task(
                self.description, total=self.total, completed=self._initial, unit=self.unit, note=""
            )
        return self

    def advance(self, count: int = 1, *, note: str | None = None) -> None:
        """Counts ``count`` more units as done; ``note`` replaces the short text behind the bar."""
        self.done += count
        self._note = self._note if note is None else note
        if self._bar is not None:
            self._bar.update(self._task, advance=count, note=self._note)
        elif time.monotonic() - self._last_logged > LOG_INTERVAL_S:
            self._log()

    def _log(self) -> None:
        self._last_logged = time.monotonic()
        elapsed = max(self._last_logged - self._started, 1e-9)
        rate, rest = (self.done - self._initial) / elapsed, self.total - self.done
        line = f"{self.description}: {self.done:,}/{self.total:,}  {rate:,.1f} {self.unit}/s"
        left = f", {rest / rate:.0f} s left" if rate > 0 and rest > 0 else ""
        note = f"  {self._note}" if self._note else ""
        print(f"{line}  {elapsed:.0f} s{left}{note}", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self.done > self._initial:
            self._log()
