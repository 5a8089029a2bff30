"""Engines that generate explanations for activations."""

from typing import TYPE_CHECKING

from gloss.lazy import lazy_package

if TYPE_CHECKING:
    from gloss.engines.choose import engine_of
    from gloss.engines.decoding import DecodingBatch
    from gloss.engines.engine import (
        Engine,
        NewToken,
        ResidualEdit,
        Rollout,
        RowBatch,
        RowRequest,
        TextRequest,
    )
    from gloss.engines.engine_names import LOCAL, parse_engine
    from gloss.engines.gloss_server import GlossEngine
    from gloss.engines.local import LocalEngine
    from gloss.engines.remote_batch import RemoteBatch, open_batch
    from gloss.engines.servers import EmbeddedPromptEngine, RemoteEngine, Speed
    from gloss.engines.sglang import SGLangEngine
    from gloss.engines.transport import Limits
    from gloss.engines.vllm import VLLMEngine

lazy_package(__name__)
