"""What a file of explanations says about its making: NLA and hash, model and revision, layer,
input, settings, version.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from gloss.contract import SIDECAR_NAME
from gloss.nla import NLA
from gloss.store.sources import file_fingerprint
from gloss.target_model import ModelPlace, commit_of


def nla_identity(nla: NLA, *, with_ar: bool) -> dict[str, Any]:
    """Name, and for each half that is used its revision and hash.

    The hash covers the sidecar's bytes and the commit on the hub; of a local folder, every
    safetensors file's name, size and 256 KB of samples, so that it takes no time and still differs
    after a training step."""
    halves = {"av": nla.places.av, **({"ar": nla.places.ar} if with_ar else {})}
    return {
        "name": nla.name,
        **{half: _half(place) for half, place in halves.items() if place is not None},
    }


def target_identity(nla: NLA, *, read: bool) -> dict[str, Any]:
    """Name and revision of the target; the revision is looked up only if the target was ``read``,
    and is then in the cache.
    """
    place = nla.places.target
    name = str(place) if place is not None else nla.sidecar.base_checkpoint
    if not read:
        return {"name": name, "revision": None if place is None else place.revision}
    found = place if place is not None else ModelPlace.of(name)
    return {"name": name, "revision": _commit(found, "config.json") or found.revision}


def _half(place: ModelPlace) -> dict[str, Any]:
    sidecar = place.file(SIDECAR_NAME)
    commit = _commit(place, SIDECAR_NAME)
    digest = hashlib.blake2b((commit or "").encode(), digest_size=16)
    if sidecar is not None:
        digest.update(sidecar.read_bytes())
    if commit is None and place.is_local:
        for file in sorted(Path(place.name).glob("*.safetensors")):
            digest.update(f"{file.name} {file_fingerprint(file)}".encode())
    return {"revision": commit or place.revision, "hash": digest.hexdigest()}


def _commit(place: ModelPlace, file: str) -> str | None:
    found = place.file(file)
    return None if found is None else commit_of(found.parent)
