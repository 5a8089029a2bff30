"""What is refused before anything is loaded: places that are not there, in the words of the code
that would read them. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gloss.durable import output_folder
from gloss.errors import CheckpointError, ConfigError
from gloss.plugins import installed
from gloss.target_model.hub import ModelPlace

if TYPE_CHECKING:
    from gloss.pipeline.run_config import RunConfig

_DTYPES = ("bfloat16", "float16", "float32")


def check_sources(settings: RunConfig, *, corpus: bool = True) -> None:
    """The target, and the corpus, of a run: a folder or a file that is none is refused; what a
    plug-in or the hub provides is found out later.

    Raises: CheckpointError, CorpusError.
    """
    if settings.target not in installed("gloss.targets"):
        check_model(settings.target)
    source = settings.corpus.source
    if corpus and source not in installed("gloss.corpora") and not source.startswith("hf:"):
        from gloss.data.corpus import read_corpus

        read_corpus(source, text_field=settings.corpus.text_field)


def check_dtype(name: str | None) -> None:
    """A number format that a part can have. Raises: ConfigError."""
    if name not in (None, *_DTYPES):
        raise ConfigError("unknown dtype", expected=f"one of {[*_DTYPES]}", found=repr(name))


def check_model(name: str) -> None:
    """A model's folder, or a hub id that the hub or its cache knows. Raises: CheckpointError."""
    ModelPlace.of(name).file("config.json")


def check_new_folder(out: Path) -> None:
    """A folder to be made, or an empty one. Raises: ConfigError, StorageError."""
    folder = output_folder(out)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError("the output folder is not empty", where=out, remedy="Name a new folder")


def check_half(folder: Path, role: Literal["av", "ar"]) -> None:
    """The checkpoint of one half. Raises: CheckpointError, SidecarError."""
    from gloss.contract import SIDECAR_NAME, read_model_sidecar

    file = ModelPlace.of(folder).file(SIDECAR_NAME)
    if file is None:
        raise CheckpointError("no checkpoint here", where=folder, expected=SIDECAR_NAME)
    found = read_model_sidecar(file).role
    if found != role:
        what = "checkpoint of the other half"
        raise CheckpointError(what, where=folder, expected=f"role {role}", found=found)
