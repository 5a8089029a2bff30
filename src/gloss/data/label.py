"""The label stage: a labeller writes what a model must have in mind at each activation's place."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from gloss.contract import CLOSE_TAG, OPEN_TAG, read_dataset_sidecar, text_ids
from gloss.data.settings import LabelConfig
from gloss.data.staging import stage_run
from gloss.durable import write_text
from gloss.errors import DatasetError, LabelError
from gloss.foreign import json_text, without_surrogates
from gloss.providers import Labeller, LabelRequest
from gloss.store.activations import (
    PROVENANCE,
    iter_activations,
    read_schema,
    require_columns,
    require_values,
)
from gloss.text.token_texts import text_of_ids

if TYPE_CHECKING:
    from gloss.target_model import Target

LABEL_COLUMN = "api_explanation"
NEXT_TOKENS_WITHOUT_COLUMN = 5
_BATCH_TOKENS = 16384
_WITHOUT_NEXT_TOKENS = "label.settings.next_tokens = 0"
_LAST_PIECE = re.compile(r"\S*\s*\Z")


@dataclass(frozen=True)
class LabelResult:
    """The labelled dataset, and how many rows got a label and how many did not (left out)."""

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

    Next tokens, if needed, come from the column ``top_next_tokens``, else from ``target``.
    Raises: LabelError without them, or if the labeller answers wrongly or never; ResumeError if
    ``out_path`` was begun with other settings; LockError, StorageError."""
    parent, schema = read_dataset_sidecar(Path(parquet)), read_schema(parquet)
    require_columns(schema, PROVENANCE, parquet)
    _check_input(labeller, parquet, schema, target)
    described = json.loads(json_text(dict(labeller.settings), default=str))
    settings = {
        "labeller": labeller.name,
        **described,
        "seed": config.seed,
        "chunk_rows": config.chunk_rows,
        "parent": parent.dataset_id,
        "parent_rows": parent.row_count,
    }
    labelled = schema.append(pa.field(LABEL_COLUMN, pa.string()))
    labels = {"model": labeller.name, **described, "seed": config.seed}
    chunks = out_path.with_name(f".{out_path.name}.chunks")
    record = out_path.with_name(f"{out_path.name}.label.json")
    with stage_run("label", chunks, settings, record=record) as run:
        done = run.finished(out_path)
        if done is None:
            run.save()
            dataset_id = f"{parent.dataset_id}__labelled_{run.tag}"
            dataset = run.dataset(out_path, labelled, parent, dataset_id, labels=labels)
            with dataset as writer, run.progress(parent.row_count, "label") as progress:
                dropped = 0
                tables = iter_activations(parquet, batch_rows=config.chunk_rows)
                for index, table in enumerate(tables):
                    require_values(table, PROVENANCE, parquet)
                    texts = _chunk(table, labeller, chunks / f"{index:06d}.json", target)
                    usable = [text if _usable(text) else None for text in texts]
                    rows = table.append_column(LABEL_COLUMN, pa.array(usable, pa.string()))
                    writer.write(rows.filter(pc.is_valid(rows[LABEL_COLUMN])))
                    dropped += usable.count(None)
                    progress.advance(len(table))
                if not writer.num_rows:
                    what = f"the labeller {labeller.name!r} gave no usable label"
                    raise LabelError(what, where=parquet, found=f"{dropped} rows without")
            run.finish(out_path, labelled=writer.num_rows, dropped=dropped)
            done = run.done
        shutil.rmtree(chunks, ignore_errors=True)
    return LabelResult(out_path, done["labelled"], done["dropped"])


def _check_input(
    labeller: Labeller, parquet: Path, schema: pa.Schema, target: Target | None
) -> None:
    if LABEL_COLUMN in schema.names:
        raise DatasetError(
            "these activations are labelled already", where=parquet, found=f"column {LABEL_COLUMN}"
        )
    if labeller.needs_next_tokens and "top_next_tokens" not in schema.names and target is None:
        raise LabelError(
            f"the labeller {labeller.name!r} needs the target's next tokens",
            where=parquet,
            expected="column top_next_tokens",
            remedy=f"Extract with extract.top_next_tokens = 5, or set {_WITHOUT_NEXT_TOKENS}",
        )


def _chunk(
    table: pa.Table, labeller: Labeller, stored: Path, target: Target | None
) -> list[str | None]:
    """The labels of one chunk: those of an earlier run where it was complete."""
    with suppress(OSError, ValueError):
        found = json.loads(stored.read_text(encoding="utf-8"))
        if isinstance(found, list) and len(found) == len(table):
            return found
    labels = labeller.label(_requests(table, labeller.needs_next_tokens, target))
    labels = [without_surrogates(one) if isinstance(one, str) else one for one in labels]
    if len(labels) != len(table):
        what, expected = f"the labeller {labeller.name!r} answered wrongly", f"{len(table)} labels"
        raise LabelError(what, expected=expected, found=len(labels))
    write_text(stored, json_text(labels, only_ascii=True))
    return labels


def _requests(table: pa.Table, next_tokens: bool, target: Target | None) -> list[LabelRequest]:
    texts: list[str] = table["detokenized_text_truncated"].to_pylist()
    positions = [count - 1 for count in table["n_raw_tokens"].to_pylist()]
    if "token" in table.column_names:
        tokens = table["token"].to_pylist()
    else:
        tokens = [_LAST_PIECE.search(text)[0] for text in texts]  # type: ignore[index]
    following: Sequence[Sequence[str] | None] = [()] * len(table)
    if next_tokens and "top_next_tokens" in table.column_names:
        following = table["top_next_tokens"].to_pylist()
    elif next_tokens:
        assert target is not None
        following = top_next_tokens(target, texts, NEXT_TOKENS_WITHOUT_COLUMN)
    after, doc_ids = [tuple(each or ()) for each in following], table["doc_id"].to_pylist()
    rows = zip(doc_ids, texts, positions, tokens, after, strict=True)
    return list(starmap(LabelRequest, rows))


def top_next_tokens(target: Target, texts: Sequence[str], count: int) -> list[tuple[str, ...]]:
    """Per text the target's ``count`` most likely next tokens; long texts are cut at the left."""
    from gloss.models import right_pad
    from gloss.target_model import next_token_logits

    model, tokenizer = target.model, target.tokenizer
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 4096
    rows = [text_ids(tokenizer, text)[-longest:] for text in texts]
    found: list[tuple[str, ...]] = [()] * len(rows)
    order = sorted((i for i, row in enumerate(rows) if row), key=lambda i: len(rows[i]))
    while order:
        size = max(1, _BATCH_TOKENS // len(rows[order[-1]]))
        batch, order = order[-size:], order[:-size]
        ids, mask = right_pad([rows[i] for i in batch], 0, model.device)
        top = next_token_logits(model, ids, mask.long()).topk(count).indices.tolist()
        for i, tokens in zip(batch, top, strict=True):
            found[i] = tuple(text_of_ids(tokenizer, [token]) for token in tokens)
    return found


def _usable(text: str | None) -> bool:
    return bool(text and text.strip() and OPEN_TAG not in text and CLOSE_TAG not in text)
