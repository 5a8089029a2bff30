"""Sharded training checkpoints of ``torch.distributed.checkpoint``, read without running any of it:
their index is a pickle, and the unpickler here knows nothing but the classes of an index."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Set
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from gloss.errors import CheckpointError
from gloss.foreign import shown
from gloss.target_model.architectures import unwrapped
from gloss.target_model.folder_files import UNREADABLE, readable

_INDEX = ".metadata"
_BLOCK = re.compile(r"\.\d+\.")
_PATHS = {"PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath", "Path"}
_ALLOWED = {
    "torch.distributed.checkpoint.metadata": {
        *("BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex"),
        *("StorageMeta", "TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING"),
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo", "_StoragePrefix"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size"},
    "pathlib": _PATHS,
    "pathlib._local": _PATHS,
    "collections": {"OrderedDict"},
}


class _IndexUnpickler(pickle.Unpickler):
    """Builds the records of an index; any other global is refused before it is looked up."""

    def find_class(self, module: str, name: str) -> Any:
        """The class, if it is one of an index."""
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if name not in _ALLOWED.get(module, ()):
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        if name in _PATHS:
            return PurePosixPath
        return super().find_class(module, name)


def is_dcp(folder: Path) -> bool:
    """Whether a folder holds a sharded training checkpoint."""
    return (folder / _INDEX).is_file() and any(folder.glob("*.distcp"))


def read_dcp_metadata(folder: Path) -> Any:
    """The index, a ``torch.distributed.checkpoint.metadata.Metadata``, or CheckpointError."""
    file = folder / _INDEX
    remedy = "It is a pickle: load it by other means only if you trust where it comes from"
    with readable("the index cannot be read", file, remedy), file.open("rb") as stream:
        metadata = _IndexUnpickler(stream).load()
        assert isinstance(metadata.state_dict_metadata, dict)
        paths = {info.relative_path for info in metadata.storage_data.values()}
    for path in paths:
        beside = isinstance(path, str) and path == PurePosixPath(path).name
        if not beside or not path.endswith(".distcp"):
            raise CheckpointError("a shard outside the folder", where=file, found=shown(path, 120))
    return metadata


def read_dcp(folder: Path) -> dict[str, Tensor]:
    """Every tensor but the optimizer's, whole, on the CPU, however many ranks wrote them."""
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    metadata = read_dcp_metadata(folder)

    class SafeReader(FileSystemReader):
        """Reads shards with the index that was read safely."""

        def read_metadata(self, *_args: Any, **_kwargs: Any) -> Any:
            return metadata

    tensors = {
        name: torch.empty(tuple(entry.size), dtype=entry.properties.dtype)
        for name, entry in metadata.state_dict_metadata.items()
        if isinstance(entry, TensorStorageMetadata) and not _is_optimizer(name)
    }
    if not tensors:
        raise CheckpointError("no weights in this checkpoint", where=folder)
    try:
        load(tensors, storage_reader=SafeReader(folder), no_dist=True)
    except (*UNREADABLE, CheckpointException) as error:  # the latter is no Exception
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:160]
        raise CheckpointError(f"a shard cannot be read ({reason})", where=folder) from error
    return tensors


def _is_optimizer(name: str) -> bool:
    names = {"optim", "optimizer", "optimizers", "optimizer_state_dict"}
    return not names.isdisjoint(name.split(".")[:2])


def model_names(
    tensors: Mapping[str, Tensor], wanted: set[str], *, where: Path
) -> dict[str, Tensor]:
    """The tensors under the names ``wanted`` of a model's files, without what wrappers prepend."""
    plain = {unwrapped(name): tensor for name, tensor in tensors.items()}
    sample = min(wanted)
    places = [name for name in plain if name == sample or name.endswith(f".{sample}")]
    for prefix in sorted((name[: -len(sample)] for name in places), key=len) or [""]:
        found = {name: plain[prefix + name] for name in wanted if prefix + name in plain}
        if len(found) == len(wanted):
            _refuse_further_blocks(plain.keys() - {prefix + name for name in wanted}, prefix, where)
            return found
    lacking = sorted(name for name in wanted if not any(key.endswith(name) for key in plain))
    raise CheckpointError(
        "a weight of the model is not in this checkpoint",
        where=where,
        expected=lacking[0] if lacking else sample,
        found=f"{len(plain)} tensors such as {min(plain)}",
        remedy="Name the folder with the config.json of the model that was trained: --like FOLDER",
    )


def _refuse_further_blocks(unused: Set[str], prefix: str, where: Path) -> None:
    """Blocks that the config does not know would be left out without a word."""
    lost = [name for name in sorted(unused) if name.startswith(prefix) and _BLOCK.search(name)]
    if lost:
        what, found = "weights without a place in the model", f"{lost[0]} ({len(lost)} in all)"
        remedy = "Name the folder with the config.json of the model that was trained: --like FOLDER"
        raise CheckpointError(what, where=where, found=found, remedy=remedy)
