"""``push`` and ``pull``: an NLA to the hub and from it. The token is never seen here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gloss.errors import CheckpointError, ConfigError
from gloss.release.card import licence_of
from gloss.release.parts import parts_of
from gloss.release.validate import validate
from gloss.target_model.folder_files import UNREADABLE
from gloss.target_model.hub import MODEL_FILES, ModelPlace

_REFUSALS = {
    401: "who you are is not known",
    403: "you may not write there",
    404: "there is no such place",
}


def pull(name: str, *, revision: str | None = None) -> dict[str, Path]:
    """Fetches all parts of an NLA into the hub's cache and returns their folders, by role."""
    parts = parts_of(name, revision=revision)
    return {role: half.place.folder() for role, half in parts.items()}


def push(folder: Path, repo: str, *, private: bool = False) -> dict[str, str]:
    """Publishes one half as ``repo``, or both as ``repo-av`` and ``repo-ar``; commits' addresses.

    Raises: ConfigError for a name that is none; CheckpointError if a licence is missing, a check
    fails, or the hub refuses."""
    if not folder.is_dir():
        raise CheckpointError("no such folder", where=folder)
    parts = {role: half.folder for role, half in parts_of(folder).items()}
    repos = {role: repo if len(parts) == 1 else f"{repo}-{role}" for role in parts}
    for role, half in parts.items():
        place = None if Path(repos[role]).is_dir() else ModelPlace.of(repos[role])
        if place is None or "/" not in place.name or place.revision is not None:
            found = repr(repos[role])
            raise ConfigError("no name of a repository", expected="owner/name", found=found)
        if licence_of(half) is None:
            raise CheckpointError(
                "no licence, so it is not published",
                where=half,
                expected="license in README.md, or a LICENSE file",
                remedy=f"gloss nla card {half} --license ID, with the licence of the base model",
            )
    if failed := validate(folder).failed:
        first = failed[0]
        raise CheckpointError(
            f"{len(failed)} checks fail, so it is not published; the first is {first.half}"
            f" {first.check}: {first.says}",
            where=folder,
            remedy=f"See them all: gloss nla validate {folder}",
        )
    return {role: _upload(half, repos[role], private=private) for role, half in parts.items()}


def _upload(folder: Path, repo: str, *, private: bool) -> str:
    from huggingface_hub import HfApi

    with _answering(repo):
        api = HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        only: Any = {"allow_patterns": list(MODEL_FILES), "ignore_patterns": ["*/*", ".*"]}
        message = "Upload with gloss"
        commit = api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message, **only)
    return str(commit.commit_url)


@contextmanager
def _answering(repo: str) -> Iterator[None]:
    """One line for what the hub answers, without its own words, which could hold a token."""
    from huggingface_hub import errors

    remedy: str | None = None
    try:
        yield
    except UNREADABLE as error:
        match error:
            case errors.OfflineModeIsEnabled():
                what = "the hub cannot be used: HF_HUB_OFFLINE is set"
            case errors.HfHubHTTPError():
                status = error.response.status_code
                what = f"the hub refuses ({_REFUSALS.get(status, f'status {status}')})"
                remedy = "Set HF_TOKEN to a token that may write, or run: hf auth login"
            case _:
                what = f"the hub cannot be reached ({type(error).__name__})"
                remedy = "Check the network, then push again"
        raise CheckpointError(what, where=repo, remedy=remedy) from error
