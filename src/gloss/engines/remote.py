"""What engines behind HTTP share: bounded concurrency, order, seeds, speed, and one probe of the
server's settings.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeVar

import torch
from anyio.from_thread import start_blocking_portal
from torch import Tensor

from gloss.engines.engine import Rollout
from gloss.engines.transport import Limits, Transport, bearer
from gloss.errors import EngineError, InjectionError

T = TypeVar("T")
PROBE_TOKENS = 4


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn: ``num_samples`` per activation, greedy at temperature 0."""

    temperature: float
    max_new_tokens: int
    seed: int
    num_samples: int = 1

    @property
    def num_draws(self) -> int:
        """Different responses per activation: greedy ones are all the same."""
        return 1 if self.temperature == 0 else self.num_samples


@dataclass(frozen=True)
class Call:
    """One request: its body, how many responses it asks for, and how its answer is read."""

    path: str
    body: bytes
    num_responses: int
    read: Callable[[Any], list[Rollout]]


@dataclass(frozen=True)
class Speed:
    """What a call of ``generate`` took."""

    responses: int
    tokens: int
    seconds: float

    @property
    def tokens_per_s(self) -> float:
        """Generated tokens per second, over all requests together."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0

    def __str__(self) -> str:
        return (
            f"{self.responses:,} responses, {self.tokens:,} tokens, {self.tokens_per_s:,.0f}"
            " tokens/s"
        )


class RemoteEngine(ABC):
    """A rollout engine over a server; ``last_speed`` says what the last ``generate`` took.

    ``generate`` may be called from a program with or without an event loop. A stop signal, or the
    cancellation of
    ``generate_async``, closes the requests under way. Connections are made anew by every call.
    """

    kind: ClassVar[str]

    def __init__(self, url: str, *, d_model: int, limits: Limits | None = None) -> None:
        self.url, self.d_model, self.limits = url.rstrip("/"), d_model, limits or Limits()
        self.last_speed: Speed | None = None

    def __str__(self) -> str:
        return f"{self.kind}+{self.url}"

    def generate(
        self,
        activations: Tensor,
        *,
        temperature: float,
        max_new_tokens: int,
        seed: int,
        num_samples: int = 1,
    ) -> list[Rollout]:
        """See ``Engine.generate``; the same seed gives the same responses where the server
        honours seeds.

        Raises: EngineError, InjectionError, ActivationError.
        """
        return run_apart(
            partial(
                self.generate_async,
                activations,
                temperature=temperature,
                max_new_tokens=max_new_tokens,
                seed=seed,
                num_samples=num_samples,
            )
        )

    async def generate_async(
        self,
        activations: Tensor,
        *,
        temperature: float,
        max_new_tokens: int,
        seed: int,
        num_samples: int = 1,
    ) -> list[Rollout]:
        """As ``generate``, for a program with an event loop."""
        if activations.ndim != 2 or activations.shape[1] != self.d_model:
            raise InjectionError(
                "wrong activations", expected=f"[n, {self.d_model}]", found=tuple(activations.shape)
            )
        sampling = Sampling(temperature, max_new_tokens, seed, num_samples)
        started = time.monotonic()
        rollouts = await self._all(self._calls(activations.detach().float().cpu(), sampling))
        if sampling.num_draws != num_samples:
            rollouts = [rollout for rollout in rollouts for _ in range(num_samples)]
        tokens = sum(len(rollout.token_ids) for rollout in rollouts)
        self.last_speed = Speed(len(rollouts), tokens, time.monotonic() - started)
        return rollouts

    async def _all(self, calls: Iterator[Call]) -> list[Rollout]:
        """Sends calls, no more than ``concurrency`` of them encoded at once; answers in the order
        of the calls.
        """
        answers: dict[int, list[Rollout]] = {}
        numbered = enumerate(calls)

        async def work(transport: Transport) -> None:
            for number, call in numbered:
                answers[number] = await self._responses(transport, call)

        async with self._transport() as transport:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(self.limits.concurrency):
                        group.create_task(work(transport))
            except BaseExceptionGroup as failed:
                raise failed.exceptions[0] from failed.exceptions[0].__cause__
        return [rollout for number in sorted(answers) for rollout in answers[number]]

    async def _responses(self, transport: Transport, call: Call) -> list[Rollout]:
        """The answer to one call."""
        found = call.read(await transport.send(call.path, call.body))
        if len(found) != call.num_responses:
            raise EngineError(
                "responses and requests do not match",
                where=self.url,
                expected=call.num_responses,
                found=len(found),
            )
        return found

    def check(self) -> None:
        """Probes the server once, and explains settings with which explanations would be wrong.

        Raises: EngineError.
        """
        run_apart(self._check)

    async def _check(self) -> None:
        async with self._transport() as transport:
            await self._probe(transport)

    def _transport(self) -> AbstractAsyncContextManager[Transport]:
        return Transport.open(self.url, self.limits, self._key_header())

    def _key_header(self) -> dict[str, str]:
        """How the server is told its key, if there is one."""
        return bearer()

    @abstractmethod
    def _calls(self, activations: Tensor, sampling: Sampling) -> Iterator[Call]:
        """The requests for activations [n, d_model], made as they are needed, ``num_draws``
        responses per activation.
        """

    @abstractmethod
    async def _probe(self, transport: Transport) -> None:
        """Asks the server the least that shows wrong settings."""


def row_seed(seed: int, row: int) -> int:
    """The seed of one activation's responses, the same in whatever order the server works; in [0,
    2³¹).
    """
    digest = hashlib.blake2b(f"{seed}/{row}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") >> 1


def probe_activation(d_model: int) -> Tensor:
    """The activation that servers are probed with, [1, d_model]; another is its negative."""
    return torch.randn(1, d_model, generator=torch.Generator().manual_seed(0))


def run_apart(function: Callable[[], Awaitable[T]]) -> T:
    """Runs an asynchronous function to its end in a thread of its own; an exception here, such as
    Ctrl-C, cancels it.
    """
    with start_blocking_portal("asyncio") as portal:
        return portal.call(function)


def not_this_kind(url: str, kind: str, found: object) -> EngineError:
    """The error for answers that a server of this kind does not give."""
    return EngineError(
        f"this is no {kind} server, or one of another version",
        where=url,
        found=repr(found)[:120],
        remedy="Name the kind of server: sglang+http://…, vllm+http://… or gloss+http://…",
    )
