"""Neuronpedia's public cache JSON (``GET /cache/{id}``), to and from tables, without loss.

    {text, tokens: [str], sortedPositions: [int], resultJson: "{results: [ExplainResult],
    layer_index, prompt_length, …}", …}
The document as it was imported stays in the table's header: fields that Gloss does not know come
back as they were, and what was not changed comes back to the letter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from gloss import __version__
from gloss.durable import write_text
from gloss.errors import ConfigError, CorpusError, first_line
from gloss.foreign import json_text, shown, without_surrogates
from gloss.reading.tables import RESULT_SCHEMA, Results, write_results
from gloss.text.document import json_value, read_json_file

_KINDS: Mapping[str, tuple[Any, str]] = {
    "text": (str, "a text"),
    "integer": (int, "a whole number"),
    "number": (int | float, "a number"),
    "boolean": (bool, "true or false"),
}
_FIELDS: Mapping[str, tuple[str, str, Any]] = {
    "token": ("token", "text", ""),
    "token_id": ("token_id", "integer", -1),
    "position": ("position", "integer", None),
    "l2_norm": ("norm", "number", None),
    "description": ("text", "text", ""),
    "mse": ("direction_mse", "number", None),
    "cosine_similarity": ("cosine", "number", None),
    "generated": ("generated", "boolean", False),
    "fragment_index": ("fragment_index", "integer", 0),
    "fragment_count": ("fragment_count", "integer", 1),
    "role": ("role", "text", None),
    "section": ("section", "text", None),
    "channel": ("channel", "text", None),
    "message_index": ("message_index", "integer", None),
}
"""Fields of an ExplainResult → column of a table, kind, and what stands for a missing value."""


def import_neuronpedia(file: Path, out: Path) -> Results:
    """Reads a cache document and writes it as a table, a row per result in its order.

    Raises: CorpusError that names the file and what is wrong in it; StorageError.
    """
    document = read_json_file(file)
    results = from_neuronpedia(document, doc_id=file.stem, where=file)
    write_results(out, [results.table], results.header)
    return results


def export_neuronpedia(results: Results, out: Path, *, doc_id: str | None = None) -> dict[str, Any]:
    """Writes and returns a cache document of one text's explanations, of each token the first.

    Raises: ConfigError if the table does not hold the text, or several and none is named."""
    document = to_neuronpedia(results, doc_id=doc_id)
    write_text(out, json_text(document, only_ascii=True, keep_surrogates=True) + "\n")
    return document


def from_neuronpedia(document: Any, *, doc_id: str, where: object = None) -> Results:
    """The table of a cache document. Raises: CorpusError."""
    try:
        json_text(document)
    except (TypeError, ValueError, RecursionError) as error:
        what, found = "not a cache document of Neuronpedia", first_line(error)
        raise CorpusError(what, where=where, expected="values of JSON", found=found) from error
    text, tokens = _field(document, "text", str, where), _field(document, "tokens", list, where)
    positions = _field(document, "sortedPositions", list, where)
    payload = _payload(document, where)
    if not all(isinstance(token, str) for token in tokens):
        raise CorpusError("tokens", where=where, expected="a list of strings")
    if not all(type(position) is int for position in positions):
        raise CorpusError("sortedPositions", where=where, expected="a list of whole numbers")
    records = _field(payload, "results", list, where)
    doc_id = without_surrogates(str(doc_id))
    rows = [_row(record, i, doc_id, where) for i, record in enumerate(records)]
    provenance = {
        "gloss_version": __version__,
        "nla": {"name": document.get("nlaSourceId")},
        "target": {"name": document.get("modelId"), "revision": None},
        "layer": payload.get("layer_index"),
        "sampling": {"temperature": document.get("temperature")},
        "imported_from": "neuronpedia",
    }
    texts = {doc_id: {"text": text, "tokens": tokens, "messages": payload.get("messages")}}
    header = {"provenance": provenance, "documents": texts, "neuronpedia": document}
    try:
        return Results(pa.Table.from_pylist(rows, schema=RESULT_SCHEMA), header)
    except (pa.ArrowInvalid, OverflowError) as error:
        found = first_line(error)
        raise CorpusError("a number that is too large", where=where, found=found) from error


def to_neuronpedia(results: Results, *, doc_id: str | None = None) -> dict[str, Any]:
    """The cache document of one text of a table. Raises: ConfigError."""
    doc_id, read = _document(results, doc_id)
    every = results.to_dicts()
    for row in every:
        if row["doc_id"] is None:
            what, found = "an explanation of no text would be lost", f"row {row['row']} without"
            raise ConfigError(what, expected="rows with doc_id", found=found)
    rows = [row for row in every if row["doc_id"] == doc_id and row["sample"] == 0]
    original = results.header.get("neuronpedia")
    if original is not None:
        return _updated(original, rows)
    for row in rows:
        if not 0 <= (-1 if row["position"] is None else row["position"]) < len(read["tokens"]):
            what, expected = "a position outside of the text", f"0 to {len(read['tokens']) - 1}"
            found = f"{row['position']} in row {row['row']}"
            raise ConfigError(what, where=doc_id, expected=expected, found=found)
    provenance = results.provenance
    payload = {
        "results": [_record(row, {}) for row in rows],
        "layer_index": provenance.get("layer"),
        "prompt_length": len(read["tokens"]),
        **({"messages": read["messages"]} if read.get("messages") else {}),
    }
    return {
        "text": read["text"],
        "tokens": read["tokens"],
        "sortedPositions": _positions(rows),
        "modelId": provenance.get("target", {}).get("name"),
        "nlaSourceId": provenance.get("nla", {}).get("name"),
        "temperature": provenance.get("sampling", {}).get("temperature"),
        "resultJson": _compact(payload),
    }


def _document(results: Results, doc_id: str | None) -> tuple[str, Mapping[str, Any]]:
    documents: Mapping[str, Any] = results.header.get("documents") or {}
    if not documents:
        raise ConfigError(
            "this table does not hold the text that was read",
            expected="explanations of a text or a chat",
            found="explanations of a file of activations",
            remedy="Explain the text itself: gloss explain --chat … --out …",
        )
    names = sorted(documents)[:5]
    if doc_id is None and len(documents) > 1:
        raise ConfigError("several texts in this table", expected="one of them named", found=names)
    chosen = doc_id if doc_id is not None else next(iter(documents))
    if chosen not in documents:
        raise ConfigError("no such text in this table", expected=names, found=repr(chosen))
    return chosen, documents[chosen]


def _updated(original: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The imported document with the table's rows instead of its own."""
    payload = _payload(original, None)
    before = payload["results"]
    records = [_record(row, before[row["row"]] if row["row"] < len(before) else {}) for row in rows]
    if records == before:
        return dict(original)
    changed = {**payload, "results": records}
    inside = original["resultJson"]
    return {
        **original,
        "sortedPositions": _positions(rows),
        "resultJson": _compact(changed) if isinstance(inside, str) else changed,
    }


def _positions(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    return sorted({row["position"] for row in rows})


def _compact(value: Any) -> str:
    return json_text(value, compact=True, keep_surrogates=True)


def _record(row: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """An ExplainResult of a row; known fields keep their place, unknown ones their value."""
    record = dict(before)
    for field, (column, _, default) in _FIELDS.items():
        value = row[column]
        if field in before:
            record[field] = before[field] if value == _stored(before[field]) else value
        elif not before or value is not None:
            record[field] = default if value is None else value
    return record


def _stored(value: Any) -> Any:
    """A value as a table holds it: a lone surrogate, half of an emoji, is no text there."""
    return without_surrogates(value) if isinstance(value, str) else value


def _payload(document: Any, where: object) -> dict[str, Any]:
    inside = document.get("resultJson") if isinstance(document, dict) else None
    value = json_value(inside, where=f"{where}: resultJson") if isinstance(inside, str) else inside
    if not isinstance(value, dict):
        expected, found = "an object with results, or its JSON", type(value).__name__
        raise CorpusError("resultJson", where=where, expected=expected, found=found)
    return value


def _field(values: Any, name: str, kind: type, where: object) -> Any:
    if not isinstance(values, dict):
        what, found = "not a cache document of Neuronpedia", type(values).__name__
        raise CorpusError(what, where=where, expected="an object", found=found)
    value = values.get(name)
    if not isinstance(value, kind):
        expected = "a list" if kind is list else "a text"
        found = "nothing" if name not in values else type(value).__name__
        raise CorpusError(name, where=where, expected=expected, found=found)
    return value


def _row(record: Any, index: int, doc_id: str, where: object) -> dict[str, Any]:
    def wrong(field: str, expected: str) -> CorpusError:
        found = shown(record.get(field) if isinstance(record, dict) else record)
        what = f"results[{index}].{field}".rstrip(".")
        return CorpusError(what, where=where, expected=expected, found=found)

    if not isinstance(record, dict):
        raise wrong("", "an object")
    for field, (_, kind, _) in _FIELDS.items():
        value, (allowed, expected) = record.get(field), _KINDS[kind]
        good = isinstance(value, allowed) and (kind == "boolean") == isinstance(value, bool)
        if not good and (value is not None or field == "position"):
            raise wrong(field, expected)
    row = {column: _stored(record.get(field)) for field, (column, _, _) in _FIELDS.items()}
    known = {"row": index, "doc_id": doc_id, "sample": 0, "flags": []}
    return {**row, **known, "response": row["text"] or ""}
