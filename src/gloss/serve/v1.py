"""Gloss's own paths, an application of its own below /v1, with its own description."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from gloss.errors import ConfigError
from gloss.nla import Score
from gloss.nla.remote.arrays import decode_array, encode_array
from gloss.serve import v1_checking_models as checking
from gloss.serve import v1_models as m
from gloss.serve.comparing import compare
from gloss.serve.explaining import explain, vectors_of
from gloss.serve.interop import check_values, complete, declared_secret, shown_place
from gloss.serve.interop_models import TokenizeResponse
from gloss.serve.reader import Reader, Sampling
from gloss.serve.replies import TooLarge, within_time
from gloss.serve.runs import list_runs, read_run_files
from gloss.serve.search import search_texts
from gloss.serve.service import Service
from gloss.serve.sources import token_infos
from gloss.serve.steering import steer
from gloss.serve.trust import trust
from gloss.serve.uploads import read_upload


def v1_router(service: Service) -> APIRouter:
    """The paths, over a service."""
    router = APIRouter(dependencies=[Depends(declared_secret)])
    _add_reading(router, service)
    _add_checking(router, service)
    _add_files(router, service)
    return router


def _within(service: Service, request: Request, work: Any) -> Awaitable[Any]:
    return within_time(request, work, service.limits.request_timeout_s)


def _add_reading(router: APIRouter, service: Service) -> None:
    @router.get("/nlas", response_model=m.NlasOut)
    async def nlas() -> Any:
        """The loaded NLAs, the default one first."""
        return m.NlasOut(nlas=[_nla_out(reader) for reader in service.readers.values()])

    @router.post("/tokens", response_model=m.TokensOut)
    async def tokens(body: m.TokensIn) -> Any:
        """The tokens of a text or a chat, as the target reads it."""
        read = service.reader(body.nla).read(body)
        return m.TokensOut(tokens=token_infos(read, body), text=read.text)

    @router.post("/activations", response_model=m.ArrayOut)
    async def activations(body: m.ActivationsIn, request: Request) -> Any:
        """Raw activations of tokens of a text."""
        return await _within(service, request, _activations(service, body))

    @router.post("/continue", response_model=TokenizeResponse)
    async def continue_(body: m.ContinueIn, request: Request) -> Any:
        """Go on with a text by the target of an NLA; answers and streams like /completion, which
        knows the first NLA only.
        """
        return await _within(service, request, complete(service, service.reader(body.nla), body))

    @router.post("/explain", response_model=m.ExplainOut)
    async def explain_(body: m.ExplainIn, request: Request) -> Any:
        """Explain tokens of a text, or activations.

        ``stream`` answers with server-sent events: ExplainStartFrame, ExplainPartFrame (done
        false), ExplanationOut (done true) in the order in which they finish, [DONE]; or ErrorFrame
        as the last."""
        return await _within(service, request, explain(service, body))

    @router.post("/reconstruct", response_model=m.ArrayOut)
    async def reconstruct(body: m.ReconstructIn, request: Request) -> Any:
        """The activations that the AR reads in explanations; their directions count, their norms
        mean nothing.
        """
        reader = service.reader(body.nla)
        reader.require("ar")

        async def work() -> m.ArrayOut:
            return m.ArrayOut.model_validate(
                encode_array(await service.scheduler.reconstruct(reader.name, body.explanations))
            )

        return await _within(service, request, work())

    @router.post("/rollouts", response_model=m.RolloutsOut)
    async def rollouts(body: m.RolloutsIn, request: Request) -> Any:
        """Raw responses of the AV, for clients that train or measure with them."""
        return await _within(service, request, _rollouts(service, body))


def _add_checking(router: APIRouter, service: Service) -> None:
    @router.post("/score", response_model=m.ScoresOut)
    async def score(body: m.ScoreIn, request: Request) -> Any:
        """How well explanations rebuild a token's activation, or given activations."""
        return await _within(service, request, _score(service, body))

    @router.post("/trust", response_model=checking.TrustOut)
    async def trust_(body: checking.TrustIn, request: Request) -> Any:
        """Controls, samples, neighbours and the share of each claim, for one explanation."""
        reader = service.reader(body.nla)
        return await _within(
            service, request, trust(reader, reader.read(body), body, service.known_truth)
        )

    @router.post("/steer", response_model=checking.SteerOut)
    async def steer_(body: checking.SteerIn, request: Request) -> Any:
        """How the target goes on when tokens are moved along an edit: h + α‖h‖Δ/‖Δ‖, Δ = AR(edited)
        − AR(original).
        """
        reader = service.reader(body.nla)
        return await _within(service, request, steer(reader, reader.read(body), body))

    @router.post("/compare", response_model=checking.CompareOut)
    async def compare_(body: checking.CompareIn, request: Request) -> Any:
        """Two tokens, texts or vectors: each side explained, and their difference."""
        return await _within(service, request, compare(service, body))

    @router.post("/search", response_model=checking.SearchOut)
    async def search(body: checking.SearchIn, request: Request) -> Any:
        """Which of the given texts hold words or match a pattern, and where."""
        return await _within(service, request, asyncio.to_thread(search_texts, body))


def _add_files(router: APIRouter, service: Service) -> None:
    @router.post("/vectors", response_model=m.VectorsOut)
    async def vectors(request: Request, nla: Annotated[str | None, Query()] = None) -> Any:
        """The activations in an uploaded .npy, .safetensors or Parquet file (the body), to be
        explained by /v1/explain.
        """
        width = service.reader(nla).nla.sidecar.d_model
        data = await request.body()
        found = await asyncio.to_thread(read_upload, data, width)
        check_values(len(found.vectors) * width, service)
        return found

    @router.get("/examples", response_model=m.ExamplesOut)
    async def examples(nla: Annotated[str | None, Query()] = None) -> Any:
        """Texts whose truth is known, for an NLA of the laboratory's target; none for others."""
        reader = service.reader(nla)
        if service.known_truth is None or "target" in reader.missing:
            return m.ExamplesOut(examples=[])
        found = await asyncio.to_thread(service.known_truth.texts, reader.nla)
        return m.ExamplesOut(
            examples=[m.ExampleOut(doc_id=doc_id, text=text) for doc_id, text in found.items()]
        )

    @router.get("/runs", response_model=m.RunsOut)
    async def runs() -> Any:
        """The run folders below the folder that the server was started with."""
        return m.RunsOut(runs=await asyncio.to_thread(list_runs, service.runs))

    @router.get("/runs/{run_id:path}", response_model=m.RunOut)
    async def run(run_id: str) -> Any:
        """What a run wrote down so far: metrics and samples by step, results once it is
        finished.
        """
        return await asyncio.to_thread(read_run_files, service.runs, run_id)


def _nla_out(reader: Reader) -> m.NlaOut:
    nla, recorded = reader.nla, reader.nla.recorded
    has_target = "target" not in reader.missing
    return m.NlaOut(
        name=reader.name,
        target=shown_place(nla.target.name if has_target else nla.sidecar.base_checkpoint or "")
        or None,
        layer=nla.layer,
        d_model=nla.sidecar.d_model,
        has_av="av" not in reader.missing,
        has_ar="ar" not in reader.missing,
        has_target=has_target,
        chat=has_target and bool(getattr(nla.target.tokenizer, "chat_template", None)),
        fve=recorded.get("fve") or reader.nla.evaluation.get("fve", {}).get("rl"),
        median_norm=recorded.get("norm_statistics", {}).get("p50"),
        max_new_tokens=nla.max_new_tokens,
        direction_variance=recorded.get("direction_variance"),
    )


async def _activations(service: Service, body: m.ActivationsIn) -> m.ArrayOut:
    reader = service.reader(body.nla)
    read = reader.read(body)
    positions = reader.positions(body.positions, read)
    check_values(len(positions) * reader.nla.sidecar.d_model, service)
    return m.ArrayOut.model_validate(encode_array(await reader.activations(read, positions)))


async def _score(service: Service, body: m.ScoreIn) -> m.ScoresOut:
    reader = service.reader(body.nla)
    reader.require("ar")
    vectors = vectors_of(reader, body)
    if vectors is None:
        read = reader.read(body)
        vectors = await reader.activations(read, reader.positions(body.position, read))
    if len(vectors) not in (1, len(body.explanations)):
        raise ConfigError(
            "texts and activations differ in number",
            expected=f"1 or {len(body.explanations)}",
            found=len(vectors),
        )
    vectors = vectors.expand(len(body.explanations), -1)
    scores = await reader.score(body.explanations, vectors)
    recorded = reader.nla.recorded.get("heldout_errors") or reader.nla.evaluation.get(
        "heldout_errors"
    )
    return m.ScoresOut(scores=[_score_out(score, recorded) for score in scores])


def _score_out(score: Score, heldout_errors: Sequence[float] | None) -> m.ScoreOut:
    share = None
    if heldout_errors:
        share = (
            100.0
            * sum(error >= score.direction_mse for error in heldout_errors)
            / len(heldout_errors)
        )
    return m.ScoreOut(
        direction_mse=score.direction_mse, cosine=score.cosine, fve=score.fve, percentile=share
    )


async def _rollouts(service: Service, body: m.RolloutsIn) -> m.RolloutsOut:
    reader, limits = service.reader(body.nla), service.limits
    vectors = reader.nla.checked(decode_array(body.activations, body.shape))
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
    sampling = Sampling(
        temperature=body.temperature,
        max_new_tokens=body.max_new_tokens,
        seeds=body.seeds,
        samples=body.num_samples,
    )
    written = await reader.explanations(vectors, sampling, score=False)
    rollouts = [one.rollout for one in written if one.rollout is not None]
    return m.RolloutsOut(
        rollouts=[
            m.RolloutOut(token_ids=list(r.token_ids), text=r.text, finished=r.finished)
            for r in rollouts
        ]
    )
