"""The paths of Neuronpedia's self-hosted NLA service, answered by the default NLA.

Everything a client can see here is fixed by ``interop_models``: paths, fields, frames and status
codes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import BaseModel
from torch import Tensor

from gloss.engines import LOCAL
from gloss.errors import ConfigError
from gloss.nla import Score
from gloss.serve import interop_models as m
from gloss.serve import limits as bounds
from gloss.serve.reader import Reader, Sampling, Written
from gloss.serve.replies import TooLarge, event_stream, within_time
from gloss.serve.service import Service
from gloss.serve.sources import GlyphMerger, shown_tokens, token_infos
from gloss.text.tokens import ReadText


async def declared_secret(x_secret_key: Annotated[str | None, Header()] = None) -> None:
    """Declares the header in the description; the guard has checked it."""


def interop_router(service: Service) -> APIRouter:
    """The paths, over a service."""
    router = APIRouter(dependencies=[Depends(declared_secret)])
    reader = service.default
    within = _Within(service)

    @router.get("/", response_model=m.HealthResponse)
    async def root() -> Any:
        """Health check: what is loaded, and the bounds of a request."""
        return _health(service)

    @router.post("/tokenize", response_model=m.TokenizeResponse)
    async def tokenize(body: m.TokenizeRequest) -> Any:
        """Tokenize a text, or chat messages by the target's chat template."""
        read = reader.read(body)
        return m.TokenizeResponse(
            tokens=token_infos(read, body), prompt_length=len(read.tokens), text=read.text
        )

    @router.post("/extract", response_model=m.ExtractResponse)
    async def extract(body: m.ExtractRequest, request: Request) -> Any:
        """The raw activation of every token."""
        return await within(request, _extract(service, reader, body))

    @router.post("/explain", response_model=m.ExplainResponse)
    async def explain(body: m.ExplainRequest, request: Request) -> Any:
        """Explain tokens of a text: all, or ``positions`` (negative from the end), last to first
        unless ``reverse`` is false.

        ``stream`` answers with server-sent events: a frame about the whole, partial texts, a result
        per token, [DONE]."""
        return await within(request, _explain(service, reader, body))

    @router.post("/describe", response_model=m.DescribeResponse)
    async def describe(body: m.DescribeRequest, request: Request) -> Any:
        """Explain activations. ``stream`` answers with server-sent events: partial texts, a result
        per activation, [DONE].
        """
        return await within(request, _describe(service, reader, body))

    @router.post("/score", response_model=m.ScoreResponse)
    async def score(body: m.ScoreRequest, request: Request) -> Any:
        """Score a description against the activation it is to describe."""

        async def work() -> m.ScoreResponse:
            (found,) = await reader.score([body.description], reader.vectors([body.activation]))
            return m.ScoreResponse(mse=found.direction_mse, cosine_similarity=found.cosine)

        return await within(request, work())

    @router.post("/compare", response_model=m.CompareResponse)
    async def compare(body: m.CompareRequest, request: Request) -> Any:
        """Describe the difference between two activations (a - b)."""
        return await within(request, _compare(reader, body))

    @router.post("/completion", response_model=m.TokenizeResponse)
    async def completion(body: m.CompletionRequest, request: Request) -> Any:
        """Go on with a text by the target. ``stream`` answers with server-sent events: the prompt,
        each token, the whole text.
        """
        return await within(request, complete(service, reader, body))

    return router


class _Within:
    """Bounds the time of a request and ends its work when the client leaves."""

    def __init__(self, service: Service) -> None:
        self._timeout_s = service.limits.request_timeout_s

    def __call__(self, request: Request, work: Any) -> Awaitable[Any | Response]:
        return within_time(request, work, self._timeout_s)


def shown_place(name: str) -> str:
    """A hub id as it is; of a local folder only its name: where it lies is nobody's business."""
    return Path(name).name if Path(name).is_dir() else name


def _health(service: Service) -> m.HealthResponse:
    reader, limits = service.default, service.limits
    nla = reader.nla
    has = {part: part not in reader.missing for part in ("av", "ar", "target")}
    return m.HealthResponse(
        status="ok",
        verbalizer_model=shown_place(nla.name) if has["av"] else "",
        d_model=nla.sidecar.d_model,
        verbalizer_quantization=None,
        verbalizer_kv_cache_dtype=None,
        verbalizer_cuda_graph_max_bs=None,
        verbalizer_torch_compile=False,
        verbalizer_device=str(nla.av.model.device)
        if has["av"] and nla.engine_kind == LOCAL
        else None,
        reconstructor_available=has["ar"],
        reconstructor_fp8=False if has["ar"] else None,
        reconstructor_int4=False if has["ar"] else None,
        reconstructor_device=str(nla.ar.backbone.device) if has["ar"] else None,
        source_model=shown_place(nla.target.name) if has["target"] else None,
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


async def _extract(service: Service, reader: Reader, body: m.ExtractRequest) -> m.ExtractResponse:
    read = reader.read(body)
    check_values(len(read.tokens) * reader.nla.sidecar.d_model, service)
    vectors = await reader.activations(read)
    norms = vectors.double().norm(dim=1).tolist()
    tokens = [
        m.TokenActivation(
            token=token.token,
            token_id=token.token_id,
            position=token.position,
            activation=vector,
            l2_norm=norm,
        )
        for token, vector, norm in zip(read.tokens, vectors.tolist(), norms, strict=True)
    ]
    return m.ExtractResponse(layer_index=reader.nla.layer, tokens=tokens)


def check_values(count: int, service: Service) -> None:
    """Raises TooLarge for more numbers than an answer may hold."""
    if count > service.limits.max_values:
        raise TooLarge(
            "too many numbers for one answer",
            expected=f"at most {service.limits.max_values}",
            found=count,
            remedy="Ask for fewer tokens",
        )


async def _explain(service: Service, reader: Reader, body: m.ExplainRequest) -> Any:
    reader.require("av", "target")
    read = reader.read(body)
    positions = reader.positions(body.positions, read)
    check_positions_count(len(positions))
    if body.reverse:
        positions.reverse()
    vectors = await reader.activations(read, positions)
    rows = reader.explain(vectors, _sampling(body), partial=body.stream)
    result = _result_maker(read, body, positions, vectors)
    if not body.stream:
        return m.ExplainResponse(
            layer_index=reader.nla.layer, results=[result(one) async for one in _in_order(rows)]
        )

    async def frames() -> AsyncIterator[BaseModel]:
        yield m.ExplainMetaFrame(
            layer_index=reader.nla.layer, total=len(positions), prompt_length=len(read.tokens)
        )
        async for one in _in_order(rows):
            if one.rollout is None:
                yield m.ExplainProgressFrame(position=positions[one.index], text=one.text)
            else:
                yield result(one)

    return event_stream(frames(), service.limits.request_timeout_s, service.telemetry)


def check_positions_count(count: int) -> None:
    """Raises ConfigError for more positions than one request may name."""
    if count > bounds.MAX_POSITIONS:
        raise ConfigError(
            "too many positions for one request",
            expected=f"at most {bounds.MAX_POSITIONS}",
            found=count,
            remedy="Name some with positions",
        )


def _sampling(body: m.ExplainRequest | m.DescribeRequest | m.CompareRequest) -> Sampling:
    return Sampling(temperature=body.temperature, max_new_tokens=body.max_new_tokens)


def _result_maker(
    read: ReadText, body: m.ExplainRequest, positions: Sequence[int], vectors: Tensor
) -> Callable[[Written], m.ExplainResult]:
    infos = token_infos(read, body)
    norms = vectors.double().norm(dim=1).tolist()

    def result(one: Written) -> m.ExplainResult:
        info = infos[positions[one.index]]
        return m.ExplainResult(**info.model_dump(), l2_norm=norms[one.index], **_described(one))

    return result


def _described(one: Written) -> dict[str, Any]:
    """The description (what the AV wrote where nothing could be extracted) and its score."""
    text = one.explanation if one.explanation is not None else one.text
    return {"description": text, **_scored(one.score)}


def _scored(score: Score | None) -> dict[str, float | None]:
    return {
        "mse": None if score is None else score.direction_mse,
        "cosine_similarity": None if score is None else score.cosine,
    }


async def _in_order(rows: AsyncIterator[Written]) -> AsyncIterator[Written]:
    """Partial texts as they come; finished rows in the order of their index."""
    finished: dict[int, Written] = {}
    following = 0
    async for one in rows:
        if one.rollout is None:
            yield one
            continue
        finished[one.index] = one
        while following in finished:
            yield finished.pop(following)
            following += 1


async def _describe(service: Service, reader: Reader, body: m.DescribeRequest) -> Any:
    rows = reader.explain(reader.vectors(body.activations), _sampling(body), partial=body.stream)
    if not body.stream:
        return m.DescribeResponse(
            results=[m.DescriptionResult(**_described(one)) async for one in _in_order(rows)]
        )

    async def frames() -> AsyncIterator[BaseModel]:
        async for one in _in_order(rows):
            if one.rollout is None:
                yield m.DescribeProgressFrame(index=one.index, text=one.text)
            else:
                yield m.DescribeResultFrame(index=one.index, **_described(one))

    return event_stream(frames(), service.limits.request_timeout_s, service.telemetry)


async def _compare(reader: Reader, body: m.CompareRequest) -> m.CompareResponse:
    first, second = reader.vectors([body.activation_a]), reader.vectors([body.activation_b])
    difference = first - second
    (one,) = await reader.explanations(difference, _sampling(body))
    return m.CompareResponse(**_described(one), diff_norm=float(difference.double().norm()))


async def complete(service: Service, reader: Reader, body: m.CompletionRequest) -> Any:
    """A text with what a reader's target goes on with: whole, or as frames."""
    read = reader.read(body)
    prompt = token_infos(read, body)
    ids = [token.token_id for token in read.tokens]
    length = min(body.completion_tokens, bounds.MAX_COMPLETION_TOKENS)
    new_ids = reader.go_on(ids, temperature=body.temperature, max_new_tokens=length)
    role = "assistant" if body.messages is not None else None
    tokenizer = reader.nla.target.tokenizer

    def whole(generated: Sequence[int]) -> str:
        return read.text + str(
            tokenizer.decode(list(generated), clean_up_tokenization_spaces=False)
        )

    if not body.stream:
        generated = [i async for i in new_ids]
        tokens = [*prompt, *shown_tokens(tokenizer, generated, len(ids), role=role)]
        return m.TokenizeResponse(tokens=tokens, prompt_length=len(ids), text=whole(generated))

    async def frames() -> AsyncIterator[BaseModel]:
        yield m.CompletionPromptFrame(prompt_length=len(ids), tokens=prompt)
        merger, generated = GlyphMerger(tokenizer, len(ids), role=role), []
        async for token_id in new_ids:
            generated.append(token_id)
            for info in merger.push(token_id):
                yield m.CompletionTokenFrame(token=info)
        for info in merger.finish():
            yield m.CompletionTokenFrame(token=info)
        yield m.CompletionDoneFrame(text=whole(generated))

    return event_stream(frames(), service.limits.request_timeout_s, service.telemetry)
