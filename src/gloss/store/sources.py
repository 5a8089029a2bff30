"""Activations to be explained, a chunk at a time, each with what is known of its rows.

.parquet (a file or a folder of shards)   datasets of Gloss and the reference
.npy, .safetensors, memory                one array [n, d_model]"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from gloss.errors import ActivationError, DatasetError
from gloss.store.activations import (
    VECTOR_COLUMN,
    iter_activations,
    raw_vectors,
    read_schema,
    shard_files,
)

if TYPE_CHECKING:
    from torch import Tensor

DIFFERENCE = "difference"
CONTEXT_CHARS = 160
_COLUMNS = ("doc_id", "position", "token", "token_id")
_CONTEXT_COLUMN, _LAYER_COLUMN = "detokenized_text_truncated", "activation_layer"
_SAMPLES, _SAMPLE_BYTES = 64, 4096


@dataclass(frozen=True)
class VectorRows:
    """Rows from number ``first`` on: raw activations [n, d_model], known columns of the result."""

    first: int
    vectors: Tensor
    columns: Mapping[str, Sequence[Any]]


class VectorSource(Protocol):
    """Activations that can be read from any row on."""

    @property
    def num_rows(self) -> int:
        """Number of activations."""
        ...

    @property
    def d_model(self) -> int:
        """Their width."""
        ...

    @property
    def layer(self) -> int | None:
        """Their layer, where the source knows it."""
        ...

    @property
    def identity(self) -> list[str]:
        """Tells this input from another, cheaply: sizes and sampled bytes."""
        ...

    def chunks(self, size: int) -> Iterator[VectorRows]:
        """All rows in order, ``size`` at a time but for the last."""
        ...


@dataclass(frozen=True)
class ArraySource:
    """An array [n, d_model] of which any slice can be read, with known columns of the result."""

    read: Callable[[int, int], Tensor]
    num_rows: int
    d_model: int
    identity: list[str]
    columns: Mapping[str, Sequence[Any]]
    layer: int | None = None

    def chunks(self, size: int) -> Iterator[VectorRows]:
        """See ``VectorSource``."""
        for first in range(0, self.num_rows, size):
            last = min(first + size, self.num_rows)
            columns = {name: values[first:last] for name, values in self.columns.items()}
            yield VectorRows(first, self.read(first, last).float(), columns)


@dataclass(frozen=True)
class ParquetSource:
    """A dataset of activations: one file, or a folder of shards."""

    path: Path
    num_rows: int
    d_model: int
    layer: int | None
    identity: list[str]
    names: tuple[str, ...]

    def chunks(self, size: int) -> Iterator[VectorRows]:
        """See ``VectorSource``."""
        first, pending = 0, None
        for table in iter_activations(self.path, columns=self.names, batch_rows=size):
            pending = table if pending is None else pa.concat_tables([pending, table])
            while len(pending) >= size:
                yield self._rows(first, pending.slice(0, size))
                first, pending = first + size, pending.slice(size)
        if pending is not None and len(pending):
            yield self._rows(first, pending)

    def _rows(self, first: int, table: pa.Table) -> VectorRows:
        import torch

        vectors = torch.from_numpy(raw_vectors(table, where=self.path).copy())
        columns: dict[str, Sequence[Any]] = {
            name: table[name].to_pylist() for name in _COLUMNS if name in table.schema.names
        }
        columns["context"] = [text[-CONTEXT_CHARS:] for text in table[_CONTEXT_COLUMN].to_pylist()]
        if "position" not in columns:
            columns["position"] = [count - 1 for count in table["n_raw_tokens"].to_pylist()]
        layers = set(table[_LAYER_COLUMN].to_pylist())
        if layers != {self.layer}:
            raise DatasetError(
                "activations of several layers",
                where=self.path,
                found=sorted({*layers, self.layer}),
            )
        return VectorRows(first, vectors, columns)


@dataclass(frozen=True)
class DifferenceSource:
    """Row by row the activations of one source minus those of another, or minus its only row."""

    minuend: VectorSource
    subtrahend: VectorSource

    def __post_init__(self) -> None:
        if self.subtrahend.num_rows not in (1, self.minuend.num_rows):
            raise ActivationError(
                "the files of a difference have different numbers of rows",
                expected=f"{self.minuend.num_rows}, or 1",
                found=self.subtrahend.num_rows,
            )
        if self.subtrahend.d_model != self.minuend.d_model:
            raise ActivationError(
                "the vectors of a difference have different widths",
                expected=self.minuend.d_model,
                found=self.subtrahend.d_model,
            )
        if (
            None not in (self.minuend.layer, self.subtrahend.layer)
            and self.minuend.layer != self.subtrahend.layer
        ):
            raise ActivationError(
                "a difference between layers",
                expected=self.minuend.layer,
                found=self.subtrahend.layer,
            )

    @property
    def num_rows(self) -> int:
        """Rows of the first source."""
        return self.minuend.num_rows

    @property
    def d_model(self) -> int:
        """Width of both."""
        return self.minuend.d_model

    @property
    def layer(self) -> int | None:
        """Layer of both, where one knows it."""
        return self.minuend.layer if self.minuend.layer is not None else self.subtrahend.layer

    @property
    def identity(self) -> list[str]:
        """That of both."""
        return [*self.minuend.identity, "minus", *self.subtrahend.identity]

    def chunks(self, size: int) -> Iterator[VectorRows]:
        """See ``VectorSource``."""
        if self.subtrahend.num_rows == 1:
            only = next(self.subtrahend.chunks(1)).vectors
            pairs = ((rows, only) for rows in self.minuend.chunks(size))
        else:
            others = (rows.vectors for rows in self.subtrahend.chunks(size))
            pairs = zip(self.minuend.chunks(size), others, strict=True)  # type: ignore[assignment]
        for rows, other in pairs:
            flags = [
                [*found, DIFFERENCE]
                for found in rows.columns.get("flags", [[]] * len(rows.vectors))
            ]
            yield replace(
                rows, vectors=rows.vectors - other, columns={**rows.columns, "flags": flags}
            )


def open_source(source: VectorSource | Path | str | Tensor | np.ndarray[Any, Any]) -> VectorSource:
    """Opens a file or an array; only what a chunk needs is read, when it is needed.

    Raises: DatasetError for a missing or other file; ActivationError if it is not [n, d_model]."""
    if isinstance(source, str | Path):
        path = Path(source)
        if path.suffix == ".npy":
            return _from_npy(path)
        if path.suffix == ".safetensors":
            return _from_safetensors(path)
        return _from_parquet(path)
    opened: Any = source
    if hasattr(opened, "chunks"):
        return opened  # type: ignore[no-any-return]
    import torch

    return memory_source(torch.as_tensor(opened))


def memory_source(
    vectors: Tensor, columns: Mapping[str, Sequence[Any]] | None = None, *, layer: int | None = None
) -> ArraySource:
    """Activations [n, d_model] or [d_model] in memory. Raises: ActivationError for other arrays."""
    rows = vectors.detach().cpu()
    rows = rows.unsqueeze(0) if rows.ndim == 1 else rows
    _check_array(rows.shape, rows.is_floating_point(), str(rows.dtype), where=None)
    digest = hashlib.blake2b(rows.contiguous().float().numpy().tobytes(), digest_size=8).hexdigest()
    return ArraySource(
        lambda first, last: rows[first:last],
        len(rows),
        rows.shape[1],
        [f"memory {digest}"],
        columns or {},
        layer,
    )


def file_fingerprint(path: Path) -> str:
    """Size of a file, and a digest of its beginning, its end and places between."""
    size = path.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=8)
    with path.open("rb") as stream:
        for i in range(_SAMPLES):
            stream.seek(max(0, size - _SAMPLE_BYTES) * i // (_SAMPLES - 1))
            digest.update(stream.read(_SAMPLE_BYTES))
    return f"{size} bytes {digest.hexdigest()}"


def _from_parquet(path: Path) -> ParquetSource:
    import pyarrow.parquet as pq

    if path.is_file() and path.suffix != ".parquet":
        raise DatasetError(
            "unknown kind of activations",
            where=path,
            expected=".parquet, .npy or .safetensors",
            found=path.suffix,
        )
    schema, files = read_schema(path), shard_files(path)
    names = [VECTOR_COLUMN, "n_raw_tokens", _CONTEXT_COLUMN, _LAYER_COLUMN]
    names += [name for name in _COLUMNS if name in schema.names]
    first = next(iter_activations(path, columns=[_LAYER_COLUMN], batch_rows=1), None)
    return ParquetSource(
        path=path,
        num_rows=sum(pq.read_metadata(file).num_rows for file in files),
        d_model=schema.field(VECTOR_COLUMN).type.list_size,
        layer=None if first is None else first[_LAYER_COLUMN][0].as_py(),
        identity=[file_fingerprint(file) for file in files],
        names=tuple(names),
    )


def _from_npy(path: Path) -> ArraySource:
    try:
        array = np.lib.format.open_memmap(_existing(path), mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(
            f"not a .npy file of numbers ({_first_line(error)})", where=path
        ) from error
    _check_array(array.shape, array.dtype.kind == "f", str(array.dtype), where=path)

    def read(first: int, last: int) -> Tensor:
        import torch

        return torch.from_numpy(np.array(array[first:last], dtype=np.float32))

    return ArraySource(read, array.shape[0], array.shape[1], [file_fingerprint(path)], {})


def _from_safetensors(path: Path) -> ArraySource:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(_existing(path), "np") as tensors:
            names = list(tensors.keys())
            name = (
                names[0]
                if len(names) == 1
                else next((n for n in names if n == "activations"), None)
            )
            shape = None if name is None else tuple(tensors.get_slice(name).get_shape())
            dtype = "" if name is None else str(tensors.get_slice(name).get_dtype())
    except (SafetensorError, OSError) as error:
        raise DatasetError(f"not a safetensors file ({_first_line(error)})", where=path) from error
    if name is None or shape is None:
        raise DatasetError(
            "which tensor holds the activations?",
            where=path,
            expected="one tensor, or 'activations'",
            found=names,
        )
    _check_array(shape, dtype.startswith(("F", "BF")), dtype, where=path)

    def read(first: int, last: int) -> Tensor:
        with safe_open(path, "pt") as tensors:
            rows: Tensor = tensors.get_slice(name)[first:last]
            return rows

    return ArraySource(read, shape[0], shape[1], [file_fingerprint(path)], {})


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DatasetError("no such file of activations", where=path)
    return path


def _check_array(shape: Sequence[int], floating: bool, dtype: str, *, where: object) -> None:
    if len(shape) != 2 or 0 in shape:
        remedy = (
            "Put batch and positions on one axis: array.reshape(-1, d_model)"
            if len(shape) > 2
            else None
        )
        raise ActivationError(
            "wrong shape of activations",
            where=where,
            expected="[n, d_model]",
            found=list(shape),
            remedy=remedy,
        )
    if not floating:
        raise ActivationError(
            "activations that are no floats", where=where, expected="a float type", found=dtype
        )


def _first_line(error: BaseException) -> str:
    with suppress(IndexError):
        return str(error).splitlines()[0][:120]
    return type(error).__name__
