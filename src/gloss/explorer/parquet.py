"""What the page has explained, as the table of explanations that ``gloss explain --out`` writes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, Field

from gloss.reading.tables import RESULT_SCHEMA, write_results

MAX_EXPLANATIONS = 20_000


class SharedNla(BaseModel):
    """The NLA that explained."""

    name: str
    target: str | None
    layer: int
    d_model: int


class SharedExplanation(BaseModel):
    """One explanation of the page's JSON; what it holds beside these is left out."""

    position: int
    token: str
    token_id: int | None = None
    role: str | None = None
    section: str | None = None
    message_index: int | None = None
    fragment_index: int = 0
    fragment_count: int = 1
    text: str | None
    response: str | None = None
    fve: float | None
    cosine: float | None
    direction_mse: float | None
    norm: float | None
    flags: list[str]


class SharedText(BaseModel):
    """The JSON that the page downloads: a text, its tokens, and explanations of some of them."""

    nla: SharedNla
    source: dict[str, Any]
    tokens: list[str]
    explanations: list[SharedExplanation] = Field(max_length=MAX_EXPLANATIONS)


def parquet_bytes(shared: SharedText) -> bytes:
    """A Parquet file of ``RESULT_SCHEMA``, one row per explanation, as ``read_results`` reads it.

    Raises: StorageError if there is no room for a temporary file.
    """
    doc_id = "text"
    rows = [
        {
            **one.model_dump(),
            "row": i,
            "doc_id": doc_id,
            "sample": 0,
            "response": one.response or one.text or "",
        }
        for i, one in enumerate(shared.explanations)
    ]
    text = shared.source.get("text") or "".join(shared.tokens)
    header = {
        "provenance": {
            "nla": {"name": shared.nla.name},
            "target": {"name": shared.nla.target},
            "layer": shared.nla.layer,
            "d_model": shared.nla.d_model,
        },
        "documents": {
            doc_id: {
                "text": text,
                "tokens": shared.tokens,
                "messages": shared.source.get("messages"),
            }
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "explanations.parquet"
        write_results(file, [pa.Table.from_pylist(rows, schema=RESULT_SCHEMA)], header)
        return file.read_bytes()
