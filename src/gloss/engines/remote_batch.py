"""The stepping interface over an engine on another machine, which gives whole responses."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait

import torch

from gloss.engines.engine import NewToken, Rollout, RowRequest
from gloss.engines.remote import RemoteEngine

_STEP_S = 0.02
"""How long a step waits for a response, so that who steps in a loop does other work in between."""
_NO_TOKEN = -1


class RemoteBatch:
    """Asks a remote engine for whole responses: greedy rows that join together in one call, sampled
    ones each with its seed.

    A call whose rows have all been dropped is cancelled, which closes its connections.
    """

    def __init__(self, engine: RemoteEngine, *, max_rows: int) -> None:
        self._engine, self.max_rows = engine, max_rows
        self._joining: dict[int, RowRequest] = {}
        self._calls: dict[Future[list[Rollout]], list[int]] = {}
        self._alive: set[int] = set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="gloss-engine", daemon=True).start()

    @property
    def num_rows(self) -> int:
        """Rows that are being written or about to be."""
        return len(self._alive)

    @property
    def room(self) -> int:
        """How many rows can be admitted now."""
        return self.max_rows - self.num_rows

    def add(self, key: int, request: RowRequest) -> None:
        """Lets a row join at the next step; ``key`` names it from then on."""
        self._joining[key] = request
        self._alive.add(key)

    def abort(self, keys: Iterable[int]) -> None:
        """Lets rows go before their end; keys that are not here are no error."""
        for key in keys:
            self._joining.pop(key, None)
            self._alive.discard(key)
        for call, rows in list(self._calls.items()):
            if not self._alive.intersection(rows):
                call.cancel()
                del self._calls[call]

    def step(self) -> list[NewToken]:
        """Sends rows that joined, and tells which are finished, each by its last token. Raises:
        EngineError.
        """
        for (temperature, length, seed), keys in self._groups().items():
            vectors = torch.stack([self._joining[key].activation for key in keys])
            asked = self._engine.generate_async(
                vectors, temperature=temperature, max_new_tokens=length, seed=seed
            )
            self._calls[asyncio.run_coroutine_threadsafe(asked, self._loop)] = keys
        self._joining = {}
        done, _ = wait(self._calls, timeout=_STEP_S, return_when=FIRST_COMPLETED)
        finished = [
            (key, rollout)
            for call in done
            for key, rollout in zip(self._calls.pop(call), call.result(), strict=True)
        ]
        told = [
            NewToken(key, rollout.token_ids[-1] if rollout.token_ids else _NO_TOKEN, rollout)
            for key, rollout in finished
            if key in self._alive
        ]
        self._alive -= {token.key for token in told}
        return told

    def close(self) -> None:
        """Drops all rows and ends the thread that sends."""
        self.abort(list(self._alive))
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _groups(self) -> dict[tuple[float, int, int], list[int]]:
        """Joining rows that one call can ask for."""
        groups: dict[tuple[float, int, int], list[int]] = defaultdict(list)
        for key, request in self._joining.items():
            seed = request.seed if request.temperature else 0
            groups[request.temperature, request.max_new_tokens, seed].append(key)
        return groups
