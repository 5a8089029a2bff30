"""What every data stage does around its algorithm.

One process at a time writes its folder; a record of its settings makes it go on where it was, and
refuses others; every dataset gets a sidecar that names the one it was made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from gloss.contract import DatasetSidecar, write_dataset_sidecar
from gloss.durable import folder_lock
from gloss.progress import Stage
from gloss.store.activations import ActivationWriter
from gloss.store.digests import check_digests, digests_of
from gloss.store.record import StageRecord, fingerprint

_FILES = "files"


@dataclass
class StageRun(StageRecord):
    """A stage at work: ``name`` as in ``gloss data NAME``, and the record of its settings."""

    name: str = ""

    @property
    def tag(self) -> str:
        """Six hexadecimal digits that identify its settings, for the ids of its datasets."""
        return fingerprint(self.settings)[:6]

    def finished(self, *paths: Path) -> dict[str, Any] | None:
        """What an earlier run gave to ``finish``; None if it did not, or a file has gone.

        Raises: ResumeError if a file holds something else by now."""
        if not self.done or not all(path.exists() for path in paths):
            return None
        check_digests(self.done.get(_FILES, {}), self.path.parent, stage=self.name, use="wrote")
        return {name: value for name, value in self.done.items() if name != _FILES}

    def finish(self, *paths: Path, **done: Any) -> None:
        """Records that all files are written, and the digests of ``paths``."""
        files = {_FILES: digests_of(paths, self.path.parent, times=False)} if paths else {}
        self.done = {**done, **files}
        self.save()

    def progress(self, total: int, unit: str) -> Stage:
        """A progress bar with the stage's name."""
        return Stage(self.name, total=total, unit=unit)

    @contextmanager
    def dataset(
        self,
        path: Path,
        schema: pa.Schema,
        parent: DatasetSidecar,
        dataset_id: str,
        *,
        compress_vectors: bool = True,
        **changes: Any,
    ) -> Iterator[ActivationWriter]:
        """Writes a dataset made from ``parent``, with the parent's sidecar but for ``changes``."""
        with ActivationWriter(path, schema, compress_vectors=compress_vectors) as writer:
            yield writer
        sidecar = replace(
            parent,
            dataset_id=dataset_id,
            row_count=writer.num_rows,
            norm_statistics=writer.norm_statistics,
            parent_datasets=(parent.dataset_id,),
            created_by=f"gloss data {self.name}",
        )
        write_dataset_sidecar(replace(sidecar, **changes), path)


@contextmanager
def stage_run(
    name: str,
    folder: Path,
    settings: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any] | None = None,
    record: Path | None = None,
) -> Iterator[StageRun]:
    """A stage at work in ``folder``; ``settings`` is what determines the output's bytes, one that
    an earlier record lacks is of ``defaults``.

    Raises: LockError, ResumeError if the folder was begun with other settings, StorageError."""
    with folder_lock(folder):
        path = record or folder / f"{name}.json"
        yield StageRun.open(path, settings, defaults=defaults, name=name)
