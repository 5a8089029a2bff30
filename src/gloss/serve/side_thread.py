"""A thread beside the event loop for what takes long: reading texts, writing answers.

It is a daemon: what a client sent in holds up no shutdown."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from gloss.errors import ServerBusyError

Params = ParamSpec("Params")
Answer = TypeVar("Answer")


class SideThread:
    """Runs functions one after another, as tokenizers want it; at most ``max_waiting`` wait.

    ``run`` is called in the event loop."""

    def __init__(self, name: str, max_waiting: int) -> None:
        self._name, self._max_waiting = name, max_waiting
        self._queue = SimpleQueue[tuple[Future[Any], Callable[[], Any]]]()

    def start(self) -> None:
        """Starts the thread."""
        threading.Thread(target=self._work, name=self._name, daemon=True).start()

    async def run(
        self, function: Callable[Params, Answer], *args: Params.args, **options: Params.kwargs
    ) -> Answer:
        """What the function returns. Raises: what it raises; ServerBusyError if too many wait."""
        if self._queue.qsize() >= self._max_waiting:
            raise ServerBusyError("too many requests wait to be read", remedy="Ask again later")
        future = Future[Answer]()
        self._queue.put((future, partial(function, *args, **options)))
        return await asyncio.wrap_future(future)

    def _work(self) -> None:
        while True:
            future, call = self._queue.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # the thread must outlive it
                    future.set_exception(error)
            del future, call
