"""Engines that generate explanations for activations."""

from gloss.rollout.choose import LOCAL, engine_of, parse_engine
from gloss.rollout.engine import Rollout, RolloutEngine
from gloss.rollout.gloss_server import GlossEngine
from gloss.rollout.local import LocalEngine
from gloss.rollout.remote import RemoteEngine, Speed
from gloss.rollout.sglang import SGLangEngine
from gloss.rollout.stepping import NewToken, RowEngine, RowRequest, SteppingEngine
from gloss.rollout.transport import Limits
from gloss.rollout.vllm import VLLMEngine
from gloss.rollout.waves import WaveEngine

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
