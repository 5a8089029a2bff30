"""Gloss's own paths, an application of its own below /v1, with its own description."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from gloss.engines import Rollout
from gloss.errors import ConfigError
from gloss.nla.compare import Side
from gloss.nla.explaining import Sampling
from gloss.nla.questions import Questions, TooLarge
from gloss.nla.remote.arrays import decode_array
from gloss.nla.remote.answers import ArrayAnswer, LoadedNLA, NLAsAnswer, RunAnswer, RunsAnswer, ScoresAnswer
from gloss.nla.results import Comparison, Explanations, Steering, TextContinuation, Trust
from gloss.serve import requests as r
from gloss.serve.interop import declared_secret, shown_place
from gloss.serve.runs import list_runs, read_run
from gloss.serve.service import Service
from gloss.serve.uploads import Upload, read_upload
from gloss.text.tokens import ReadText


@dataclass(frozen=True)
class RolloutsAnswer:
    """Responses, the samples of one activation side by side."""

    rollouts: list[Rollout]


@dataclass(frozen=True)
class Example:
    """A text whose truth is known."""

    doc_id: str
    text: str


@dataclass(frozen=True)
class ExamplesAnswer:
    """Texts whose truth is known."""

    examples: list[Example]


def v1_router(service: Service) -> APIRouter:
    """The paths, over a service."""
    router = APIRouter(dependencies=[Depends(declared_secret)])
    _add_reading(router, service)
    _add_checking(router, service)
    _add_files(router, service)
    return router


def _add_reading(router: APIRouter, service: Service) -> None:
    @router.get("/nlas", response_model=NLAsAnswer)
    async def nlas() -> Any:
        """The loaded NLAs, the default one first."""
        return NLAsAnswer([_loaded(questions) for questions in service.questions.values()])

    @router.post("/tokens", response_model=ReadText)
    async def tokens(body: r.TokensRequest) -> Any:
        """The tokens of a text or a chat, as the target reads it."""
        return await service.ask(body.nla).tokens(body.document())

    @router.post("/activations", response_model=ArrayAnswer)
    async def activations(body: r.ActivationsRequest, request: Request) -> Any:
        """Raw activations of tokens of a text."""

        async def work() -> ArrayAnswer:
            questions = service.ask(body.nla)
            return ArrayAnswer.of(await questions.activations(body.document(), body.positions))

        return await service.answer(request, work())

    @router.post("/explain", response_model=Explanations)
    async def explain(body: r.ExplainRequest, request: Request) -> Any:
        """Explain tokens of a text or a chat, or activations.

        ``stream`` answers with server-sent events: ExplainStart, ExplainPart (done false),
        TokenExplanation (done true) in the order in which they finish, [DONE]; or ErrorFrame as the
        last."""
        questions = service.ask(body.nla)
        width = questions.nla.sidecar.d_model
        asked = body.source(width), body.selection(width), body.sampling()
        if body.stream:
            return await service.stream(request, questions.explain_events(*asked, partial=True))
        return await service.answer(request, questions.explain_all(*asked))

    @router.post("/continue", response_model=TextContinuation)
    async def continue_(body: r.ContinueRequest, request: Request) -> Any:
        """Continue a text or a chat by the target.

        ``stream`` answers with server-sent events: ContinueStart, ContinuedToken for each token,
        ContinueEnd, [DONE]; or ErrorFrame as the last."""
        questions, source = service.ask(body.nla), body.document()
        options = body.model_dump(include={"max_new_tokens", "temperature", "seed"})
        if body.stream:
            return await service.stream(request, questions.continue_events(source, **options))
        return await service.answer(request, questions.continue_text(source, **options))

    @router.post("/reconstruct", response_model=ArrayAnswer)
    async def reconstruct(body: r.ReconstructRequest, request: Request) -> Any:
        """The activations that the AR reads in explanations; their directions count, their norms
        mean nothing.
        """

        async def work() -> ArrayAnswer:
            return ArrayAnswer.of(await service.ask(body.nla).reconstruct(body.explanations))

        return await service.answer(request, work())

    @router.post("/rollouts", response_model=RolloutsAnswer)
    async def rollouts(body: r.RolloutsRequest, request: Request) -> Any:
        """Raw responses of the AV, for clients that train or measure with them."""
        return await service.answer(request, _rollouts(service, body))


def _add_checking(router: APIRouter, service: Service) -> None:
    @router.post("/score", response_model=ScoresAnswer)
    async def score(body: r.ScoreRequest, request: Request) -> Any:
        """How well explanations rebuild a token's activation, or given activations."""

        async def work() -> ScoresAnswer:
            questions = service.ask(body.nla)
            source = body.source(questions.nla.sidecar.d_model)
            scores = await questions.score(body.explanations, source, position=body.position)
            return ScoresAnswer(scores)

        return await service.answer(request, work())

    @router.post("/trust", response_model=Trust)
    async def trust(body: r.TrustRequest, request: Request) -> Any:
        """Controls, samples, neighbours and the share of each claim, for one explanation."""
        options = _own_fields(body)
        return await service.answer(
            request, service.ask(body.nla).trust(body.document(), **options)
        )

    @router.post("/steer", response_model=Steering)
    async def steer(body: r.SteerRequest, request: Request) -> Any:
        """How the target continues when tokens are moved along an edit: h + α‖h‖Δ/‖Δ‖, Δ =
        AR(edited) − AR(original).
        """
        options = _own_fields(body)
        return await service.answer(
            request, service.ask(body.nla).steer(body.document(), **options)
        )

    @router.post("/compare", response_model=Comparison)
    async def compare(body: r.CompareRequest, request: Request) -> Any:
        """Two tokens, texts or vectors: each side explained, and their difference."""
        questions = service.ask(body.nla)
        sides = []
        for side in body.sides:
            reader = questions if side.nla is None else service.ask(side.nla)
            width = reader.nla.sidecar.d_model
            sides.append(Side(side.source(width), side.position, reader))
        return await service.answer(request, questions.compare(*sides, **_own_fields(body)))
