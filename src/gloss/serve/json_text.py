"""Answers as JSON, which never holds NaN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json


def json_bytes(value: Any) -> bytes:
    """A value as JSON; what is not finite is null."""
    return to_json(value, inf_nan_mode="null")


def answer_bytes(answer: Any) -> bytes:
    """An answer as JSON; what a list in it holds is written one by one, so that other threads have
    their turn."""
    if is_dataclass(answer):
        held = {one.name: getattr(answer, one.name) for one in fields(answer)}
    elif isinstance(answer, BaseModel | Mapping):
        held = dict(answer)
    else:
        return json_bytes(answer)
    return b"{" + b",".join(json_bytes(n) + b":" + _values(v) for n, v in held.items()) + b"}"


def _values(value: Any) -> bytes:
    if isinstance(value, list | tuple):
        return b"[" + b",".join(map(json_bytes, value)) + b"]"
    return json_bytes(value)
