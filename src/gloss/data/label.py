"""The label stage: a labeller writes what a model must have in mind at each activation's place in
its text.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from gloss.contract import CLOSE_TAG, OPEN_TAG, read_dataset_sidecar, text_ids
from gloss.data.settings import LabelConfig
from gloss.data.staging import stage_run
from gloss.durable import write_text
from gloss.errors import DatasetError, LabelError
from gloss.providers import Labeller, LabelRequest
from gloss.store.activations import iter_activations, read_schema

if TYPE_CHECKING:
    from gloss.target_model import Target

LABEL_COLUMN = "api_explanation"
NEXT_TOKENS_WITHOUT_COLUMN = 5
_BATCH_TOKENS = 16384


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
    parent, schema = read_dataset_sidecar(Path(parquet)), read_schema(parquet)
    _check_input(labeller, parquet, schema, target)
    described = json.loads(json.dumps(dict(labeller.settings), default=str))
    settings = {
        "labeller": labeller.name,
        **described,
        "seed": config.seed,
        "chunk_rows": config.chunk_rows,
        "parent": parent.dataset_id,
        "parent_rows": parent.row_count,
    }
    chunks = out_path.with_name(f".{out_path.name}.chunks")
    record = out_path.with_name(f"{out_path.name}.label.json")
    with stage_run("label", chunks, settings, record=record) as run:
        done = run.finished(out_path)
        if done is None:
            run.record.save()
            dataset = run.dataset(
                out_path,
                schema.append(pa.field(LABEL_COLUMN, pa.string())),
                parent,
                f"{parent.dataset_id}__labelled_{run.tag}",
                labels={"model": labeller.name, **described, "seed": settings["seed"]},
            )
            with dataset as writer, run.progress(parent.row_count, "label") as progress:
                dropped = 0
                tables = iter_activations(parquet, batch_rows=config.chunk_rows)
                for index, table in enumerate(tables):
                    labels = _chunk(table, labeller, chunks / f"{index:06d}.json", target)
                    usable = [
                        text if text is not None and _usable(text) else None for text in labels
                    ]
                    rows = table.append_column(LABEL_COLUMN, pa.array(usable, pa.string()))
                    writer.write(rows.filter(pc.is_valid(rows[LABEL_COLUMN])))
                    dropped += usable.count(None)
                    progress.advance(len(table))
                if not writer.num_rows:
                    raise LabelError(
                        f"the labeller {labeller.name!r} gave no usable label",
                        where=parquet,
                        found=f"{dropped} rows without",
                    )
            run.finish(labelled=writer.num_rows, dropped=dropped)
            done = run.record.done
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
            remedy=(
                "Extract with extract.top_next_tokens = 5, or set label.settings.next_tokens = 0"
            ),
        )


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
    assert target is not None
    return top_next_tokens(target, texts, NEXT_TOKENS_WITHOUT_COLUMN)


def top_next_tokens(target: Target, texts: Sequence[str], count: int) -> list[tuple[str, ...]]:
    """Per text the target's ``count`` most likely next tokens, likeliest first; a text without
    tokens has none.

    Long texts are read from where the target's context allows.
    """
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
            found[i] = tuple(
                tokenizer.decode([token], clean_up_tokenization_spaces=False) for token in tokens
            )
    return found


def _last_piece(text: str) -> str:
    match = re.search(r"\S*\s*\Z", text)
    return match[0] if match else text


def _usable(text: str) -> bool:
    return bool(text.strip()) and OPEN_TAG not in text and CLOSE_TAG not in text
