"""Natural language autoencoders: turn a language model's activations into words, and check the words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gloss.errors import GlossError

if TYPE_CHECKING:
    from pathlib import Path

    from gloss.nla import NLA

__version__ = "0.1.0"
__all__ = ["NLA", "GlossError", "__version__", "load"]


def load(folder: str | Path, *, target: str | Path | None = None) -> NLA:
    """Opens the NLA in ``folder`` (with ``av/`` and ``ar/``); its parts are loaded when first used.

    ``target`` names the target model where it does not stand beside them.
    Raises: CheckpointError if the folder holds no NLA.
    """
    from gloss.nla import NLA

    return NLA(folder, target=target)


def __getattr__(name: str) -> Any:
    if name == "NLA":
        from gloss.nla import NLA

        return NLA
    raise AttributeError(f"module 'gloss' has no attribute {name!r}")
