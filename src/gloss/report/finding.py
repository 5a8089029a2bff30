"""One sentence to weigh explanations by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["good", "caution", "warning", "unknown"]


@dataclass(frozen=True)
class Finding:
    """The sentence, with what it rests on."""

    level: Level
    title: str
    text: str
