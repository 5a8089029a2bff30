"""What a client asks a Gloss server, and how the answers are read; nothing here sends anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Required, TypedDict, TypeVar
from urllib.parse import quote

import torch
from torch import Tensor

from gloss.nla.remote.arrays import decode_array, encode_array
from gloss.nla.results import Continuation, Explanations, Score, Steering, TokenExplanation

Answer = TypeVar("Answer")
Messages = Sequence[Mapping[str, str]]
"""A chat: role and content of each message."""
Side = str | Messages | Tensor | tuple[str | Messages, int]
"""One side of a comparison: an activation [d_model], or a text or chat with a position (the last
token if none is given).
"""


class ExplainOptions(TypedDict, total=False):
    """As for ``NLA.explain``; ``max_new_tokens`` None is the NLA's own."""

    positions: str | int | Sequence[int]
    samples: int
    temperature: float | None
    max_new_tokens: int | None
    seed: int
    score: bool | None


class SteerOptions(TypedDict, total=False):
    """As for ``NLA.steer``."""

    position: int
    edit: Required[tuple[str, str]]
    alphas: Sequence[float]
    explanation: str | None
    max_new_tokens: int
    seed: int


class TrustOptions(TypedDict, total=False):
    """As for ``POST /v1/trust``."""

    position: int
    explanation: str | None
    samples: int
    neighbours: int
    seed: int


class CompareOptions(TypedDict, total=False):
    """How the difference is put into words, as for ``POST /v1/compare``."""

    temperature: float | None
    max_new_tokens: int | None
    seed: int


class SearchOptions(TypedDict, total=False):
    """As for ``POST /v1/search``."""

    fixed: bool
    case_sensitive: bool
    limit: int


class ContinueOptions(TypedDict, total=False):
    """As for ``POST /v1/continue``, for a chat too."""

    completion_tokens: int
    temperature: float
    add_generation_prompt: bool
    continue_final_message: bool


@dataclass(frozen=True)
class Ask(Generic[Answer]):
    """One request and how its JSON answer is read."""

    path: str
    body: dict[str, Any] | None
    read: Callable[[Any], Answer]


class Asks:
    """What every method of an NLA asks a server; ``nla`` names one of several."""

    def __init__(self, nla: str | None) -> None:
        self.nla = nla

    def _body(self, source: str | Messages | None = None, **fields: Any) -> dict[str, Any]:
        body = {"nla": self.nla, **fields}
        if source is not None:
            body["text" if isinstance(source, str) else "messages"] = (
                source if isinstance(source, str) else [dict(message) for message in source]
            )
        return {key: value for key, value in body.items() if value is not None}

    def nlas(self) -> Ask[list[dict[str, Any]]]:
        """Which NLAs there are."""
        return Ask("/v1/nlas", None, lambda answer: list(answer["nlas"]))

    def tokens(self, source: str | Messages) -> Ask[tuple[list[int], list[str]]]:
        """Token ids and texts."""

        def read(answer: Any) -> tuple[list[int], list[str]]:
            return [token["token_id"] for token in answer["tokens"]], [
                token["token"] for token in answer["tokens"]
            ]

        return Ask("/v1/tokens", self._body(source), read)

    def activations(self, source: str | Messages) -> Ask[Tensor]:
        """Raw activations of all tokens."""
        return Ask("/v1/activations", self._body(source), _read_array)

    def explain(
        self, source: str | Messages | Tensor, options: ExplainOptions
    ) -> Ask[Explanations]:
        """Explanations of tokens or of vectors."""
        fields: dict[str, Any] = {"positions": -1, **options}
        if isinstance(source, Tensor):
            fields = {**fields, **encode_array(_rows(source)), "positions": None}
        elif not isinstance(fields["positions"], str | int):
            fields["positions"] = list(fields["positions"])
        body = self._body(None if isinstance(source, Tensor) else source, **fields)
        return Ask("/v1/explain", body, _read_explanations)

    def reconstruct(self, explanations: str | Sequence[str]) -> Ask[Tensor]:
        """What the AR reads in texts."""
        texts = [explanations] if isinstance(explanations, str) else list(explanations)
        return Ask("/v1/reconstruct", self._body(explanations=texts), _read_array)

    def score(self, explanations: Sequence[str], activations: Tensor) -> Ask[list[Score]]:
        """How well texts rebuild activations."""

        def read(answer: Any) -> list[Score]:
            return [Score(s["direction_mse"], s["cosine"], s["fve"]) for s in answer["scores"]]

        fields: dict[str, Any] = {
            "explanations": list(explanations),
            **encode_array(_rows(activations)),
        }
        return Ask("/v1/score", self._body(**fields), read)

    def steer(self, source: str | Messages, options: SteerOptions) -> Ask[Steering]:
        """Continuations under an edit."""
        fields = {
            "positions": [options.get("position", -1)],
            "edit": list(options["edit"]),
            "alphas": list(options.get("alphas", (0.5, 1.0, 2.0))),
            "original": options.get("explanation"),
            "max_new_tokens": options.get("max_new_tokens"),
            "seed": options.get("seed"),
        }
        body = self._body(source, **fields)
        return Ask("/v1/steer", body, _read_steering)

    def trust(self, source: str | Messages, options: TrustOptions) -> Ask[dict[str, Any]]:
        """What speaks for an explanation."""
        return Ask("/v1/trust", self._body(source, **options), dict)

    def compare(self, first: Side, second: Side, options: CompareOptions) -> Ask[dict[str, Any]]:
        """Both sides explained, and first − second."""
        return Ask(
            "/v1/compare",
            self._body(sides=[self._side(first), self._side(second)], **options),
            dict,
        )

    def _side(self, side: Side) -> dict[str, Any]:
        if isinstance(side, Tensor):
            return {"activation": torch.as_tensor(side).float().flatten().tolist()}
        source, position = side if isinstance(side, tuple) else (side, -1)
        return self._body(source, position=position)

    def search(
        self, texts: Sequence[str | None], query: str, options: SearchOptions
    ) -> Ask[dict[str, Any]]:
        """Which texts hold a query."""
        return Ask("/v1/search", {"texts": list(texts), "query": query, **options}, dict)

    def continuation(self, source: str | Messages, options: ContinueOptions) -> Ask[str]:
        """What the target writes behind a text or chat."""

        def read(answer: Any) -> str:
            return "".join(
                t["token"]
                for t in answer["tokens"][answer["prompt_length"] :]
                if not t["fragment_index"]
            )

        return Ask("/v1/continue", self._body(source, **{"temperature": 0.0, **options}), read)

    def runs(self) -> Ask[list[dict[str, Any]]]:
        """Which run folders there are."""
        return Ask("/v1/runs", None, lambda answer: list(answer["runs"]))

    def run(self, run_id: str) -> Ask[dict[str, Any]]:
        """What a run has written down."""
        return Ask(f"/v1/runs/{quote(run_id, safe='')}", None, dict)


def _rows(activations: Tensor) -> Tensor:
    rows = torch.as_tensor(activations).float()
    return rows.unsqueeze(0) if rows.ndim == 1 else rows


def _read_array(answer: Any) -> Tensor:
    return decode_array(answer["activations"], answer["shape"])


def _read_explanations(answer: Any) -> Explanations:
    items = tuple(
        TokenExplanation(
            position=one["position"],
            token=one["token"] or "",
            text=one["text"],
            response=one["response"],
            fve=one["fve"],
            cosine=one["cosine"],
            norm=one["norm"],
            flags=tuple(one["flags"]),
            direction_mse=one["direction_mse"],
        )
        for one in answer["explanations"]
    )
    return Explanations(items, layer=answer["layer"])


def _read_steering(answer: Any) -> Steering:
    continuations = tuple(
        Continuation(one["edit"], one["alpha"], one["text"]) for one in answer["continuations"]
    )
    return Steering(
        answer["positions"][-1],
        answer["token"],
        answer["original"],
        answer["edited"],
        continuations,
    )
