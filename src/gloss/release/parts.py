"""The halves that a place holds, broken ones too, by their files; no weight is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gloss.contract import SIDECAR_NAME, VALUE_HEAD_NAME, ModelSidecar, read_model_sidecar
from gloss.errors import CheckpointError, GlossError
from gloss.nla.place import find_nla
from gloss.target_model.folder_files import json_object, readable
from gloss.target_model.hub import ModelPlace

if TYPE_CHECKING:
    from torch import Tensor


class Half:
    """One half under examination; each part is read, or raises, when it is first asked for."""

    def __init__(self, role: str, place: ModelPlace) -> None:
        self.role, self.place, self._read_from = role, place, place

    def fetch(self) -> Half:
        """Fetches it, where it is not on this machine, to be read from its folder."""
        self._read_from = ModelPlace.of_path(self.place.folder_unchecked())
        return self

    @property
    def folder(self) -> Path:
        """Its folder on this machine, once it was fetched."""
        return Path(self._read_from.name)

    @cached_property
    def files(self) -> dict[str, int]:
        """Names and sizes of its files, those included that nothing here fetches."""
        return self.place.files()

    def file(self, name: str) -> Path:
        """A small file, fetched alone where need be; it may not be there."""
        return self._read_from.file(name) or self.folder / name

    @cached_property
    def sidecar(self) -> ModelSidecar:
        """Its sidecar."""
        return read_model_sidecar(self.file(SIDECAR_NAME))

    @cached_property
    def config(self) -> dict[str, Any]:
        """Its text model's config: a multimodal wrapper keeps it one level down."""
        config = json_object(self.file("config.json"))
        inner = config.get("text_config")
        return inner if isinstance(inner, dict) else config

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer, loaded as Gloss loads it: files only, no code."""
        from gloss.target_model import load_tokenizer

        return load_tokenizer(self.folder)

    @cached_property
    def weight_files(self) -> list[str]:
        """Names of the model's safetensors files, without the head's."""
        names = [name for name in self.files if name.endswith(".safetensors")]
        return [name for name in names if "/" not in name and name != VALUE_HEAD_NAME]

    @cached_property
    def headers(self) -> dict[str, Any]:
        """huggingface_hub's TensorInfo of each of the model's tensors, from the files' headers."""
        files = [self.file_headers(name) for name in self.weight_files]
        return {name: header for headers in files for name, header in headers.items()}

    def file_headers(self, name: str) -> dict[str, Any]:
        """What the header of one safetensors file says of its tensors."""
        from huggingface_hub import HfApi, parse_local_safetensors_file_metadata
        from huggingface_hub.constants import is_offline_mode

        place = self._read_from
        with _readable(place, name):
            if place.is_local or is_offline_mode():
                file = place.folder_unchecked() / name
                return parse_local_safetensors_file_metadata(file).tensors
            inside = f"{place.subfolder}/{name}" if place.subfolder else name
            read = HfApi().parse_safetensors_file_metadata
            return read(place.name, inside, revision=place.revision).tensors


def stream_tensors(folder: Path, file: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors of one safetensors file, one in memory at a time."""
    from safetensors import safe_open

    with _readable(folder, file), safe_open(folder / file, "pt") as opened:
        for name in opened.keys():  # noqa: SIM118
            yield name, opened.get_tensor(name)


def _readable(place: object, file: str) -> AbstractContextManager[None]:
    remedy = "Fetch or write the file again: its header is damaged"
    return readable(f"{file} cannot be read", place, remedy)


def parts_of(name: str | Path, *, revision: str | None = None) -> dict[str, Half]:
    """The halves at ``name``, by role: the place itself if it is one, else as ``gloss.load``."""
    if (one := _half_itself(name, revision)) is not None:
        return {(role := _role_of(one)): Half(role, one)}
    found = find_nla(name, revision=revision)
    if found.unreachable:
        raise next(iter(found.unreachable.values()))
    places = {"av": found.av, "ar": found.ar}
    return {role: Half(role, place) for role, place in places.items() if place is not None}


def _half_itself(name: str | Path, revision: str | None) -> ModelPlace | None:
    """The place, where it is a model and not the name of a pair."""
    path = Path(name).expanduser()
    beside = any(Path(f"{path}-{half}").is_dir() for half in ("av", "ar"))
    if not path.is_dir() and (beside or "/" not in str(name)):
        return None
    place = ModelPlace.of(name, revision=revision)
    try:
        held = place.file(SIDECAR_NAME) or (place.is_local and any(path.glob("*.safetensors")))
    except CheckpointError:
        return None
    return place if held else None


def _role_of(place: ModelPlace) -> str:
    """What a half is by its sidecar, or where that cannot be read by its files and its name."""
    sidecar = place.file(SIDECAR_NAME)
    if sidecar is not None:
        with suppress(GlossError):
            return read_model_sidecar(sidecar).role
    stem = Path(place.subfolder or place.name).name
    return "ar" if stem.endswith("ar") or place.file(VALUE_HEAD_NAME) is not None else "av"
