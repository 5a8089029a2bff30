"""An engine by its name, for an AV."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Unpack

from gloss.contract import SIDECAR_NAME, read_model_sidecar
from gloss.engines.engine import Engine
from gloss.engines.engine_names import ENGINE_FORMS, LOCAL, parse_engine
from gloss.engines.gloss_server import GlossEngine
from gloss.engines.local import LocalEngine
from gloss.engines.servers import RemoteEngine, run_apart
from gloss.engines.sglang import SGLangEngine
from gloss.engines.transport import Limits, RefusedRequest, Transport, bearer, secret
from gloss.engines.vllm import VLLMEngine
from gloss.errors import CheckpointError, EngineError
from gloss.models import PromptEmbedder, load_av
from gloss.target_model import LoadOptions, ModelPlace

_EMBEDDED = {"sglang": SGLangEngine, "vllm": VLLMEngine}
_SIGNS = (("sglang", "/get_model_info"), ("vllm", "/version"), ("gloss", "/openapi.json"))
"""Paths that only one kind of server answers, in order: vLLM has an OpenAPI page too."""


def engine_of(
    spec: str,
    av: str | Path | ModelPlace,
    *,
    limits: Limits | None = None,
    **options: Unpack[LoadOptions],
) -> Engine:
    """The engine that ``spec`` names, for an AV; a server is probed before it is used.

    Of the AV itself ``local`` loads everything, SGLang and vLLM need the tokenizer and the
    embedding rows of its prompt, a Gloss server only the sidecar. ``dtype`` is that of the
    embeddings that are sent; by default the checkpoint's own.
    Raises: ConfigError for a name of another form; EngineError; CheckpointError; SidecarError;
    ArchitectureError."""
    place = ModelPlace.of(av, revision=options.get("revision"))
    if spec == LOCAL:
        return LocalEngine(load_av(place, **options))
    kind, url = parse_engine(spec)
    limits = limits or Limits()
    engine = _remote(kind or run_apart(partial(_kind_of, url, limits)), url, place, limits, options)
    engine.check()
    return engine


def _remote(
    kind: str, url: str, place: ModelPlace, limits: Limits, options: LoadOptions
) -> RemoteEngine:
    if kind == GlossEngine.kind:
        file = place.file(SIDECAR_NAME)
        if file is None:
            raise CheckpointError("no sidecar", where=place, expected=SIDECAR_NAME)
        return GlossEngine(url, d_model=read_model_sidecar(file).d_model, limits=limits)
    embedder = PromptEmbedder.load(
        place, dtype=options.get("dtype"), trust_remote_code=options.get("trust_remote_code", False)
    )
    return _EMBEDDED[kind](url, embedder, limits=limits)


async def _kind_of(url: str, limits: Limits) -> str:
    """Which kind of server answers at ``url``."""
    async with Transport.open(url, limits, bearer() | secret()) as transport:
        for kind, path in _SIGNS:
            try:
                await transport.send(path)
            except RefusedRequest:
                continue
            return kind
    raise EngineError(
        "it cannot be told which kind of server this is",
        where=url,
        remedy=f"Name its kind: {ENGINE_FORMS}",
    )
