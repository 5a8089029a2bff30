"""What engines behind HTTP share: concurrency, order, seeds, speed, a probe of the server."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar, Unpack

import torch
from anyio.from_thread import start_blocking_portal
from torch import Tensor

from gloss.engines.engine import Rollout, RowRequest, SamplingOptions
from gloss.engines.transport import Limits, RefusedRequest, Transport, bearer
from gloss.errors import EngineError, InjectionError
from gloss.foreign import shown
from gloss.models import ActivationVerbalizer, PromptEmbedder
from gloss.seeds import row_seed

T = TypeVar("T")
PROBE_TOKENS = 4
SAME_LOGPROB = 1e-5
"""Below this difference in all first log-probabilities a server ignored the activation."""
OTHER_LOGPROB = 0.2
"""Above this difference in a log-probability, more than bfloat16's, weights are others."""


@dataclass(frozen=True)
class Sampling:
    """How ``num_draws`` different responses to each activation are drawn; response s of activation
    i has the seed ``seeds[i] + s``. Greedy ones are all the same."""

    temperature: float
    max_new_tokens: int
    seeds: Sequence[int]
    num_draws: int = 1


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
    """An engine over a server; ``last_speed`` says what the last ``generate`` took.

    ``generate`` may be called from a program with or without an event loop. A stop signal, or the
    cancellation of ``generate_async``, closes the requests under way. Connections are made anew by
    every call.
    """

    kind: ClassVar[str]

    def __init__(self, url: str, *, d_model: int, limits: Limits | None = None) -> None:
        self.url, self.d_model, self.limits = url.rstrip("/"), d_model, limits or Limits()
        self.last_speed: Speed | None = None

    def __str__(self) -> str:
        return f"{self.kind}+{self.url}"

    def generate(self, activations: Tensor, **options: Unpack[SamplingOptions]) -> list[Rollout]:
        """See ``Engine.generate``; the same seed gives the same responses where the server honours
        seeds.

        Raises: EngineError, InjectionError, ActivationError.
        """
        return run_apart(partial(self.generate_async, activations, **options))

    async def generate_async(
        self, activations: Tensor, **options: Unpack[SamplingOptions]
    ) -> list[Rollout]:
        """As ``generate``, for a program with an event loop."""
        temperature, num_samples = options["temperature"], options.get("num_samples", 1)
        rows, draws = options.get("rows"), num_samples if temperature else 1
        seeds = [
            row_seed(options["seed"], row)
            for row in (range(len(activations)) if rows is None else rows)
        ]
        sampling = Sampling(temperature, options["max_new_tokens"], seeds, draws)
        rollouts = await self._generate(activations, sampling)
        return [rollout for rollout in rollouts for _ in range(num_samples // draws)]

    async def generate_rows(self, requests: Sequence[RowRequest]) -> list[Rollout]:
        """One response to each request; all have one temperature and length."""
        seeds, first = [request.seed for request in requests], requests[0]
        vectors = torch.stack([request.activation for request in requests])
        return await self._generate(
            vectors, Sampling(first.temperature, first.max_new_tokens, seeds)
        )

    async def _generate(self, activations: Tensor, sampling: Sampling) -> list[Rollout]:
        if activations.ndim != 2 or activations.shape[1] != self.d_model:
            raise InjectionError(
                "wrong activations", expected=f"[n, {self.d_model}]", found=tuple(activations.shape)
            )
        started = time.monotonic()
        rollouts = await self._all(self._calls(activations.detach().float().cpu(), sampling))
        tokens = sum(len(rollout.token_ids) for rollout in rollouts)
        self.last_speed = Speed(len(rollouts), tokens, time.monotonic() - started)
        return rollouts

    async def _all(self, calls: Iterator[Call]) -> list[Rollout]:
        """Sends calls, no more than ``concurrency`` of them encoded at once; answers in the order
        of the calls."""
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
        try:
            self._request(self._probe)
        except RefusedRequest as refusal:
            raise self._explained(refusal) from refusal

    def _request(self, call: Callable[[Transport], Awaitable[T]]) -> T:
        async def sent() -> T:
            async with self._transport() as transport:
                return await call(transport)

        return run_apart(sent)

    @abstractmethod
    def load_weights(self, folder: Path) -> None:
        """See ``Engine.load_weights``."""

    def _transport(self) -> Any:
        return Transport.open(self.url, self.limits, self._key_header())

    def _key_header(self) -> dict[str, str]:
        return bearer()

    @abstractmethod
    def _calls(self, activations: Tensor, sampling: Sampling) -> Iterator[Call]:
        """The requests for activations [n, d_model], made as they are needed."""

    @abstractmethod
    async def _probe(self, transport: Transport) -> None:
        """Asks the server the least that shows wrong settings."""

    @abstractmethod
    def _explained(self, refusal: RefusedRequest) -> EngineError:
        """What the refusal of a probe means."""


FirstSteps = list[tuple[int, float]]
"""Token and log-probability of the first steps of a response."""


class EmbeddedPromptEngine(RemoteEngine):
    """An engine over a server that runs the AV and is sent the prompt's embeddings, never ids."""

    remedies: ClassVar[dict[str, str]]
    """What to do about a refusal that holds these words."""
    cache_remedy: ClassVar[str]
    update_remedy: ClassVar[str]

    def __init__(self, url: str, embedder: PromptEmbedder, *, limits: Limits | None = None) -> None:
        super().__init__(url, d_model=embedder.d_model, limits=limits)
        self.embedder = embedder

    def load_weights(self, folder: Path) -> None:
        """See ``Engine.load_weights``: the server reads the folder by the same path, and the
        prompt's embeddings are read anew.

        Raises: EngineError, CheckpointError, SidecarError.
        """
        try:
            self._request(partial(self._load_weights, folder=str(folder.resolve())))
        except RefusedRequest as refusal:
            raise EngineError(
                "the server does not take new weights",
                where=self.url,
                found=refusal.message,
                remedy=self.update_remedy,
            ) from refusal
        dtype = str(self.embedder.prompt.dtype).removeprefix("torch.")
        self.embedder = PromptEmbedder.load(folder, dtype=dtype)

    @torch.no_grad()
    def check_weights(self, av: ActivationVerbalizer) -> None:
        """Compares the server's first log-probabilities with those of the live AV.

        Raises: EngineError if its weights are others.
        """
        activation = probe_activation(self.d_model)
        steps = self._request(partial(self._first_steps, activation=activation))
        ids = torch.tensor([[token for token, _ in steps]])
        here = av.response_logprobs(activation, ids, torch.ones_like(ids, dtype=torch.bool))
        there = torch.tensor([logprob for _, logprob in steps])
        furthest = float((here.float().cpu() - there).abs().max())
        if not furthest <= OTHER_LOGPROB:
            raise EngineError(
                "the server's weights are not those of the AV",
                where=self.url,
                expected=f"log-probabilities within {OTHER_LOGPROB} of those computed here",
                found=f"{furthest:.2g} apart",
                remedy="Serve this AV. If it was served, an update was not taken over whole: vLLM"
                " keeps a tied LM head (docs/serve_engines.md)",
            )

    def rollout(
        self, token_ids: Sequence[int], *, finished: bool, matched: object = None
    ) -> Rollout:
        """A response as the server reports it; the ids get the stop token that ended it."""
        ids, stops = list(token_ids), self.embedder.stop_ids
        if finished and (not ids or ids[-1] not in stops):
            ids.append(matched if isinstance(matched, int) else stops[0])
        return Rollout(token_ids=tuple(ids), text=self.embedder.decode(ids), finished=finished)

    def settings(self, temperature: float) -> dict[str, Any]:
        """Every setting that a server could otherwise take from the model's generation config."""
        return {
            "temperature": temperature,
            "skip_special_tokens": False,
            "stop_token_ids": list(self.embedder.stop_ids),
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
        }

    def ended(self, reason: str, found: object) -> bool:
        """Whether a response ended by itself. Raises: EngineError if the server gave it up."""
        if reason not in ("stop", "length"):
            raise EngineError(
                "the server gave up a response",
                where=self.url,
                expected="stop or length",
                found=found,
            )
        return reason == "stop"

    @abstractmethod
    async def _load_weights(self, transport: Transport, folder: str) -> None:
        """Has the server go on with the weights of ``folder``."""

    @abstractmethod
    async def _first_steps(self, transport: Transport, activation: Tensor) -> FirstSteps:
        """The server's greedy first steps for an activation [1, d_model]."""

    async def _probe(self, transport: Transport) -> None:
        """The second and third answer are compared: with a cache both come out of it, alike."""
        activation = probe_activation(self.d_model)
        await self._first_steps(transport, activation)
        other = await self._first_steps(transport, -activation)
        again = await self._first_steps(transport, activation)
        if all(
            one[0] == two[0] and abs(one[1] - two[1]) < SAME_LOGPROB
            for one, two in zip(other, again, strict=False)
        ):
            raise EngineError(
                "the server answers two different activations alike",
                where=self.url,
                expected="different log-probabilities",
                found=(
                    "the same: its prefix cache returns the first activation's keys and values, or"
                    " its model ignores embeddings"
                ),
                remedy=self.cache_remedy,
            )

    def _explained(self, refusal: RefusedRequest) -> EngineError:
        by_words = (does for words, does in self.remedies.items() if words in refusal.message)
        remedy = f"Serve this AV itself: its embeddings are {self.d_model} wide"
        if refusal.status == 404:
            remedy = (
                f"Check that this is {self.kind}'s own address; other servers are named by their"
                " kind in front of http://"
            )
        return EngineError(
            refusal.what,
            where=self.url,
            found=refusal.message,
            remedy=next(by_words, remedy),
        )


def probe_activation(d_model: int) -> Tensor:
    """The activation that servers are probed with, [1, d_model]; another is its negative."""
    return torch.randn(1, d_model, generator=torch.Generator().manual_seed(0))


def run_apart(function: Callable[[], Awaitable[T]]) -> T:
    """Runs an asynchronous function in a thread of its own; an exception here cancels it."""
    with start_blocking_portal("asyncio") as portal:
        return portal.call(function)


def not_this_kind(url: str, kind: str, found: object) -> EngineError:
    """The error for answers that a server of this kind does not give."""
    return EngineError(
        f"this is no {kind} server, or one of another version",
        where=url,
        found=shown(found, 120),
        remedy="Name the kind of server: sglang+http://…, vllm+http://… or gloss+http://…",
    )
