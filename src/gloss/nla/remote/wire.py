"""How a question travels: the body of its request, when it is sent again, and how an answer or an
error is read. Nothing here sends anything."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, SupportsIndex, TypeVar

import httpx2
from pydantic import ValidationError
from torch import Tensor

import gloss.errors as errors
from gloss.engines.retries import Busy, RetryRule
from gloss.errors import AccessError, ConfigError, GlossError, ServerBusyError, ServerError
from gloss.nla.compare import Side
from gloss.nla.presentation import adapter
from gloss.nla.questions import Questions
from gloss.nla.remote.answers import ArrayAnswer
from gloss.store.sources import VectorRows
from gloss.text.document import Document
from gloss.text.positions import plain_positions

Params = ParamSpec("Params")
Answer = TypeVar("Answer")
Question = Callable[Concatenate[Questions, Params], Coroutine[Any, Any, Answer]]
_KIND_OF_STATUS: dict[int, type[GlossError]] = {
    401: AccessError,
    403: AccessError,
    429: ServerBusyError,
}
_SCALARS = (str, int, float)


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Where a server is and how long to try.

    ``timeout_s``: silence after which a request has failed. ``max_wait_s``: how long one request
    waits in all for a busy server, or for one to come back that has answered before; see
    ``RetryRule``. Sending a request twice does no harm: answers depend on it alone."""

    url: str
    secret: str | None = None
    timeout_s: float = 300.0
    max_wait_s: float = 60.0

    def __post_init__(self) -> None:
        """Raises ConfigError for what is not the URL of a web server."""
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(
                "not the address of a server", expected="http://host:port", found=repr(self.url)
            )

    def options(self) -> dict[str, Any]:
        """Arguments of an HTTP client; proxies of the environment are not used."""
        headers = {} if self.secret is None else {"X-SECRET-KEY": self.secret}
        return {
            "base_url": self.url,
            "headers": headers,
            "timeout": self.timeout_s,
            "trust_env": False,
        }

    def retries(self, *, known: bool) -> dict[str, Any]:
        """Arguments of tenacity's loop; ``known`` says that the server has answered before."""
        return RetryRule(max_wait_s=self.max_wait_s).options(known=known)

    def error_of(self, fault: Busy | httpx2.TransportError) -> GlossError:
        """The error of a request that was given up."""
        if isinstance(fault, Busy):
            return self._refusal(fault.response)
        late = isinstance(fault, httpx2.TimeoutException)
        return ServerError(
            "the server does not answer in time" if late else "no server can be reached",
            where=self.url,
            found=str(fault) or type(fault).__name__,
            remedy="Look at its log and load, or allow more time"
            if late
            else "Start one with: gloss serve --nla …",
        )

    def read(self, response: httpx2.Response, kind: Any) -> Any:
        """The answer. Raises: GlossError of the server's own kind; ServerError, AccessError."""
        if not response.is_success:
            raise self._refusal(response)
        try:
            answer = adapter(kind).validate_json(response.content)
        except ValidationError as error:
            raise ServerError(
                "not the answer of a Gloss server",
                where=str(response.url),
                found=response.text[:80],
            ) from error
        return answer

    def _refusal(self, response: httpx2.Response) -> GlossError:
        try:
            answer = response.json()
        except ValueError:
            answer = None
        said = answer if isinstance(answer, dict) else {}
        detail = said.get("detail")
        if isinstance(detail, list):
            detail = "; ".join(
                f"{'.'.join(map(str, one.get('loc', [])[1:]))}: {one.get('msg')}" for one in detail
            )
        named: Any = getattr(errors, str(said.get("kind")), None)
        known = isinstance(named, type) and issubclass(named, GlossError)
        default = ServerError if response.status_code >= 500 else ConfigError
        kind: type[GlossError] = _KIND_OF_STATUS.get(response.status_code, default)
        if known and named is not errors.MissingExtraError:
            kind = named
        line = detail or f"the server answers with HTTP {response.status_code}"
        return kind(line, where=self.url)


def body_of(
    question: Callable[..., Any], nla: str | None, *args: Any, **options: Any
) -> dict[str, Any]:
    """The body of a question, from the arguments of the method of ``Questions``. Raises:
    TypeError as the method does for arguments that it does not have."""
    given = inspect.signature(question).bind(None, *args, **options).arguments
    body: dict[str, Any] = {"nla": nla}
    for name, value in list(given.items())[1:]:
        if name == "source":
            body |= _source(value)
        elif name in ("first", "second"):
            body.setdefault("sides", []).append(_side(value))
        elif name == "minus" and value is not None:
            body[name] = _source(value)
        elif name == "explanations" and isinstance(value, str):
            body[name] = [value]
        elif name in ("positions", "position", "minus_position") and value is not None:
            body[name] = _positions(value)
        else:
            body[name] = value if value is None or isinstance(value, _SCALARS) else list(value)
    return {name: value for name, value in body.items() if value is not None}


def _positions(value: Any) -> str | int | list[int]:
    """Positions as JSON has them. Raises: PositionError; a slice means nothing to a server."""
    plain = plain_positions(value)
    if isinstance(plain, slice):
        what, expected = "a slice of a text that the server reads", "positions, or text like 3,7-9"
        raise errors.PositionError(what, expected=expected, found=plain)
    return plain


def _source(source: Any) -> dict[str, Any]:
    """The fields that hold a text, a chat or activations."""
    if isinstance(source, str):
        return {"text": source}
    if isinstance(source, Document) and source.messages is None:
        return {"text": source.text}
    if isinstance(source, Document):
        return {"messages": [*map(dict, source.messages or ())], **source.template_options}
    if isinstance(source, VectorRows):
        columns = {name: list(values) for name, values in source.columns.items()}
        return {**_source(source.vectors), "columns": columns, "first_row": source.first}
    if isinstance(source, Tensor):
        return vars(ArrayAnswer.of(source.unsqueeze(0) if source.ndim == 1 else source))
    return {"messages": [*map(dict, source)]}


def _side(side: Any) -> dict[str, Any]:
    if isinstance(side, tuple) and len(side) == 2 and isinstance(side[1], SupportsIndex):
        side = Side(*side)
    if isinstance(side, Side):
        named = {} if side.questions is None else {"nla": side.questions.name}
        return {**_side(side.source), "position": _positions(side.position), **named}
    if isinstance(side, Tensor):
        return {"activation": side.float().flatten().tolist()}
    return _source(side)
