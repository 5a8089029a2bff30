"""Rows that join and leave, over an engine that gives whole responses."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from typing import Any

import torch

from gloss.engines.decoding import DecodingBatch
from gloss.engines.engine import Engine, NewToken, Rollout, RowBatch, RowRequest
from gloss.engines.local import LocalEngine
from gloss.engines.servers import RemoteEngine

_STEP_S = 0.02
"""How long a step waits for a response, so that who steps in a loop does other work in between."""
_NO_TOKEN = -1


def open_batch(engine: Engine, *, max_rows: int) -> RowBatch[RowRequest]:
    """Rows that an engine writes and that join and leave while others are being written."""
    if isinstance(engine, LocalEngine):
        return DecodingBatch(engine.av, max_rows=max_rows)
    return RemoteBatch(engine, max_rows=max_rows)


class RemoteBatch(RowBatch[RowRequest]):
    """Asks an engine for whole responses, a call for the rows that join together and are drawn
    alike.

    A call whose rows have all been aborted is cancelled, which closes its connections."""

    def __init__(self, engine: Engine, *, max_rows: int) -> None:
        super().__init__(max_rows=max_rows)
        self._engine = engine
        self._joining: dict[int, RowRequest] = {}
        self._calls: dict[Future[list[Rollout]], list[int]] = {}
        self._alive: set[int] = set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="gloss-engine", daemon=True).start()

    @property
    def num_rows(self) -> int:
        """See ``RowBatch``."""
        return len(self._alive)

    def add(self, key: int, request: RowRequest) -> None:
        """See ``RowBatch``."""
        self._joining[key] = request
        self._alive.add(key)

    def abort(self, keys: Iterable[int]) -> None:
        """See ``RowBatch``."""
        for key in keys:
            self._joining.pop(key, None)
            self._alive.discard(key)
        for call, rows in list(self._calls.items()):
            if not self._alive.intersection(rows):
                call.cancel()
                del self._calls[call]

    def step(self) -> list[NewToken]:
        """Sends rows that joined, and reports which are finished, each by its last token.

        Raises: EngineError.
        """
        groups: dict[tuple[float, ...], list[int]] = defaultdict(list)
        for key, request in self._joining.items():
            groups[self._alike(request)].append(key)
        for keys in groups.values():
            answers = self._request([self._joining[key] for key in keys])
            self._calls[asyncio.run_coroutine_threadsafe(answers, self._loop)] = keys
        self._joining = {}
        done, _ = wait(self._calls, timeout=_STEP_S, return_when=FIRST_COMPLETED)
        new = [
            NewToken(key, rollout.token_ids[-1] if rollout.token_ids else _NO_TOKEN, rollout)
            for call in done
            for key, rollout in zip(self._calls.pop(call), call.result(), strict=True)
            if key in self._alive
        ]
        self._alive -= {token.key for token in new}
        return new

    def close(self) -> None:
        """See ``RowBatch``; ends the thread that sends."""
        self.abort(list(self._alive))
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _alike(self, request: RowRequest) -> tuple[float, ...]:
        """What rows of one call share: an engine of the user's own knows one seed a call."""
        alone = request.temperature and not isinstance(self._engine, RemoteEngine)
        return request.temperature, request.max_new_tokens, request.seed if alone else 0

    def _request(self, requests: Sequence[RowRequest]) -> Coroutine[Any, Any, list[Rollout]]:
        if isinstance(self._engine, RemoteEngine):
            return self._engine.generate_rows(requests)
        first = requests[0]
        return asyncio.to_thread(
            partial(
                self._engine.generate,
                torch.stack([request.activation for request in requests]),
                temperature=first.temperature,
                max_new_tokens=first.max_new_tokens,
                seed=first.seed,
            )
        )
