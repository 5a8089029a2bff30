"""Engines that generate explanations for activations."""

from typing import TYPE_CHECKING

from gloss.lazy import lazy_package

if TYPE_CHECKING:
    from gloss.engines.choose import LOCAL, engine_of, parse_engine
    from gloss.engines.engine import Rollout, RolloutEngine
    from gloss.engines.gloss_server import GlossEngine
    from gloss.engines.local import LocalEngine
    from gloss.engines.remote import RemoteEngine, Speed
    from gloss.engines.sglang import SGLangEngine
    from gloss.engines.stepping import NewToken, RowEngine, RowRequest, SteppingEngine
    from gloss.engines.transport import Limits
    from gloss.engines.vllm import VLLMEngine
    from gloss.engines.waves import WaveEngine

__all__ = [
    "LOCAL",
    "GlossEngine",
    "Limits",
    "LocalEngine",
    "NewToken",
    "RemoteEngine",
    "Rollout",
    "RolloutEngine",
    "RowEngine",
    "RowRequest",
    "SGLangEngine",
    "Speed",
    "SteppingEngine",
    "VLLMEngine",
    "WaveEngine",
    "engine_of",
    "parse_engine",
]

lazy_package(__name__)
