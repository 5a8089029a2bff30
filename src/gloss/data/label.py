"""The label stage: a labeller writes what a model must have in mind at each activation's place in
its text.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gloss.contract import (
    CLOSE_TAG,
    OPEN_TAG,
    DatasetSidecar,
    read_dataset_sidecar,
    write_dataset_sidecar,
)
from gloss.data.settings import LabelConfig
from gloss.durable import folder_lock, write_text
from gloss.errors import DatasetError, LabelError
from gloss.progress import Stage
from gloss.providers import Labeller, LabelRequest
from gloss.store.activations import ActivationWriter, iter_activations, read_schema
from gloss.store.record import StageRecord, fingerprint

if TYPE_CHECKING:
    from gloss.target_model import Target

LABEL_COLUMN = "api_explanation"
NEXT_TOKENS_WITHOUT_COLUMN = 5


@dataclass(frozen=True)
class LabelResult:
    """The labelled dataset, and how many rows got a usable label and how many did not (those are
    left out).
    """

    path: Path
    labelled: int
    dropped: int


def label(
    config: LabelConfig,
    parquet: Path,
    labeller: Labeller,
    out_path: Path,
    target: Target | None = None,
) -> LabelResult:
    """Adds the column ``api_explanation``; rows without a usable label are left out and counted.

    Next tokens, if the labeller needs them, come from the column ``top_next_tokens``, else from
    ``target``.
    Raises: LabelError if next tokens are needed and cannot be had, or the labeller answers wrongly
    or never; ResumeError if ``out_path`` was begun with other settings; LockError, StorageError.
    """
    with folder_lock(_chunk_folder(out_path)):
        result = _label(config, parquet, labeller, out_path, target)
        shutil.rmtree(_chunk_folder(out_path), ignore_errors=True)
        return result


def _label(
    config: LabelConfig, parquet: Path, labeller: Labeller, out_path: Path, target: Target | None
) -> LabelResult:
    parent = read_dataset_sidecar(Path(parquet))
    schema = read_schema(parquet)
    if labeller.needs_next_tokens and "top_next_tokens" not in schema.names and target is None:
        raise LabelError(
            f"the labeller {labeller.name!r} needs the target's next tokens",
            where=parquet,
            expected="column top_next_tokens",
            remedy=(
                "Extract with extract.top_next_tokens = 5, or set label.settings.next_tokens = 0"
            ),
        )
    settings = {
        "labeller": labeller.name,
        **_plain(labeller.settings),
        "seed": config.seed,
        "chunk_rows": config.chunk_rows,
        "parent": parent.dataset_id,
        "parent_rows": parent.row_count,
    }
    record = StageRecord.open(out_path.with_name(f"{out_path.name}.label.json"), settings)
    if record.done and out_path.exists():
        return LabelResult(out_path, record.done["labelled"], record.done["dropped"])
    record.save()
    result, writer = _write(config, parquet, labeller, out_path, target, schema, parent.row_count)
    write_dataset_sidecar(_sidecar(parent, labeller, settings, writer), out_path)
    record.done = {"labelled": result.labelled, "dropped": result.dropped}
    record.save()
    return result


def _write(
    config: LabelConfig,
    parquet: Path,
    labeller: Labeller,
    out_path: Path,
    target: Target | None,
    schema: pa.Schema,
    total: int,
) -> tuple[LabelResult, ActivationWriter]:
    if LABEL_COLUMN in schema.names:
        raise DatasetError(
            "these activations are labelled already", where=parquet, found=f"column {LABEL_COLUMN}"
        )
    dropped = 0
    labelled_schema = schema.append(pa.field(LABEL_COLUMN, pa.string()))
    with (
        ActivationWriter(out_path, labelled_schema) as writer,
        Stage("label", total=total, unit="label") as progress,
    ):
        for index, table in enumerate(iter_activations(parquet, batch_rows=config.chunk_rows)):
            labels = _chunk(table, labeller, _chunk_folder(out_path) / f"{index:06d}.json", target)
            usable = [text if text is not None and _usable(text) else None for text in labels]
            dropped += usable.count(None)
            rows = table.append_column(LABEL_COLUMN, pa.array(usable, pa.string()))
            writer.write(rows.filter(pa.array([text is not None for text in usable], pa.bool_())))
            progress.advance(len(table))
        if not writer.num_rows:
            raise LabelError(
                f"the labeller {labeller.name!r} gave no usable label",
                where=parquet,
                found=f"{dropped} rows without",
            )
    return LabelResult(out_path, writer.num_rows, dropped), writer


def _chunk(
    table: pa.Table, labeller: Labeller, stored: Path, target: Target | None
) -> list[str | None]:
    """The labels of one chunk: those of an earlier run where it was complete."""
    found = _stored_labels(stored)
    if len(found) == len(table):
        return found
    labels = labeller.label(_requests(table, labeller.needs_next_tokens, target))
    if len(labels) != len(table):
        raise LabelError(
            f"the labeller {labeller.name!r} answered wrongly",
            expected=f"{len(table)} labels",
            found=len(labels),
        )
    write_text(stored, json.dumps(labels, ensure_ascii=True))
    return labels


def _stored_labels(stored: Path) -> list[str | None]:
    """The labels that an earlier run left in a chunk file; none if it is not there or damaged."""
    try:
        found = json.loads(stored.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []


def _requests(table: pa.Table, next_tokens: bool, target: Target | None) -> list[LabelRequest]:
    columns = {
        name: table[name].to_pylist()
        for name in ("doc_id", "detokenized_text_truncated", "n_raw_tokens")
    }
    texts: list[str] = columns["detokenized_text_truncated"]
    tokens = (
        table["token"].to_pylist()
        if "token" in table.column_names
        else [_last_piece(text) for text in texts]
    )
    following = _next_tokens(table, texts, target) if next_tokens else [()] * len(table)
    return [
        LabelRequest(doc_id=doc_id, text=text, position=count - 1, token=token, next_tokens=after)
        for doc_id, text, count, token, after in zip(
            columns["doc_id"], texts, columns["n_raw_tokens"], tokens, following, strict=True
        )
    ]


def _next_tokens(
    table: pa.Table, texts: Sequence[str], target: Target | None
) -> list[tuple[str, ...]]:
    if "top_next_tokens" in table.column_names:
        return [tuple(tokens or ()) for tokens in table["top_next_tokens"].to_pylist()]
    from gloss.data.next_tokens import top_next_tokens

    assert target is not None
    return top_next_tokens(target, texts, NEXT_TOKENS_WITHOUT_COLUMN)


def _last_piece(text: str) -> str:
    match = re.search(r"\S*\s*\Z", text)
    return match[0] if match else text


def _usable(text: str) -> bool:
    return bool(text.strip()) and OPEN_TAG not in text and CLOSE_TAG not in text


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dict(settings), default=str))
    return plain


def _chunk_folder(out_path: Path) -> Path:
    return out_path.with_name(f".{out_path.name}.chunks")


def _sidecar(
    parent: DatasetSidecar,
    labeller: Labeller,
    settings: Mapping[str, Any],
    writer: ActivationWriter,
) -> DatasetSidecar:
    return replace(
        parent,
        dataset_id=f"{parent.dataset_id}__labelled_{fingerprint(settings)[:6]}",
        row_count=writer.num_rows,
        norm_statistics=writer.norm_statistics,
        labels={"model": labeller.name, **_plain(labeller.settings), "seed": settings["seed"]},
        parent_datasets=(parent.dataset_id,),
        created_by="gloss data label",
    )
