"""A client of a Gloss server with the methods of a local NLA, asynchronous."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self, TypeVar, Unpack
from urllib.parse import quote

import httpx2
from tenacity import AsyncRetrying
from torch import Tensor

from gloss.nla.remote.wire import (
    Busy,
    Connection,
    Explained,
    LoadedNLA,
    Run,
    RunEntry,
    Scores,
    Vectors,
)
from gloss.nla.results import Comparison, Explanations, Score, Steering, TextContinuation, Trust
from gloss.nla.selection import Positions, Source, Text
from gloss.text.tokens import ReadText

Answer = TypeVar("Answer")
