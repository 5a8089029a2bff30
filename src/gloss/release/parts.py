"""The halves that a place holds, as they are: a broken sidecar is found too, so that it can be
examined.
"""

from __future__ import annotations

from pathlib import Path

from gloss.contract import SIDECAR_NAME, VALUE_HEAD_NAME, read_model_sidecar
from gloss.errors import CheckpointError, GlossError
from gloss.nla.place import find_nla
from gloss.target_model import ModelPlace


def parts_of(name: str | Path, *, revision: str | None = None) -> dict[str, ModelPlace]:
    """The halves at ``name``, by role: one where the place is one half itself, else those that
    ``gloss.load`` would find.

    Raises: CheckpointError if there is no checkpoint, or the hub cannot be reached.
    """
    one = _half_itself(name, revision)
    if one is not None:
        return {role_of(one): one}
    found = find_nla(name, revision=revision)
    if found.unreachable:
        raise next(iter(found.unreachable.values()))
    return {
        role: place for role, place in (("av", found.av), ("ar", found.ar)) if place is not None
    }


def _half_itself(name: str | Path, revision: str | None) -> ModelPlace | None:
    """The place, where it is a model and not the name of a pair."""
    path = Path(name).expanduser()
    beside = any(Path(f"{path}-{half}").is_dir() for half in ("av", "ar"))
    if not path.is_dir() and (beside or "/" not in str(name)):
        return None
    place = ModelPlace.of(name, revision=revision)
    try:
        held = place.file(SIDECAR_NAME) is not None or (
            place.is_local and any(path.glob("*.safetensors"))
        )
    except CheckpointError:
        return None
    return place if held else None


def role_of(place: ModelPlace) -> str:
    """What a half is by its sidecar, or where that cannot be read by its files and its name.

    Raises: CheckpointError if the hub cannot be reached.
    """
    sidecar = place.file(SIDECAR_NAME)
    try:
        if sidecar is not None:
            return read_model_sidecar(sidecar).role
    except GlossError:
        pass
    stem = Path(place.subfolder or place.name).name
    return "ar" if stem.endswith("ar") or place.file(VALUE_HEAD_NAME) is not None else "av"
