"""What every path works with: the questions to the loaded NLAs, behind one scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from gloss.errors import ConfigError, GlossError
from gloss.nla import NLA, Bounds, Questions
from gloss.plugins import KnownTruth
from gloss.serve.limits import MAX_POSITIONS, Limits
from gloss.serve.replies import PartMissing, event_stream, json_response, within_time
from gloss.serve.scheduler import ScheduledExecutor, Scheduler
from gloss.serve.telemetry import Telemetry
from gloss.text.document import Document
from gloss.text.tokens import ReadText

Answer = TypeVar("Answer")

PARTS = ("av", "ar", "target")


@dataclass(frozen=True)
class Service:
    """Questions by the name of their NLA, the default one first, and what they share. ``missing``
    says which parts of an NLA could not be loaded and why; ``runs`` is the folder whose run folders
    are shown."""

    questions: Mapping[str, Questions]
    missing: Mapping[str, Mapping[str, GlossError]]
    scheduler: Scheduler
    limits: Limits
    telemetry: Telemetry
    runs: Path | None = None
    known_truth: KnownTruth | None = None
    _examples: dict[str, asyncio.Task[Mapping[str, str]]] = field(default_factory=dict)

    @property
    def default(self) -> Questions:
        """The first NLA, which Neuronpedia's paths read with."""
        return next(iter(self.questions.values()))

    def of(self, nla: str | None) -> Questions:
        """The questions to the NLA of that name. Raises: ConfigError if none is loaded as such."""
        if nla is None:
            return self.default
        if nla not in self.questions:
            expected = f"one of {', '.join(self.questions)}"
            raise ConfigError("no such NLA", expected=expected, found=repr(nla))
        return self.questions[nla]

    async def answer(
        self,
        request: Request,
        work: Coroutine[Any, Any, Any],
        wrap: Callable[[Any], Any] | None = None,
    ) -> Any:
        """What the work gives, wrapped and written as JSON beside the event loop, within the time
        of a request, unless the client leaves."""

        async def written() -> Response:
            found = await work
            if isinstance(found, Response):
                return found
            return await self.scheduler.writer.run(json_response, found, wrap)

        return await within_time(request, written(), self.limits.request_timeout_s)

    async def read(self, request: Request, questions: Questions, document: Document) -> ReadText:
        """A text or a chat as tokens, within the time of a request, unless the client leaves."""
        found = await within_time(request, questions.read(document), self.limits.request_timeout_s)
        if isinstance(found, Response):
            raise ClientDisconnect
        return found

    async def aside(self, function: Callable[..., Answer], *args: Any) -> Answer:
        """What a function returns that takes its time, beside the event loop."""
        return await self.scheduler.reader.run(function, *args)

    async def stream(self, request: Request, frames: AsyncIterator[Any]) -> Any:
        """Frames as an event stream."""
        timeout_s = self.limits.request_timeout_s
        return await self.answer(request, event_stream(frames, timeout_s, self.telemetry))

    async def examples(self, nla: str | None) -> Mapping[str, str]:
        """Texts whose truth is known, by id, for an NLA; looked up once."""
        questions = self.of(nla)
        if self.known_truth is None or "target" in questions.missing:
            return {}
        if questions.name not in self._examples:
            finding = asyncio.to_thread(self.known_truth.texts, questions.nla)
            self._examples[questions.name] = asyncio.ensure_future(finding)
        return await asyncio.shield(self._examples[questions.name])


def open_service(
    nlas: Mapping[str, NLA],
    *,
    limits: Limits,
    runs: Path | None = None,
    known_truth: KnownTruth | None = None,
) -> Service:
    """Loads every part of every NLA and puts them behind one scheduler, which is not started yet.

    An NLA without one of its parts is served without it. Raises: GlossError if it has neither AV
    nor AR."""
    telemetry = Telemetry()
    missing = {name: _missing_parts(nla) for name, nla in nlas.items()}
    for errors in missing.values():
        if "av" in errors and "ar" in errors:
            raise errors["av"]
    scheduler = Scheduler(nlas, limits=limits, telemetry=telemetry)
    bounds = Bounds(
        max_rows=MAX_POSITIONS, max_values=limits.max_values, max_new_tokens=limits.max_new_tokens
    )
    questions = {
        name: Questions(
            nla,
            ScheduledExecutor(scheduler, name),
            bounds,
            name=name,
            missing={part: _not_loaded(name, part, e) for part, e in missing[name].items()},
            known_truth=known_truth,
        )
        for name, nla in nlas.items()
    }
    return Service(questions, missing, scheduler, limits, telemetry, runs, known_truth)


def _missing_parts(nla: NLA) -> dict[str, GlossError]:
    missing: dict[str, GlossError] = {}
    for part in PARTS:
        try:
            getattr(nla, "engine" if part == "av" else part)
        except GlossError as error:
            missing[part] = error
    return missing


def _not_loaded(name: str, part: str, error: GlossError) -> PartMissing:
    shown, option = (part, part) if part == "target" else (part.upper(), "nla")
    return PartMissing(
        f"the {shown} is not loaded",
        where=name,
        found=error.what,
        remedy=f"Start the server with --{option} naming one",
    )
