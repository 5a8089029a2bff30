"""The paths of Neuronpedia's self-hosted NLA service, answered by the default NLA.

Everything a client can see here is fixed by ``interop_models``: paths, fields, frames and status
codes."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from fastapi import APIRouter, Depends, Header, Request
from pydantic import BaseModel

from gloss.engines import LOCAL
from gloss.nla import Questions, Sampling, Selection
from gloss.nla.explaining import written
from gloss.nla.results import (
    ExplainEvent,
    ExplainPart,
    ExplainStart,
    TextContinuation,
    TokenExplanation,
)
from gloss.serve import interop_models as m
from gloss.serve import limits as bounds
from gloss.serve.json_route import json_route
from gloss.serve.requests import as_vectors
from gloss.serve.service import PARTS, Service
from gloss.text.document import Document
from gloss.text.positions import parse_positions
from gloss.text.tokens import ReadToken


async def declared_secret(x_secret_key: Annotated[str | None, Header()] = None) -> None:
    """Declares the header in the description; the guard has checked it."""


def interop_router(service: Service) -> APIRouter:
    """The paths, over a service."""
    route_class = json_route(service.scheduler.reader)
    router = APIRouter(dependencies=[Depends(declared_secret)], route_class=route_class)

    @router.get("/", response_model=m.HealthResponse)
    async def root() -> Any:
        """Health check: what is loaded, and the bounds of a request."""
        return _health(service)

    _add_texts(router, service)
    _add_activations(router, service)
    return router


def _add_texts(router: APIRouter, service: Service) -> None:
    questions, answer = service.default, service.answer

    @router.post("/tokenize", response_model=m.TokenizeResponse)
    async def tokenize(body: m.TokenizeRequest, request: Request) -> Any:
        """Tokenize a text, or chat messages by the target's chat template."""
        return await answer(
            request,
            questions.tokens(body.document()),
            lambda read: m.TokenizeResponse(
                tokens=_infos(read.tokens, body), prompt_length=len(read.tokens), text=read.text
            ),
        )

    @router.post("/extract", response_model=m.ExtractResponse)
    async def extract(body: m.ExtractRequest, request: Request) -> Any:
        """The raw activation of every token."""
        layer = questions.nla.layer
        work = _extract(questions, body)
        return await answer(request, work, lambda found: _extracted(layer, found))

    @router.post("/explain", response_model=m.ExplainResponse)
    async def explain(body: m.ExplainRequest, request: Request) -> Any:
        """Explain tokens of a text: all, or ``positions`` (negative from the end), last to first
        unless ``reverse`` is false.

        ``stream`` answers with server-sent events: a frame about the whole, partial texts, a result
        per token, [DONE]."""
        document = body.document()
        read = await service.read(request, questions, document)
        frames = _explained(questions, body, document, len(read.tokens))
        if body.stream:
            return await service.stream(request, frames)
        layer = questions.nla.layer
        return await answer(
            request,
            _collected(frames, m.ExplainResult),
            lambda results: m.ExplainResponse(layer_index=layer, results=results),
        )

    @router.post("/completion", response_model=m.TokenizeResponse)
    async def completion(body: m.CompletionRequest, request: Request) -> Any:
        """Go on with a text by the target. ``stream`` answers with server-sent events: the prompt,
        each token, the whole text."""
        options: dict[str, Any] = {
            "max_new_tokens": min(body.completion_tokens, bounds.MAX_COMPLETION_TOKENS),
            "temperature": body.temperature,
            "seed": secrets.randbits(48),
            "with_end": True,
        }
        if body.stream:
            return await service.stream(request, completion_frames(questions, body, options))
        work = questions.continue_text(body.document(), **options)
        return await answer(request, work, lambda found: _completed(found, body))


def _add_activations(router: APIRouter, service: Service) -> None:
    questions, answer = service.default, service.answer

    @router.post("/describe", response_model=m.DescribeResponse)
    async def describe(body: m.DescribeRequest, request: Request) -> Any:
        """Explain activations. ``stream`` answers with server-sent events: partial texts, a result
        per activation, [DONE]."""
        width = questions.nla.sidecar.d_model
        vectors = await service.aside(as_vectors, body.activations, width)
        events = questions.explain_events(
            vectors, sampling=_sampling(body), partial=body.stream, raw=True
        )
        frames = _describe_frames(events)
        if body.stream:
            return await service.stream(request, frames)
        return await answer(
            request,
            _collected(frames, m.DescriptionResult),
            lambda results: m.DescribeResponse(results=results),
        )

    @router.post("/score", response_model=m.ScoreResponse)
    async def score(body: m.ScoreRequest, request: Request) -> Any:
        """Score a description against the activation it is to describe."""
        vectors = as_vectors([body.activation], questions.nla.sidecar.d_model)
        work = questions.score([body.description], vectors)
        return await answer(
            request,
            work,
            lambda s: m.ScoreResponse(mse=s[0].direction_mse, cosine_similarity=s[0].cosine),
        )

    @router.post("/compare", response_model=m.CompareResponse)
    async def compare(body: m.CompareRequest, request: Request) -> Any:
        """Describe the difference between two activations (a - b)."""
        width = questions.nla.sidecar.d_model
        first, second = as_vectors([body.activation_a, body.activation_b], width)
        return await answer(
            request,
            questions.explain(first - second, **vars(_sampling(body))),
            lambda found: m.CompareResponse(**_scored(found[0]), diff_norm=found[0].norm),
        )


def shown_place(name: str) -> str:
    """A hub id as it is; of a local folder only its name: where it lies is nobody's business."""
    return Path(name).name if Path(name).is_dir() else name


def _health(service: Service) -> m.HealthResponse:
    nla, limits = service.default.nla, service.limits
    has = {part: part not in service.default.missing for part in PARTS}
    av_is_here = has["av"] and nla.engine_kind == LOCAL
    return m.HealthResponse(
        status="ok",
        verbalizer_model=nla.name if has["av"] else "",
        d_model=nla.sidecar.d_model,
        verbalizer_torch_compile=False,
        verbalizer_device=str(nla.av.model.device) if av_is_here else None,
        reconstructor_available=has["ar"],
        reconstructor_fp8=False if has["ar"] else None,
        reconstructor_int4=False if has["ar"] else None,
        reconstructor_device=str(nla.ar.backbone.device) if has["ar"] else None,
        source_model=nla.target.name if has["target"] else None,
        extraction_layer=nla.layer,
        source_truncated=False if has["target"] else None,
        source_fp8=False if has["target"] else None,
        source_device=str(nla.target.model.device) if has["target"] else None,
        completion_available=has["target"],
        num_cuda_devices=torch.cuda.device_count(),
        max_concurrent=limits.max_batch_rows,
        max_concurrent_explains=limits.max_queued_rows,
        max_describe_requests=limits.max_queued_rows,
        reconstructor_max_concurrent=limits.max_queued_jobs,
        source_max_concurrent=limits.max_queued_jobs,
        limits=m.HealthLimits(
            max_input_chars=bounds.MAX_TEXT_CHARS,
            max_positions_per_request=bounds.MAX_POSITIONS,
            max_new_tokens=limits.max_new_tokens,
            max_describe_batch=bounds.MAX_DESCRIBE_BATCH,
            max_description_chars=bounds.MAX_EXPLANATION_CHARS,
            max_completion_tokens=bounds.MAX_COMPLETION_TOKENS,
        ),
    )


Extracted = tuple[Sequence[ReadToken], torch.Tensor]


async def _extract(questions: Questions, body: m.ExtractRequest) -> Extracted:
    tokens = (await questions.read(body.document())).tokens
    return tokens, await questions.activations(body.document())


def _extracted(layer: int, found: Extracted) -> m.ExtractResponse:
    tokens, vectors = found
    rows, norms = map(torch.Tensor.tolist, vectors), vectors.double().norm(dim=1).tolist()
    return m.ExtractResponse(
        layer_index=layer,
        tokens=[
            m.TokenActivation(
                token=token.token,
                token_id=token.token_id,
                position=token.position,
                activation=vector,
                l2_norm=norm,
            )
            for token, vector, norm in zip(tokens, rows, norms, strict=True)
        ],
    )


def _completed(found: TextContinuation, body: m.TextRequest) -> m.TokenizeResponse:
    tokens = _infos(found.tokens, body)
    return m.TokenizeResponse(tokens=tokens, prompt_length=found.prompt_length, text=found.text)


def _explained(
    questions: Questions, body: m.ExplainRequest, document: Document, num_tokens: int
) -> AsyncIterator[BaseModel]:
    """The frames of explained tokens. Raises: PositionError, CorpusError."""
    asked = [
        position
        for one in body.positions or range(num_tokens)
        for position in parse_positions(one, num_tokens)
    ]
    asked = asked[::-1] if body.reverse else asked
    selection = Selection(positions=list(dict.fromkeys(asked)))
    events = questions.explain_events(
        document, selection, _sampling(body), partial=body.stream, raw=True
    )
    return _explain_frames(events, asked, plain=body.messages is None)


def _sampling(body: m.Sampled) -> Sampling:
    """Requests have no seed here: each says something else, unless it is greedy."""
    temperature, length = body.temperature, body.max_new_tokens
    return Sampling(temperature=temperature, max_new_tokens=length, seed=secrets.randbits(48))


def _info(token: ReadToken | TokenExplanation, *, plain: bool) -> m.TokenInfo:
    """A token as a client sees it; those of a plain text have no sections."""
    return m.TokenInfo.model_validate({**vars(token), **({"section": None} if plain else {})})


def _infos(tokens: Iterable[ReadToken], body: m.TextRequest) -> list[m.TokenInfo]:
    return [_info(token, plain=body.messages is None) for token in tokens]


def _scored(one: TokenExplanation) -> dict[str, Any]:
    """The description (what the AV wrote where nothing could be extracted) and its score."""
    text = written(one.response) if one.text is None else one.text
    return {"description": text, "mse": one.direction_mse, "cosine_similarity": one.cosine}


async def _in_order(events: AsyncIterator[ExplainEvent]) -> AsyncIterator[ExplainEvent]:
    """Partial texts as they come; finished rows in the order of their number."""
    finished: dict[int, TokenExplanation] = {}
    following = 0
    async for event in events:
        if not isinstance(event, TokenExplanation):
            yield event
            continue
        finished[event.row] = event
        while following in finished:
            yield finished.pop(following)
            following += 1


async def _explain_frames(
    events: AsyncIterator[ExplainEvent], asked: Sequence[int], *, plain: bool
) -> AsyncIterator[BaseModel]:
    """A frame about the whole, what is written so far, and one result for each position asked for,
    in that order, as often as it was."""
    shown, results, following = set[int](), dict[int, BaseModel](), 0
    async for one in _in_order(events):
        if isinstance(one, ExplainStart):
            assert one.num_tokens is not None
            yield m.ExplainMetaFrame(
                layer_index=one.layer, total=len(asked), prompt_length=one.num_tokens
            )
        elif isinstance(one, ExplainPart):
            assert one.position is not None
            shown.add(one.position)
            yield m.ExplainProgressFrame(position=one.position, text=one.text)
        else:
            assert one.position is not None
            if one.position not in shown and one.response:
                yield m.ExplainProgressFrame(position=one.position, text=one.response)
            info = _info(one, plain=plain).model_dump()
            results[one.position] = m.ExplainResult(**info, l2_norm=one.norm, **_scored(one))
            while following < len(asked) and asked[following] in results:
                yield results[asked[following]]
                following += 1


async def _collected(frames: AsyncIterator[BaseModel], kind: type[BaseModel]) -> list[BaseModel]:
    return [one async for one in frames if isinstance(one, kind)]


async def _describe_frames(events: AsyncIterator[ExplainEvent]) -> AsyncIterator[BaseModel]:
    shown = set[int]()
    async for one in _in_order(events):
        if isinstance(one, ExplainPart):
            assert one.position is not None
            shown.add(one.position)
            yield m.DescribeProgressFrame(index=one.position, text=one.text)
        elif isinstance(one, TokenExplanation):
            if one.row not in shown and one.response:
                yield m.DescribeProgressFrame(index=one.row, text=one.response)
            yield m.DescriptionResult(**_scored(one))


async def completion_frames(
    questions: Questions, body: m.TextRequest, options: dict[str, Any]
) -> AsyncIterator[BaseModel]:
    """The frames of a text that the target goes on with: prompt, each token, the whole text."""
    read = await questions.read(body.document())
    infos, text = _infos(read.tokens, body), read.text
    written = questions.continuation(read, **options)
    token = await anext(written, None)  # whoever is refused hears it before the stream begins
    yield m.CompletionPromptFrame(prompt_length=len(infos), tokens=infos)
    while token is not None:
        text += "" if token.fragment_index else token.token
        yield m.CompletionTokenFrame(token=_infos([token], body)[0])
        token = await anext(written, None)
    yield m.CompletionDoneFrame(text=text)
