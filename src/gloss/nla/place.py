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
    """Where each part of an NLA is, None if not known; ``name`` is what the user called it.

    ``unreachable`` says of a half that may exist why nobody could look: it is not in the cache and
    the hub does not answer."""

    name: str
    av: ModelPlace | None = None
    ar: ModelPlace | None = None
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
    if name is not None:
        found = _found(name, revision)
    elif av is None and ar is None:
        raise ConfigError("no NLA named", expected="a folder, a hub id, or av=… and ar=…")
    else:
        found = NLAPlaces(str(av if av is not None else ar))
    return replace(
        found,
        av=found.av if av is None else ModelPlace.of(av, revision=revision),
        ar=found.ar if ar is None else ModelPlace.of(ar, revision=revision),
        target=found.target if target is None else ModelPlace.of(target),
    )


def _found(name: str | Path, revision: str | None) -> NLAPlaces:
    """The first candidates of which a half is there: one in the cache is enough to be used.

    A hub that is silent is not asked again: every attempt waits half a minute.
    """
    first_error, silent = None, False
    for candidates in _candidates(_base_of(name, revision)):
        held, errors = dict[str, ModelPlace](), dict[str, CheckpointError]()
        for half, place in candidates.items():
            try:
                if place.file(SIDECAR_NAME, cached_only=silent) is not None:
                    held[half] = place
            except CheckpointError as error:
                errors[half], first_error = error, first_error or error
                silent = silent or hub_is_silent(error)
        if held:
            target = _target_beside(next(iter(held.values())))
            return NLAPlaces(str(name), **held, target=target, unreachable=errors)
    raise first_error or _no_nla(name)


def _no_nla(name: str | Path) -> CheckpointError:
    return CheckpointError(
        "no NLA here",
        where=name,
        expected=f"av/ and ar/ with {SIDECAR_NAME}, or the same name with -av and -ar",
        remedy="Name a folder or a hub id (owner/name), or make one with: gloss quickstart",
    )


def _base_of(name: str | Path, revision: str | None) -> ModelPlace:
    """The place that both halves are named after; it need not be there, if they stand beside it.

    Beside folders that hold NLAs a name is meant as a path, not as a repository of an owner."""
    path = Path(name).expanduser()
    if path.is_dir() or any(Path(f"{path}-{half}").is_dir() for half in _HALVES):
        return ModelPlace.of_path(path)
    if "/" not in str(name):
        raise _no_nla(name)
    inside = [path.parent.glob(f"*/{part}/") for part in (*_HALVES, "nla")]
    if others := sorted({part.parent.name for found in inside for part in found if part.is_dir()}):
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
