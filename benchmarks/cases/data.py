"""Document split of a dataset of activations, against the whole table in memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import models
from benchmarks.case import Case, Dtype, FolderOf, NotEqualError, Prepared, Workload
from gloss.contract import DatasetSidecar, write_dataset_sidecar
from gloss.data import (
    ActivationWriter,
    SplitConfig,
    activation_schema,
    read_activations,
    split,
)
from gloss.data.split import assign
from gloss.store.activations import VECTOR_COLUMN, vector_column

ROWS_PER_DOCUMENT = 10
SPLIT = SplitConfig(seed=1)
Stage = Callable[[Path, Path], object]


def prepare(
    folder_of: FolderOf, workload: Workload, dtype: Dtype, *, ours: Stage, alternative: Stage
) -> Prepared:
    """A file of ``rows`` activations with texts of ``tokens`` words; each side reads it and writes
    its result.
    """
    del folder_of, dtype
    folder = TemporaryDirectory(prefix="gloss-bench-data-")
    place = Path(folder.name)
    source = _write_dataset(place / "base.parquet", workload)

    def run(stage: Stage, name: str) -> Path:
        out = Path(folder.name) / name
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        stage(source, out)
        return out

    def check() -> None:
        mine, other = run(ours, "ours"), run(alternative, "alternative")
        for file in sorted(other.glob("*.parquet")):
            found = read_activations(mine / file.name if (mine / file.name).exists() else mine)
            if not found.equals(pq.read_table(file)):
                raise NotEqualError(f"{file.name}: other rows, or another order")

    return Prepared(
        partial(run, ours, "ours"),
        partial(run, alternative, "alternative"),
        check,
        workload.rows * workload.tokens,
    )


def _write_dataset(path: Path, workload: Workload) -> Path:
    d_model, rng = workload.model.d_model, np.random.default_rng(0)
    schema = activation_schema(d_model)
    texts = [models.text_of(workload.tokens, seed) for seed in range(500)]
    with ActivationWriter(path, schema) as writer:
        for first in range(0, workload.rows, 5000):
            rows = range(first, min(first + 5000, workload.rows))
            numbers: dict[str, Any] = {
                field.name: list(rows) for field in schema if field.type == pa.int64()
            }
            columns = numbers | {
                "detokenized_text_truncated": [f"{texts[row % len(texts)]} {row}" for row in rows],
                VECTOR_COLUMN: vector_column(
                    rng.standard_normal((len(rows), d_model), dtype=np.float32)
                ),
                "doc_id": [f"doc:{row // ROWS_PER_DOCUMENT}" for row in rows],
                "token": ["rain"] * len(rows),
            }
            writer.write(pa.table(columns).select(schema.names))
    write_dataset_sidecar(
        DatasetSidecar(
            dataset_id="base",
            stage="base",
            row_count=workload.rows,
            base_model="random",
            d_model=d_model,
            layer=8,
        ),
        path,
    )
    return path


def _split(source: Path, out: Path) -> None:
    split(SPLIT, source, out)


def _split_in_memory(source: Path, out: Path) -> None:
    table = pq.read_table(source)
    ids = table["doc_id"].to_pylist()
    part_of = {doc_id: assign(doc_id, SPLIT) for doc_id in set(ids)}
    for name in SPLIT.shares:
        pq.write_table(
            table.filter(pa.array([part_of[doc_id] == name for doc_id in ids])),
            out / f"{name}.parquet",
        )


_FULL = Workload(models.ModelShape(d_model=512), rows=50_000, tokens=60)
_QUICK = Workload(models.ModelShape(d_model=256), rows=20_000, tokens=60)
_TINY = Workload(models.TINY, rows=400, tokens=5)
SPLIT_CASE = Case(
    name="data-split",
    alternative="whole table in memory",
    target={"float32": 2.0},
    memory_target=2.0,
    prepare=partial(prepare, ours=_split, alternative=_split_in_memory),
    full=_FULL,
    quick=_QUICK,
    tiny=_TINY,
    growth=("rows",),
)
