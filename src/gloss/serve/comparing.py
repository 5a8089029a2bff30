"""Two activations side by side, and their difference explained."""

from __future__ import annotations

import torch
from torch import Tensor

from gloss.errors import ActivationError, ConfigError
from gloss.models import cosine, direction_mse
from gloss.serve import v1_checking_models as m
from gloss.serve.explaining import sampling_of
from gloss.serve.reader import Reader
from gloss.serve.service import Service


async def compare(service: Service, body: m.CompareIn) -> m.CompareOut:
    """Explains first − second by the request's NLA, and each side by its own.

    Raises: ActivationError if their widths differ; PositionError, CorpusError, CheckpointError.
    """
    reader = service.reader(body.nla)
    found = [await _side(service, body, side) for side in body.sides]
    (first, first_out), (second, second_out) = found
    if first.shape != second.shape or first.shape[0] != reader.nla.sidecar.d_model:
        raise ActivationError(
            "activations of different widths",
            expected=reader.nla.sidecar.d_model,
            found=[len(first), len(second)],
        )
    difference = first - second
    text = score = None
    if bool(difference.any()):
        (one,) = await reader.explanations(difference.unsqueeze(0), sampling_of(reader, body))
        text, score = one.explanation, one.score
    return m.CompareOut(
        text=text,
        norm=float(difference.double().norm()),
        similarity=float(cosine(direction_mse(first, second))),
        fve=score.fve if score else None,
        cosine=score.cosine if score else None,
        sides=(first_out, second_out),
    )


async def _side(service: Service, body: m.CompareIn, side: m.Side) -> tuple[Tensor, m.SideOut]:
    reader = service.reader(side.nla if side.nla is not None else body.nla)
    if side.activation is not None:
        if side.text is not None or side.messages is not None:
            raise ConfigError(
                "what is to be compared?", expected="a text or an activation", found="both"
            )
        vector = reader.vectors([side.activation])[0]
        return vector, await _explained(reader, body, vector, None, None)
    read = reader.read(side)
    (position,) = reader.positions(side.position, read)
    vector = (await reader.activations(read, [position]))[0]
    return vector, await _explained(reader, body, vector, position, read.tokens[position].token)


async def _explained(
    reader: Reader, body: m.CompareIn, vector: Tensor, position: int | None, token: str | None
) -> m.SideOut:
    (one,) = await reader.explanations(torch.unsqueeze(vector, 0), sampling_of(reader, body))
    return m.SideOut(
        position=position,
        token=token,
        norm=float(vector.double().norm()),
        text=one.explanation,
        fve=one.score.fve if one.score else None,
    )
