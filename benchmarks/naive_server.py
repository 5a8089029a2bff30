"""The server that one writes in an afternoon, to compare with: every request loads nothing, shares
nothing, and calls ``generate``.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

import gloss
from gloss.contract import Explanation, extract_explanation


class Explain(BaseModel):
    """Tokens of a text."""

    text: str
    positions: list[int]
    temperature: float
    seed: int


class Score(BaseModel):
    """Explanations of one token."""

    text: str
    position: int
    explanations: list[str]


class Tokens(BaseModel):
    """A text."""

    text: str


def naive_app(place: str) -> FastAPI:
    """Answers ``/v1/explain``, ``/v1/score`` and ``/v1/tokens`` with as much as the load asks
    for.
    """
    nla, app, one_at_a_time = gloss.load(place), FastAPI(), threading.Lock()
    prompt = torch.tensor([nla.av.prefix_ids])

    def explain(body: Explain) -> Any:
        vectors = nla.activations(body.text)[body.positions]
        embedded = torch.cat(
            [
                nla.av.embedding(prompt).expand(len(vectors), -1, -1),
                nla.av.embed_after_prefix(vectors),
            ],
            dim=1,
        )
        torch.manual_seed(body.seed)
        sampling = (
            {"do_sample": True, "temperature": body.temperature, "top_k": 0}
            if body.temperature
            else {"do_sample": False}
        )
        rows = nla.av.model.generate(
            inputs_embeds=embedded,
            attention_mask=torch.ones(embedded.shape[:2], dtype=torch.long),
            max_new_tokens=nla.max_new_tokens,
            eos_token_id=list(nla.av.stop_ids),
            pad_token_id=nla.av.pad_id,
            **sampling,
        )
        found = [extract_explanation(nla.av.decode(row)) for row in rows.tolist()]
        texts = [one.text if isinstance(one, Explanation) else "" for one in found]
        return {
            "explanations": [
                {"text": t, "fve": s.fve}
                for t, s in zip(texts, nla.score(texts, vectors), strict=True)
            ]
        }

    @app.post("/v1/explain")
    def explain_one_by_one(body: Explain) -> Any:
        with one_at_a_time, torch.inference_mode():
            return explain(body)

    @app.post("/v1/score")
    def score(body: Score) -> Any:
        with one_at_a_time:
            vector = nla.activations(body.text)[body.position]
            scores = nla.score(body.explanations, vector.expand(len(body.explanations), -1))
            return {"scores": [{"fve": one.fve} for one in scores]}

    @app.post("/v1/tokens")
    def tokens(body: Tokens) -> Any:
        return {"tokens": [token.token for token in nla.tokens(body.text).tokens]}

    @app.get("/readyz")
    def readyz() -> Any:
        return {"ready": True}

    return app


if __name__ == "__main__":
    uvicorn.run(
        naive_app(sys.argv[1]),
        host="127.0.0.1",
        port=int(sys.argv[2]),
        log_level="error",
        access_log=False,
    )
