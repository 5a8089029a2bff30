"""Gloss's own explain: texts, chats or vectors, samples, flags and baselines, whole or as a
stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from torch import Tensor

from gloss.errors import ConfigError
from gloss.nla.remote.arrays import decode_array
from gloss.nla.results import FAILED
from gloss.serve import v1_models as m
from gloss.serve.interop import check_positions_count
from gloss.serve.interop_models import TokenInfo
from gloss.serve.reader import Reader, Sampling, Written
from gloss.serve.replies import event_stream
from gloss.serve.service import Service
from gloss.serve.sources import token_infos
from gloss.serve.trust import mean_direction_fve


@dataclass(frozen=True)
class Chosen:
    """Activations [n, d_model] to be explained, each with its position and, of a text,
    its token.
    """

    vectors: Tensor
    positions: list[int]
    tokens: list[TokenInfo | None]
    num_tokens: int | None


async def explain(service: Service, body: m.ExplainIn) -> Any:
    """A whole answer, or an event stream."""
    reader = service.reader(body.nla)
    reader.require("av")
    chosen = await _chosen(reader, body)
    check_positions_count(len(chosen.positions) * body.samples)
    rows = reader.explain(
        chosen.vectors,
        sampling_of(reader, body, body.samples),
        partial=body.stream,
        score=body.score,
    )
    if body.stream:
        frames = _frames(reader, chosen, rows, body)
        return event_stream(frames, service.limits.request_timeout_s, service.telemetry)
    written = sorted([one async for one in rows], key=lambda one: one.index)
    explanations = [_finished(reader, chosen, one, body.samples) for one in written]
    return m.ExplainOut(nla=reader.name, layer=reader.nla.layer, explanations=explanations)


def sampling_of(reader: Reader, body: m.SamplingFields, samples: int = 1) -> Sampling:
    """How a request wants its explanations drawn; greedy for one, temperature 1 for several."""
    heat = body.temperature if body.temperature is not None else (0.0 if samples == 1 else 1.0)
    length = body.max_new_tokens or reader.nla.max_new_tokens
    return Sampling(temperature=heat, max_new_tokens=length, seed=body.seed, samples=samples)


def vectors_of(reader: Reader, body: m.Vectors) -> Tensor | None:
    """The activations that a request brings, [n, d_model]; None if it brings none. Raises:
    ActivationError.
    """
    if body.activations is None:
        return None
    if isinstance(body.activations, str):
        return reader.nla.checked(decode_array(body.activations, body.shape))
    return reader.vectors(body.activations)


async def _chosen(reader: Reader, body: m.ExplainIn) -> Chosen:
    vectors = vectors_of(reader, body)
    if vectors is not None:
        if body.text is not None or body.messages is not None:
            raise ConfigError(
                "what is to be explained?", expected="a text or activations", found="both"
            )
        return Chosen(vectors, list(range(len(vectors))), [None] * len(vectors), None)
    read = reader.read(body)
    positions = reader.positions(body.positions, read)
    check_positions_count(len(positions) * body.samples)
    infos = token_infos(read, body)
    found = await reader.activations(read, positions)
    return Chosen(found, positions, [infos[p] for p in positions], len(infos))


async def _frames(
    reader: Reader, chosen: Chosen, rows: AsyncIterator[Written], body: m.ExplainIn
) -> AsyncIterator[BaseModel]:
    yield m.ExplainStartFrame(
        nla=reader.name,
        layer=reader.nla.layer,
        total=len(chosen.positions) * body.samples,
        num_tokens=chosen.num_tokens,
    )
    async for one in rows:
        if one.rollout is None:
            position, sample = chosen.positions[one.index // body.samples], one.index % body.samples
            yield m.ExplainPartFrame(position=position, sample=sample, text=one.text)
        else:
            yield _finished(reader, chosen, one, body.samples)


def _finished(reader: Reader, chosen: Chosen, one: Written, samples: int) -> m.ExplanationOut:
    row, sample = divmod(one.index, samples)
    vector, token, score = chosen.vectors[row], chosen.tokens[row], one.score
    flags = reader.nla.flags(
        token.token_id if token else None, chosen.positions[row] if token else None, vector
    )
    return m.ExplanationOut(
        position=chosen.positions[row],
        sample=sample,
        token=token.token if token else None,
        token_id=token.token_id if token else None,
        role=token.role if token else None,
        section=token.section if token else None,
        message_index=token.message_index if token else None,
        text=one.explanation,
        response=one.text,
        fve=score.fve if score else None,
        baseline=mean_direction_fve(reader.nla, vector),
        cosine=score.cosine if score else None,
        direction_mse=score.direction_mse if score else None,
        norm=float(vector.double().norm()),
        flags=[*flags, *((FAILED,) if one.explanation is None else ())],
    )
