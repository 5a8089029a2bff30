"""Stop signals: Ctrl-C and SIGTERM let a loop finish its step and save, within a few seconds."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

GRACE_S = 3.0


class Terminated(KeyboardInterrupt):
    """SIGTERM: handled like Ctrl-C, with its own exit code."""


class StopRequest:
    """Whether somebody has asked the loop to stop."""

    def __init__(self) -> None:
        self.kind: type[KeyboardInterrupt] | None = None

    @property
    def requested(self) -> bool:
        """True from the first signal on."""
        return self.kind is not None

    def obey(self) -> None:
        """Ends the loop if a stop was asked for. Raises: KeyboardInterrupt, Terminated."""
        if self.kind is not None:
            raise self.kind


def stop_on_sigterm() -> None:
    """From now on SIGTERM raises Terminated in the main thread."""

    def terminate(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)


@contextmanager
def deferred_stop() -> Iterator[StopRequest]:
    """The first signal only sets ``requested``: the loop saves its state and calls ``obey``.

    A second one, or three seconds, raise at once. Outside the main thread nothing is changed."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, _frame: FrameType | None) -> None:
        again = request.requested
        request.kind = Terminated if number == signal.SIGTERM else KeyboardInterrupt
        if again:
            raise request.kind
        signal.setitimer(signal.ITIMER_REAL, GRACE_S)

    handlers: dict[signal.Signals, Any] = {signal.SIGINT: note, signal.SIGTERM: note}
    handlers[signal.SIGALRM] = lambda *_: request.obey()
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield request
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
