"""Tables of explanations made by hand, whose themes and matches are known."""

from pathlib import Path

import pyarrow as pa

from gloss.reading import RESULT_SCHEMA
from gloss.reading.tables import write_results


def write_table(path: Path, rows: list[dict], **header) -> Path:
    """Rows of doc_id, position, text and whatever else; the rest is filled in."""
    filled = [
        {"row": i, "sample": 0, "flags": [], "response": row.get("text") or "", **row}
        for i, row in enumerate(rows)
    ]
    write_results(path, [pa.Table.from_pylist(filled, schema=RESULT_SCHEMA)], header)
    return path
