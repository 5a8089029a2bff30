"""Activations in an uploaded file: .npy, .safetensors or Parquet, known by their first bytes;
nothing in it is executed, and a process of its own opens it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloss.errors import ActivationError, DatasetError
from gloss.serve import limits
from gloss.store.sources import open_source

_SIGNS = ((b"\x93NUMPY", ".npy"), (b"PAR1", ".parquet"))
_COLUMNS = ("doc_id", "position", "token", "context")
_KINDS = {"ActivationError": ActivationError, "DatasetError": DatasetError}
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "HOME", "LANG", "LC_ALL")
_OWN_VARIABLES = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Upload:
    """Activations read from an uploaded file, with what it says of their rows."""

    vectors: list[list[float]]
    num_rows: int
    layer: int | None
    columns: dict[str, list[Any]]


class UploadReader:
    """Opens uploaded files, each in a process that is bounded in memory and time, few at once."""

    def __init__(self, bounds: limits.Limits, *, at_once: int = 2) -> None:
        self._bounds, self._places = bounds, asyncio.Semaphore(at_once)

    async def read(self, data: bytes, d_model: int) -> bytes:
        """The first activations of a file's bytes, an ``Upload`` as JSON.

        Raises: as ``read_upload``; DatasetError for a file that takes more memory or time."""
        suffix = _suffix(data)
        most = min(limits.MAX_DESCRIBE_BATCH, self._bounds.max_values // d_model)
        async with self._places:
            with tempfile.TemporaryDirectory(prefix="gloss-upload-") as folder:
                path = Path(folder) / f"upload{suffix}"
                await asyncio.to_thread(path.write_bytes, data)
                status, answer = await self._run(str(path), str(d_model), str(most))
        if status == 0:
            return answer
        if status == 2:
            said = json.loads(answer)
            raise _KINDS.get(said.pop("kind"), DatasetError)(**said)
        raise DatasetError(
            "this file takes too much memory or time to open",
            where="upload",
            expected=f"at most {self._bounds.upload_bytes / 2**20:,.0f} MB unpacked",
            remedy="Upload fewer rows or columns",
        )

    async def _run(self, *arguments: str) -> tuple[int | None, bytes]:
        path = os.pathsep.join(place for place in sys.path if place)
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gloss.serve.upload_process"),
            *(*arguments, str(self._bounds.upload_bytes)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**kept, **_OWN_VARIABLES, "PYTHONPATH": path},
        )
        try:
            async with asyncio.timeout(self._bounds.request_timeout_s):
                answer, _ = await process.communicate()
        except TimeoutError:
            return None, b""
        finally:
            with suppress(ProcessLookupError):
                process.kill()
        return process.returncode, answer


def read_upload(path: Path, d_model: int, *, max_rows: int = limits.MAX_DESCRIBE_BATCH) -> Upload:
    """The first ``max_rows`` activations of a file.

    Raises: DatasetError for another kind of file or a damaged one; ActivationError for vectors of
    another width."""
    try:
        source = open_source(path)
        if source.d_model != d_model:
            raise ActivationError(
                "wrong activation width", where="upload", expected=d_model, found=source.d_model
            )
        rows = next(source.chunks(max_rows), None)
    except DatasetError as error:
        raise DatasetError(
            error.what, where="upload", expected=error.expected, found=error.found
        ) from error
    found = {} if rows is None else rows.columns
    return Upload(
        vectors=[] if rows is None else rows.vectors.tolist(),
        num_rows=source.num_rows,
        layer=source.layer,
        columns={name: list(found[name]) for name in _COLUMNS if name in found},
    )


def _suffix(data: bytes) -> str:
    suffix = next((suffix for sign, suffix in _SIGNS if data.startswith(sign)), None)
    if suffix is None and data[8:9] == b"{":
        suffix = ".safetensors"
    if suffix is None:
        expected = ".npy, .safetensors or .parquet"
        raise DatasetError("unknown kind of file", where="upload", expected=expected)
    return suffix
