"""Where a model is: a folder here, or a repository on the hub whose files are fetched once and then
read from the cache.

ModelPlace("owner/name@revision")  →  file("nla_meta.yaml")  one small file, to know what it is
                                   →  folder()               config, tokenizer, weights when needed
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gloss.errors import CheckpointError
from gloss.target_model.folder_files import first_line, refuse_unsafe_files

MODEL_FILES = (
    "*.json",
    "*.safetensors",
    "*.yaml",
    "*.jinja",
    "*.txt",
    "*.model",
    "README.md",
    "LICENSE*",
)
"""What is fetched of a repository: no pickled weights, and code only where it is asked for."""
_REPO = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?")
_SNAPSHOT = re.compile(r"models--[^/]+/snapshots/([0-9a-f]{7,64})(/|$)")


@dataclass(frozen=True)
class ModelPlace:
    """A model's folder, or a hub repository; ``subfolder`` is where in the repository the model
    stands.
    """

    name: str
    revision: str | None = None
    subfolder: str | None = None

    @classmethod
    def of(cls, name: str | Path | ModelPlace, *, revision: str | None = None) -> ModelPlace:
        """Reads a folder or ``owner/name``, which may carry its revision: ``owner/name@revision``.

        Raises: CheckpointError for a path that is no folder, or a name that cannot be one on the
        hub."""
        if isinstance(name, ModelPlace):
            return name
        path = Path(name).expanduser()
        if path.is_dir():
            return cls.of_path(path)
        repo, at, own_revision = str(name).partition("@")
        if not _REPO.fullmatch(repo) or ".." in repo:
            raise CheckpointError(
                "no such model folder",
                where=name,
                remedy="Name a Hugging Face folder or hub id (owner/name)",
            )
        return cls(repo, own_revision if at else revision)

    @classmethod
    def of_path(cls, path: Path) -> ModelPlace:
        """A folder of this machine, there or not; its name is absolute, so that no ``owner/name``
        is read into it.
        """
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
        return (
            self.of_path(Path(self.name) / subfolder)
            if self.is_local
            else replace(self, subfolder=subfolder)
        )

    def file(self, name: str, *, cached_only: bool = False) -> Path | None:
        """One file of the model, fetched where it is not in the cache; None where there is no such
        file or repository.

        ``cached_only`` does not ask the hub, for who has just found that it does not answer.
        Raises: CheckpointError if the hub cannot be reached and the file is not in the cache.
        """
        if self.is_local or not _REPO.fullmatch(self.name):
            path = Path(self.name) / name
            return path if path.is_file() else None
        from huggingface_hub import errors, hf_hub_download

        with _fetching(self):
            try:
                found = hf_hub_download(
                    self.name,
                    name,
                    subfolder=self.subfolder,
                    revision=self.revision,
                    local_files_only=cached_only,
                )
            except (errors.GatedRepoError, errors.LocalEntryNotFoundError):
                raise
            except (errors.RepositoryNotFoundError, errors.EntryNotFoundError):
                return None
        return Path(found)

    def folder(self, *, with_code: bool = False, with_weights: bool = True) -> Path:
        """The model's folder on this machine, with all files that loading needs, fetched where they
        are not in the cache.

        ``with_code`` fetches the model's own Python code too, which nothing here runs; without
        ``with_weights`` the weights stay on the hub.
        Raises: CheckpointError if it is not on the hub, or not in the cache and the hub cannot be
        reached; as
        ``refuse_unsafe_files``.
        """
        found = self.folder_unchecked(with_code=with_code, with_weights=with_weights)
        refuse_unsafe_files(found)
        return found

    def folder_unchecked(self, *, with_code: bool = False, with_weights: bool = True) -> Path:
        """As ``folder``, for who only looks at the files: what names files elsewhere is not
        refused.
        """
        if self.is_local:
            return Path(self.name)
        from huggingface_hub import snapshot_download

        inside = f"{self.subfolder}/" if self.subfolder else ""
        wanted = [inside + pattern for pattern in (*MODEL_FILES, *(["*.py"] if with_code else []))]
        ignored = [f"{inside}consolidated*", f"{inside}*/*"]
        ignored += [] if with_weights else ["*.safetensors"]
        with _fetching(self):
            root = snapshot_download(
                self.name,
                revision=self.revision,
                allow_patterns=wanted,
                ignore_patterns=ignored,
            )
        return Path(root) / inside

    def files(self) -> dict[str, int]:
        """Every file of the model with its size in bytes, those included that nothing here would
        fetch or load.

        Raises: CheckpointError if the hub cannot be reached; offline, the files of the cache are
        listed."""
        from huggingface_hub import HfApi
        from huggingface_hub.constants import is_offline_mode
        from huggingface_hub.hf_api import RepoFile

        if self.is_local or is_offline_mode():
            folder = self.folder_unchecked()
            found = (path for path in folder.rglob("*") if path.is_file())
            return {
                path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(found)
            }
        with _fetching(self):
            tree = HfApi().list_repo_tree(
                self.name, self.subfolder, revision=self.revision, recursive=True
            )
            files = {entry.path: entry.size for entry in tree if isinstance(entry, RepoFile)}
        inside = len(self.subfolder) + 1 if self.subfolder else 0
        return {name[inside:]: size for name, size in sorted(files.items())}


@contextmanager
def _fetching(place: ModelPlace) -> Iterator[None]:
    """Turns what huggingface_hub raises into a CheckpointError that names the place and the
    remedy.
    """
    from huggingface_hub import errors

    offline = (
        "not in the cache, and the hub cannot be reached",
        f"Fetch it where there is a network: gloss nla pull {place}. A folder's path must exist",
    )
    lines: dict[type[Exception], tuple[str, str]] = {
        errors.LocalEntryNotFoundError: offline,
        errors.OfflineModeIsEnabled: offline,
        errors.GatedRepoError: (
            "this repository asks for your consent",
            "Accept its terms on the hub's page and set HF_TOKEN, or run: hf auth login",
        ),
        errors.RevisionNotFoundError: ("no such revision", "Name a branch, a tag or a commit"),
        errors.RepositoryNotFoundError: (
            "no such repository on the hub, or none that you may read",
            "Check the name; for a private one set HF_TOKEN. A folder's path must exist",
        ),
    }
    try:
        yield
    except (errors.HfHubHTTPError, OSError, ValueError) as error:
        what, remedy = next(
            (line for kind, line in lines.items() if isinstance(error, kind)),
            (f"could not be fetched from the hub ({first_line(error)})", None),
        )
        raise CheckpointError(what, where=place, remedy=remedy) from error


def hub_is_silent(error: CheckpointError) -> bool:
    """Whether an error of ``ModelPlace`` means that the hub does not answer, and not that it
    refuses.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    return isinstance(error.__cause__, LocalEntryNotFoundError)


def commit_of(folder: Path) -> str | None:
    """The commit that a folder of the hub's cache holds; None for any other folder."""
    match = _SNAPSHOT.search(folder.resolve().as_posix() if folder.exists() else folder.as_posix())
    return match[1] if match else None
