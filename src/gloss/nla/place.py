"""Which folders or hub repositories a name of an NLA means.

    folder with av/ and ar/ (or nla/av, nla/ar)     a run, or what was packed together
    folder that is one half, its name ending in av  that half, and the other beside it
    owner/name                                      owner/name-av and -ar, or both in one repository
Nothing but sidecars is fetched here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gloss.contract import SIDECAR_NAME, read_model_sidecar
from gloss.errors import CheckpointError, ConfigError
from gloss.target_model import ModelPlace
from gloss.target_model.hub import hub_is_silent

_HALVES = ("av", "ar")
_SHOWN_FOLDERS = 8


@dataclass(frozen=True)
class NLAPlaces:
    """Where each part of an NLA is; None for a part that is not known. ``name`` is what the user
    called it.

    ``unreachable`` says of a half that may exist why nobody could look: it is not in the cache and
    the hub does not answer."""

    name: str
    av: ModelPlace | None
    ar: ModelPlace | None
    target: ModelPlace | None = None
    unreachable: Mapping[str, CheckpointError] = field(default_factory=dict)


def find_nla(
    name: str | Path | None,
    *,
    av: str | Path | None = None,
    ar: str | Path | None = None,
    target: str | Path | None = None,
    revision: str | None = None,
) -> NLAPlaces:
    """Finds the parts of an NLA; parts that are named stand before those that are found.

    Raises: ConfigError if nothing is named; CheckpointError if there is no NLA, or the hub cannot
    be reached."""
    if name is None:
        if av is None and ar is None:
            raise ConfigError("no NLA named", expected="a folder, a hub id, or av=… and ar=…")
        found = NLAPlaces(str(av if av is not None else ar), None, None)
    else:
        found = _found(name, revision)
    return NLAPlaces(
        name=found.name,
        av=found.av if av is None else ModelPlace.of(av, revision=revision),
        ar=found.ar if ar is None else ModelPlace.of(ar, revision=revision),
        target=found.target if target is None else ModelPlace.of(target),
        unreachable=found.unreachable,
    )


def _found(name: str | Path, revision: str | None) -> NLAPlaces:
    first_error = None
    for candidates in _candidates(_base_of(name, revision)):
        held, errors = _held(
            candidates, silent=first_error is not None and hub_is_silent(first_error)
        )
        if held:
            target = _target_beside(next(iter(held.values())))
            return NLAPlaces(str(name), held.get("av"), held.get("ar"), target, errors)
        first_error = first_error or next(iter(errors.values()), None)
    raise first_error or _no_nla(name)


def _held(
    candidates: Mapping[str, ModelPlace], *, silent: bool
) -> tuple[dict[str, ModelPlace], dict[str, CheckpointError]]:
    """The halves that are there, and why it is not known of the others: one half in the cache is
    enough to use that half.

    A hub that is ``silent`` is not asked again: every attempt waits half a minute.
    """
    held, errors = {}, {}
    for half, place in candidates.items():
        try:
            if place.file(SIDECAR_NAME, cached_only=silent) is not None:
                held[half] = place
        except CheckpointError as error:
            errors[half] = error
            silent = silent or hub_is_silent(error)
    return held, errors


def _no_nla(name: str | Path) -> CheckpointError:
    return CheckpointError(
        "no NLA here",
        where=name,
        expected=f"av/ and ar/ with {SIDECAR_NAME}, or the same name with -av and -ar",
        remedy="Name a folder or a hub id (owner/name), or make one with: gloss quickstart",
    )


def _nlas_in(folder: Path) -> list[str]:
    """Names of the folders in a folder that hold NLAs: beside them a name is meant as a path, not
    as a repository of an owner.
    """
    if not folder.is_dir():
        return []
    held = ("av", "ar", "nla")
    return sorted(
        entry.name for entry in folder.iterdir() if any((entry / part).is_dir() for part in held)
    )


def _base_of(name: str | Path, revision: str | None) -> ModelPlace:
    """The place that both halves are named after: a folder need not be there itself, if its halves
    stand beside it.
    """
    path = Path(name).expanduser()
    if not path.is_dir() and any(Path(f"{path}-{half}").is_dir() for half in _HALVES):
        return ModelPlace.of_path(path)
    if not path.is_dir() and "/" not in str(name):
        raise _no_nla(name)
    if not path.is_dir() and (others := _nlas_in(path.parent)):
        raise CheckpointError(
            "no such folder",
            where=path,
            expected=f"one of {', '.join(others[:_SHOWN_FOLDERS])}",
            remedy="Name an NLA's folder, or make one with: gloss quickstart",
        )
    return ModelPlace.of(name, revision=revision)


def _candidates(place: ModelPlace) -> list[dict[str, ModelPlace]]:
    """Ways in which the halves can stand, the most likely first."""
    if halves := _halves_named_after(place):
        return [halves]
    beside = {half: place.beside(f"-{half}") for half in _HALVES}
    inside = {half: place.inside(half) for half in _HALVES}
    if not place.is_local:
        return [beside, inside]
    if place.file(SIDECAR_NAME) is not None:
        return [{read_model_sidecar(Path(place.name)).role: place}]
    return [inside, {half: place.inside(f"nla/{half}") for half in _HALVES}, beside]


def _halves_named_after(place: ModelPlace) -> dict[str, ModelPlace] | None:
    """Both halves, where the place is one of them and called so: …-av or …/av."""
    name = place.name.rstrip("/")
    if place.is_local and place.file(SIDECAR_NAME) is None:
        return None
    for half in _HALVES:
        if name.endswith((f"-{half}", f"/{half}")) or name == half:
            stem = name[: -len(half)]
            return {other: replace(place, name=stem + other) for other in _HALVES}
    return None


def _target_beside(half: ModelPlace) -> ModelPlace | None:
    """A target in the NLA's own folder, or one above it, as a run keeps it."""
    folder = Path(half.name).parent
    for beside in (folder / "target", folder.parent / "target"):
        if half.is_local and (beside / "config.json").is_file():
            return ModelPlace.of_path(beside)
    return None
