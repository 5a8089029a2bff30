"""Activations to be explained, a chunk at a time, each with what is known of its rows.

.parquet (a file or a folder of shards)   datasets of Gloss and the reference
.npy, .safetensors, memory                one array [n, d_model]"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gloss.errors import ActivationError, DatasetError, first_line
from gloss.store.activations import (
    VECTOR_COLUMN,
    iter_activations,
    open_parquet,
    raw_vectors,
    read_schema,
    row_positions,
    schema_of,
    shard_files,
)

if TYPE_CHECKING:
    from torch import Tensor

DIFFERENCE = "difference"
CONTEXT_CHARS = 160
_COLUMNS = ("doc_id", "position", "token", "token_id")
_CONTEXT_COLUMN, _LAYER_COLUMN = "detokenized_text_truncated", "activation_layer"
_COUNT_COLUMN = "n_raw_tokens"
_SAMPLES, _SAMPLE_BYTES = 64, 4096


@dataclass(frozen=True)
class VectorRows:
    """Rows from number ``first`` on: raw activations [n, d_model], known columns of the result."""

    first: int
    vectors: Tensor
    columns: Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class VectorSource:
    """Activations that are read in order, ``size`` rows at a time but for the last.

    ``identity`` tells this input from another, cheaply, by sizes and sampled bytes; ``layer`` is
    None where the source does not know it."""

    num_rows: int
    d_model: int
    layer: int | None
    identity: list[str]
    chunks: Callable[[int], Iterator[VectorRows]]


def array_source(
    read: Callable[[int, int], Tensor],
    shape: Sequence[int],
    identity: list[str],
    columns: Mapping[str, Sequence[Any]] | None = None,
    layer: int | None = None,
) -> VectorSource:
    """An array [n, d_model] of which any slice can be read, with known columns of the result."""
    num_rows, d_model = shape

    def chunks(size: int) -> Iterator[VectorRows]:
        for first in range(0, num_rows, size):
            last = min(first + size, num_rows)
            known = {name: values[first:last] for name, values in (columns or {}).items()}
            yield VectorRows(first, read(first, last).float(), known)

    return VectorSource(num_rows, d_model, layer, identity, chunks)


def difference(minuend: VectorSource, subtrahend: VectorSource) -> VectorSource:
    """Row by row the activations of one source minus those of another, or minus its only row.

    Raises: ActivationError for other numbers of rows, widths or layers."""
    if subtrahend.num_rows not in (1, minuend.num_rows):
        raise ActivationError(
            "the files of a difference have different numbers of rows",
            expected=f"{minuend.num_rows}, or 1",
            found=subtrahend.num_rows,
        )
    if subtrahend.d_model != minuend.d_model:
        raise ActivationError(
            "the vectors of a difference have different widths",
            expected=minuend.d_model,
            found=subtrahend.d_model,
        )
    layers = [source.layer for source in (minuend, subtrahend) if source.layer is not None]
    if len(set(layers)) > 1:
        raise ActivationError("a difference between layers", expected=layers[0], found=layers[1])

    def chunks(size: int) -> Iterator[VectorRows]:
        single = subtrahend.num_rows == 1
        others = repeat(next(subtrahend.chunks(1))) if single else subtrahend.chunks(size)
        for rows, other in zip(minuend.chunks(size), others, strict=not single):
            before = rows.columns.get("flags", [[]] * len(rows.vectors))
            columns = {**rows.columns, "flags": [[*flags, DIFFERENCE] for flags in before]}
            yield VectorRows(rows.first, rows.vectors - other.vectors, columns)

    layer = layers[0] if layers else None
    identity = [*minuend.identity, "minus", *subtrahend.identity]
    return VectorSource(minuend.num_rows, minuend.d_model, layer, identity, chunks)


def open_source(source: VectorSource | Path | str | Tensor | np.ndarray[Any, Any]) -> VectorSource:
    """Opens a file or an array; only what a chunk needs is read, when it is needed.

    Raises: DatasetError for a missing or other file; ActivationError if it is not [n, d_model]."""
    if isinstance(source, str | Path):
        path = Path(source)
        readers = {".npy": _from_npy, ".safetensors": _from_safetensors}
        if path.suffix in readers and not path.is_file():
            raise DatasetError("no such file of activations", where=path)
        return readers.get(path.suffix, _from_parquet)(path)
    if isinstance(source, VectorSource):
        return source
    import torch

    return memory_source(torch.as_tensor(source))


def memory_source(
    vectors: Tensor, columns: Mapping[str, Sequence[Any]] | None = None, *, layer: int | None = None
) -> VectorSource:
    """Activations [n, d_model] or [d_model] in memory. Raises: ActivationError for other arrays."""
    rows = vectors.detach().cpu()
    rows = rows.unsqueeze(0) if rows.ndim == 1 else rows
    _check_array(rows.shape, rows.is_floating_point(), str(rows.dtype), where=None)
    digest = hashlib.blake2b(rows.contiguous().float().numpy().tobytes(), digest_size=8).hexdigest()
    identity = [f"memory {digest}"]
    return array_source(lambda a, b: rows[a:b], rows.shape, identity, columns, layer)


def file_fingerprint(path: Path) -> str:
    """Size of a file, and a digest of its beginning, its end and places between."""
    size = path.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=8)
    with path.open("rb") as stream:
        for i in range(_SAMPLES):
            stream.seek(max(0, size - _SAMPLE_BYTES) * i // (_SAMPLES - 1))
            digest.update(stream.read(_SAMPLE_BYTES))
    return f"{size} bytes {digest.hexdigest()}"


def _from_parquet(path: Path) -> VectorSource:
    if path.is_file() and path.suffix != ".parquet":
        what, expected = "unknown kind of activations", ".parquet, .npy or .safetensors"
        raise DatasetError(what, where=path, expected=expected, found=path.suffix)
    names = (VECTOR_COLUMN, _COUNT_COLUMN, _CONTEXT_COLUMN, _LAYER_COLUMN, *_COLUMNS)
    files, schema = shard_files(path), read_schema(path, names)
    num_rows = 0
    for file in files:
        with open_parquet(file, names) as parquet:
            if parquet.metadata.num_rows and (found := schema_of(parquet, file, names)) != schema:
                raise _other_columns(file, schema, found)
            num_rows += parquet.metadata.num_rows
    width = schema.field(VECTOR_COLUMN).type.list_size
    if not width:
        raise DatasetError("no activations", where=path, expected="a row at least", found="none")
    layer = _layer_of(path) if _LAYER_COLUMN in schema.names else None

    def chunks(size: int) -> Iterator[VectorRows]:
        start, pending = 0, None
        for table in iter_activations(path, columns=schema.names, batch_rows=size):
            pending = table if pending is None else pa.concat_tables([pending, table])
            while len(pending) >= size:
                yield _table_rows(path, layer, start, pending.slice(0, size))
                start, pending = start + size, pending.slice(size)
        if pending is not None and len(pending):
            yield _table_rows(path, layer, start, pending)

    identity = list(map(file_fingerprint, files))
    return VectorSource(num_rows, width, layer, identity, chunks)


def _other_columns(file: Path, expected: pa.Schema, found: pa.Schema) -> DatasetError:
    here = {field.name: field.type for field in found}
    there = {field.name: field.type for field in expected}
    name = next(name for name in {**there, **here} if there.get(name) != here.get(name))
    return DatasetError(
        f"shards with different columns: {name}",
        where=file,
        expected=there.get(name, "none, as in the first shard"),
        found=here.get(name, "none"),
        remedy="Give shards of one dataset",
    )


def _layer_of(path: Path) -> int | None:
    """The layer of the first row that names one."""
    for table in iter_activations(path, columns=[_LAYER_COLUMN]):
        for layer in pc.unique(table[_LAYER_COLUMN]).to_pylist():
            if layer is not None:
                return int(layer)
    return None


def _table_rows(path: Path, layer: int | None, first: int, table: pa.Table) -> VectorRows:
    import torch

    vectors = torch.from_numpy(raw_vectors(table, where=path).copy())
    names = table.schema.names
    columns: dict[str, Sequence[Any]] = {n: table[n].to_pylist() for n in _COLUMNS if n in names}
    if _CONTEXT_COLUMN in names:
        texts = table[_CONTEXT_COLUMN].to_pylist()
        columns["context"] = [(text or "")[-CONTEXT_CHARS:] for text in texts]
    if {"position", _COUNT_COLUMN} & set(names):
        columns["position"] = row_positions(table)
    layers = set(table[_LAYER_COLUMN].to_pylist()) - {None} if _LAYER_COLUMN in names else set()
    if layers - {layer}:
        found = sorted({*layers, layer} - {None})
        raise DatasetError("activations of several layers", where=path, found=found)
    return VectorRows(first, vectors, columns)


def _from_npy(path: Path) -> VectorSource:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        what = f"not a .npy file of numbers ({first_line(error)})"
        raise DatasetError(what, where=path) from error
    _check_array(array.shape, array.dtype.kind == "f", str(array.dtype), where=path)

    def read(first: int, last: int) -> Tensor:
        import torch

        return torch.from_numpy(np.array(array[first:last], dtype=np.float32))

    return array_source(read, array.shape, [file_fingerprint(path)])


def _from_safetensors(path: Path) -> VectorSource:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as tensors:
            names = list(tensors.keys())
            name = names[0] if len(names) == 1 else "activations"
            if name not in names:
                what = "which tensor holds the activations?"
                expected = "one tensor, or 'activations'"
                raise DatasetError(what, where=path, expected=expected, found=names)
            stored = tensors.get_slice(name)
            shape, dtype = tuple(stored.get_shape()), str(stored.get_dtype())
    except (SafetensorError, OSError) as error:
        raise DatasetError(f"not a safetensors file ({first_line(error)})", where=path) from error
    _check_array(shape, dtype.startswith(("F", "BF")), dtype, where=path)

    def read(first: int, last: int) -> Tensor:
        with safe_open(path, "pt") as tensors:
            rows: Tensor = tensors.get_slice(name)[first:last]
            return rows

    return array_source(read, shape, [file_fingerprint(path)])


def _check_array(shape: Sequence[int], floating: bool, dtype: str, *, where: object) -> None:
    if len(shape) != 2 or 0 in shape:
        remedy = "Put batch and positions on one axis: array.reshape(-1, d_model)"
        raise ActivationError(
            "wrong shape of activations",
            where=where,
            expected="[n, d_model]",
            found=list(shape),
            remedy=remedy if len(shape) > 2 else None,
        )
    if not floating:
        raise ActivationError(
            "activations that are no floats", where=where, expected="a float type", found=dtype
        )
