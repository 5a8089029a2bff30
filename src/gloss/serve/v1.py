"""Gloss's own paths, an application of its own below /v1, with its own description."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from gloss.engines import Rollout, RowRequest
from gloss.errors import ConfigError
from gloss.nla import Questions, Side, TooLarge
from gloss.nla.remote.answers import (
    ArrayAnswer,
    LoadedNLA,
    NLAsAnswer,
    RunAnswer,
    RunsAnswer,
    ScoresAnswer,
    decode_array,
)
from gloss.nla.results import Comparison, Explanations, TextContinuation, Trust
from gloss.nla.steering_result import Steering
from gloss.serve import requests as r
from gloss.serve.interop import completion_frames, declared_secret, shown_place
from gloss.serve.json_route import json_route
from gloss.serve.runs import list_runs, read_run
from gloss.serve.service import PARTS, Service
from gloss.serve.uploads import Upload, UploadReader
from gloss.text.tokens import ReadText

NLAName = Annotated[str | None, Query()]


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
    route_class = json_route(service.scheduler.reader)
    router = APIRouter(dependencies=[Depends(declared_secret)], route_class=route_class)
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
    async def tokens(body: r.TokensRequest, request: Request) -> Any:
        """The tokens of a text or a chat, as the target reads it."""
        return await service.answer(request, service.of(body.nla).tokens(body.document()))

    @router.post("/activations", response_model=ArrayAnswer)
    async def activations(body: r.ActivationsRequest, request: Request) -> Any:
        """Raw activations of tokens of a text."""
        work = service.of(body.nla).activations(body.document(), body.positions)
        return await service.answer(request, work, ArrayAnswer.of)

    @router.post("/explain", response_model=Explanations)
    async def explain(body: r.ExplainRequest, request: Request) -> Any:
        """Explain tokens of a text or a chat, or activations.

        ``stream`` answers with server-sent events: ExplainStart, ExplainPart (done false),
        TokenExplanation (done true) in the order in which they finish, [DONE]; or ErrorFrame as the
        last."""
        questions = service.of(body.nla)
        width = questions.nla.sidecar.d_model
        source = await service.aside(body.source, width)
        selection, sampling = await service.aside(body.parts, width)
        if body.stream:
            frames = questions.explain_events(source, selection, sampling, partial=True)
            return await service.stream(request, frames)
        options = {**vars(selection), **vars(sampling)}
        return await service.answer(request, questions.explain(source, **options))

    @router.post("/continue", response_model=TextContinuation)
    async def continue_(body: r.ContinueRequest, request: Request) -> Any:
        """Continue a text or a chat by the target.

        ``stream`` answers with server-sent events: CompletionPromptFrame, CompletionTokenFrame for
        each token, CompletionDoneFrame, [DONE]; or ErrorFrame as the last."""
        questions, options = service.of(body.nla), body.options()
        if body.stream:
            return await service.stream(request, completion_frames(questions, body, options))
        return await service.answer(request, questions.continue_text(body.document(), **options))

    @router.post("/reconstruct", response_model=ArrayAnswer)
    async def reconstruct(body: r.ReconstructRequest, request: Request) -> Any:
        """The activations that the AR reads in explanations; their directions count, their norms
        mean nothing."""
        work = service.of(body.nla).reconstruct(body.explanations)
        return await service.answer(request, work, ArrayAnswer.of)

    @router.post("/rollouts", response_model=RolloutsAnswer)
    async def rollouts(body: r.RolloutsRequest, request: Request) -> Any:
        """Raw responses of the AV, for clients that train or measure with them."""
        return await service.answer(request, _rollouts(service, body))


def _add_checking(router: APIRouter, service: Service) -> None:
    @router.post("/score", response_model=ScoresAnswer)
    async def score(body: r.ScoreRequest, request: Request) -> Any:
        """How well explanations rebuild a token's activation, or given activations."""
        questions = service.of(body.nla)
        source = await service.aside(body.source, questions.nla.sidecar.d_model)
        work = questions.score(body.explanations, source, position=body.position)
        return await service.answer(request, work, ScoresAnswer)

    @router.post("/trust", response_model=Trust)
    async def trust(body: r.TrustRequest, request: Request) -> Any:
        """Controls, samples, neighbours and the share of each claim, for one explanation."""
        work = service.of(body.nla).trust(body.document(), **body.options())
        return await service.answer(request, work)

    @router.post("/steer", response_model=Steering)
    async def steer(body: r.SteerRequest, request: Request) -> Any:
        """How the target continues when tokens are moved along an edit: h + α‖h‖Δ/‖Δ‖, Δ =
        AR(edited) − AR(original)."""
        work = service.of(body.nla).steer(body.document(), **body.options())
        return await service.answer(request, work)

    @router.post("/compare", response_model=Comparison)
    async def compare(body: r.CompareRequest, request: Request) -> Any:
        """Two tokens, texts or vectors: each side explained, and their difference."""
        questions = service.of(body.nla)
        sides = []
        for side in body.sides:
            reader = questions if side.nla is None else service.of(side.nla)
            width = reader.nla.sidecar.d_model
            sides.append(Side(side.source(width), side.position, reader))
        return await service.answer(request, questions.compare(*sides, **body.options()))


def _add_files(router: APIRouter, service: Service) -> None:
    uploads = UploadReader(service.limits)

    @router.post("/vectors", response_model=Upload)
    async def vectors(request: Request, nla: NLAName = None) -> Any:
        """The activations in an uploaded .npy, .safetensors or Parquet file (the body), to be
        explained by /v1/explain."""
        data, width = await request.body(), service.of(nla).nla.sidecar.d_model

        async def read() -> Response:
            return Response(await uploads.read(data, width), media_type="application/json")

        return await service.answer(request, read())

    @router.get("/examples", response_model=ExamplesAnswer)
    async def examples(nla: NLAName = None) -> Any:
        """Texts whose truth is known, for an NLA of the laboratory's target; none for others."""
        found = await service.examples(nla)
        return ExamplesAnswer([Example(doc_id, text) for doc_id, text in found.items()])

    @router.get("/runs", response_model=RunsAnswer)
    async def runs() -> Any:
        """The run folders below the folder that the server was started with."""
        return RunsAnswer(await asyncio.to_thread(list_runs, service.runs))

    @router.get("/runs/{run_id:path}", response_model=RunAnswer)
    async def run(run_id: str) -> Any:
        """What a run wrote down so far: metrics and samples by step, results once it is
        finished."""
        return await asyncio.to_thread(read_run, service.runs, run_id)


def _loaded(questions: Questions) -> LoadedNLA:
    nla, recorded = questions.nla, questions.nla.recorded
    has = {part: part not in questions.missing for part in PARTS}
    target = nla.target.name if has["target"] else nla.sidecar.base_checkpoint or ""
    return LoadedNLA(
        name=questions.name,
        target=shown_place(target) or None,
        layer=nla.layer,
        d_model=nla.sidecar.d_model,
        has_av=has["av"],
        has_ar=has["ar"],
        has_target=has["target"],
        chat=has["target"] and bool(getattr(nla.target.tokenizer, "chat_template", None)),
        fve=recorded.fve or nla.evaluation.get("fve", {}).get("rl"),
        median_norm=recorded.norm_statistics.get("p50"),
        max_new_tokens=nla.max_new_tokens,
        direction_variance=recorded.direction_variance,
    )


async def _rollouts(service: Service, body: r.RolloutsRequest) -> RolloutsAnswer:
    questions, limits = service.of(body.nla), service.limits
    vectors = questions.nla.checked(decode_array(body.activations, body.shape))
    if body.max_new_tokens > limits.max_new_tokens:
        raise ConfigError(
            "max_new_tokens", expected=f"at most {limits.max_new_tokens}", found=body.max_new_tokens
        )
    if len(body.seeds) != len(vectors):
        raise ConfigError("seeds", expected=f"{len(vectors)} numbers", found=len(body.seeds))
    if len(vectors) * body.num_samples > limits.max_queued_rows:
        raise TooLarge(
            "too many responses at once",
            expected=f"at most {limits.max_queued_rows}",
            found=len(vectors) * body.num_samples,
            remedy="Ask for them in parts",
        )
    rows = [
        RowRequest(vector, body.temperature, body.max_new_tokens, seed + sample)
        for vector, seed in zip(vectors, body.seeds, strict=True)
        for sample in range(body.num_samples)
    ]
    questions.require("av")
    found: dict[int, Rollout] = {}
    async for events in questions.executor.explanations(rows):
        found |= {event.index: event.rollout for event in events if event.rollout is not None}
    return RolloutsAnswer([found[i] for i in range(len(rows))])
