"""Where a model is: a folder here, or a repository on the hub, fetched once into the cache.

ModelPlace("owner/name@revision")  →  file("nla_meta.yaml")  one small file, to know what it is
                                   →  folder()               config, tokenizer, weights when needed
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from gloss.errors import CheckpointError, first_line
from gloss.target_model.folder_files import refuse_unsafe_files

TEXT_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "README.md", "LICENSE*")
MODEL_FILES = (*TEXT_FILES, "*.safetensors", "*.yaml")
"""What is fetched of a repository: no pickled weights, and code only where it is asked for."""
_REPO = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?")
_SNAPSHOT = re.compile(r"models--[^/]+/snapshots/([0-9a-f]{7,64})(/|$)")


@dataclass(frozen=True)
class ModelPlace:
    """A model's folder, or a hub repository and the ``subfolder`` where the model stands."""

    name: str
    revision: str | None = None
    subfolder: str | None = None

    @classmethod
    def of(cls, name: str | Path | ModelPlace, *, revision: str | None = None) -> ModelPlace:
        """A folder, ``owner/name`` or ``owner/name@revision``, or else CheckpointError."""
        if isinstance(name, ModelPlace):
            return name
        path = Path(name).expanduser()
        if path.is_dir():
            return cls.of_path(path)
        repo, at, own_revision = str(name).partition("@")
        if not _REPO.fullmatch(repo) or ".." in repo:
            remedy = "Name a Hugging Face folder or hub id (owner/name)"
            raise CheckpointError("no such model folder", where=name, remedy=remedy)
        return cls(repo, own_revision if at else revision)

    @classmethod
    def of_path(cls, path: Path) -> ModelPlace:
        """A folder of this machine, there or not; as an absolute path it is no ``owner/name``."""
        return cls(str(path.absolute()))

    def __str__(self) -> str:
        inside = f"/{self.subfolder}" if self.subfolder else ""
        return f"{self.name}{inside}" + (f"@{self.revision}" if self.revision else "")

    @property
    def is_local(self) -> bool:
        """Whether this is a folder on this machine."""
        return Path(self.name).is_dir()

    def beside(self, suffix: str) -> ModelPlace:
        """The place whose name has ``suffix`` behind it."""
        return replace(self, name=self.name.rstrip("/") + suffix)

    def inside(self, subfolder: str) -> ModelPlace:
        """The model in a subfolder of this place."""
        if self.is_local:
            return self.of_path(Path(self.name) / subfolder)
        return replace(self, subfolder=subfolder)

    def file(self, name: str, *, cached_only: bool = False) -> Path | None:
        """One file of the model, from the cache or fetched; None if there is no such file or
        repository. ``cached_only`` does not ask the hub.

        Raises: CheckpointError if the hub cannot be reached and the file is not in the cache."""
        if self.is_local or not _REPO.fullmatch(self.name):
            path = Path(self.name) / name
            return path if path.is_file() else None
        from huggingface_hub import errors, hf_hub_download

        with _fetching(self):
            at: Any = {"subfolder": self.subfolder, "revision": self.revision}
            try:
                return Path(hf_hub_download(self.name, name, **at, local_files_only=cached_only))
            except (errors.GatedRepoError, errors.LocalEntryNotFoundError):
                raise
            except (errors.RepositoryNotFoundError, errors.EntryNotFoundError):
                return None

    def folder(self, *, with_code: bool = False, with_weights: bool = True) -> Path:
        """The model's folder on this machine with all files that loading needs, fetched if need be.

        ``with_code`` fetches the model's own Python code too, which nothing here runs; without
        ``with_weights`` the weights stay on the hub.
        Raises: CheckpointError if it is not on the hub, or not in the cache and the hub cannot be
        reached; as ``refuse_unsafe_files``."""
        found = self.folder_unchecked(with_code=with_code, with_weights=with_weights)
        refuse_unsafe_files(found)
        return found

    def folder_unchecked(self, *, with_code: bool = False, with_weights: bool = True) -> Path:
        """As ``folder``, for who only looks at the files: unsafe ones are not refused."""
        if self.is_local:
            return Path(self.name)
        from huggingface_hub import snapshot_download

        inside = f"{self.subfolder}/" if self.subfolder else ""
        wanted = [inside + pattern for pattern in (*MODEL_FILES, *(["*.py"] if with_code else []))]
        ignored = [f"{inside}consolidated*", f"{inside}*/*"]
        ignored += [] if with_weights else ["*.safetensors"]
        only: Any = {"allow_patterns": wanted, "ignore_patterns": ignored}
        with _fetching(self):
            return Path(snapshot_download(self.name, revision=self.revision, **only)) / inside

    def files(self) -> dict[str, int]:
        """Every file with its size in bytes, also what is never fetched; offline the cache's."""
        from huggingface_hub import HfApi
        from huggingface_hub.constants import is_offline_mode
        from huggingface_hub.hf_api import RepoFile

        if self.is_local or is_offline_mode():
            folder = self.folder_unchecked()
            found = sorted(path for path in folder.rglob("*") if path.is_file())
            return {path.relative_to(folder).as_posix(): path.stat().st_size for path in found}
        list_files = partial(HfApi().list_repo_tree, revision=self.revision, recursive=True)
        with _fetching(self):
            tree = list_files(self.name, self.subfolder)
            files = {entry.path: entry.size for entry in tree if isinstance(entry, RepoFile)}
        inside = len(self.subfolder) + 1 if self.subfolder else 0
        return {name[inside:]: size for name, size in sorted(files.items())}


@contextmanager
def _fetching(place: ModelPlace) -> Iterator[None]:
    """Turns what huggingface_hub raises into CheckpointError."""
    from huggingface_hub import errors

    remedy: str | None = None
    try:
        yield
    except (errors.HfHubHTTPError, OSError, ValueError) as error:
        match error:
            case errors.LocalEntryNotFoundError() | errors.OfflineModeIsEnabled():
                what = "not in the cache, and the hub cannot be reached"
                remedy = f"Fetch it where there is a network: gloss nla pull {place}."
                remedy += " A folder's path must exist"
            case errors.GatedRepoError():
                what = "this repository asks for your consent"
                remedy = (
                    "Accept its terms on the hub's page and set HF_TOKEN, or run: hf auth login"
                )
            case errors.RevisionNotFoundError():
                what, remedy = "no such revision", "Name a branch, a tag or a commit"
            case errors.RepositoryNotFoundError():
                what = "no such repository on the hub, or none that you may read"
                remedy = (
                    "Check the name; for a private one set HF_TOKEN. A folder's path must exist"
                )
            case _:
                what = f"could not be fetched from the hub ({first_line(error)})"
        raise CheckpointError(what, where=place, remedy=remedy) from error


def hub_is_silent(error: CheckpointError) -> bool:
    """Whether an error of ``ModelPlace`` means that the hub does not answer at all."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    return isinstance(error.__cause__, LocalEntryNotFoundError)


def commit_of(folder: Path) -> str | None:
    """The commit that a folder of the hub's cache holds; None for any other folder."""
    match = _SNAPSHOT.search(folder.resolve().as_posix() if folder.exists() else folder.as_posix())
    return match[1] if match else None
