"""The injection marker: a rare one-token character whose embedding the activation replaces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gloss.contract.sidecar_fields import Char, Count
from gloss.contract.templates import prompt_ids, validate_av_template
from gloss.errors import GlossError, MarkerError

ADDED_MARKER = "㊗"
CANDIDATE_RANGES = (
    (0x3297, 0x32B0),
    (0x3200, 0x32FF),
    (0x2460, 0x24FF),
    (0x2600, 0x26FF),
    (0x2190, 0x21FF),
)


@dataclass(frozen=True)
class InjectionMarker:
    """The marker with the token ids it must have and stand between."""

    char: Char
    token_id: Count
    left_neighbor_id: Count
    right_neighbor_id: Count


@dataclass(frozen=True)
class ChosenMarker:
    """A marker; where it was ``added`` to the tokenizer, the embedding must grow by one row."""

    marker: InjectionMarker
    added: bool


def find_marker(ids: Sequence[int], marker: InjectionMarker) -> int:
    """The marker's index, by its id and both neighbours; MarkerError unless one place fits."""
    sites = [
        i
        for i in range(1, len(ids) - 1)
        if ids[i] == marker.token_id
        and ids[i - 1] == marker.left_neighbor_id
        and ids[i + 1] == marker.right_neighbor_id
    ]
    if len(sites) == 1:
        return sites[0]
    sites_of_id = (i for i, token in enumerate(ids) if token == marker.token_id)
    around = [list(ids[max(0, i - 1) : i + 2]) for i in sites_of_id]
    raise MarkerError(
        f"injection marker {marker.char!r} is not where it must be in the prompt",
        expected=f"ids {[marker.left_neighbor_id, marker.token_id, marker.right_neighbor_id]} once",
        found=f"{len(sites)} times" + (f"; the marker stands in {around[:3]}" if around else ""),
        remedy="Use the tokenizer and the prompt template saved beside the checkpoint",
    )


def choose_marker(tokenizer: Any, av_template: str) -> ChosenMarker:
    """Searches a rare one-token marker that the prompt leaves unchanged, or raises MarkerError.

    Enclosed and symbol characters first, then any visible unused single character of the
    vocabulary, then a character added to the tokenizer (in place)."""
    validate_av_template(av_template)
    for char in _candidates(tokenizer):
        if marker := _marker(tokenizer, av_template, char):
            return ChosenMarker(marker, added=False)
    added = add_marker_token(tokenizer, ADDED_MARKER)
    if added and (marker := _marker(tokenizer, av_template, ADDED_MARKER)):
        return ChosenMarker(marker, added=True)
    what = "no injection marker fits this tokenizer and template"
    raise MarkerError(what, remedy="Name one in build.marker")


def add_marker_token(tokenizer: Any, char: str) -> bool:
    """Adds a special token, which no normaliser rewrites; False if the vocabulary holds it."""
    return bool(tokenizer.add_tokens([char], special_tokens=True))


def marker_for(tokenizer: Any, av_template: str, char: str) -> InjectionMarker:
    """The marker that ``char`` makes in a template's prompt; MarkerError if it can be none."""
    marker = _marker(tokenizer, av_template, char)
    if marker is None:
        what = f"{char!r} cannot be the injection marker"
        expected = "one visible character that is one token, once in the prompt"
        found = f"ids {tokenizer.encode(char, add_special_tokens=False)}"
        raise MarkerError(what, expected=expected, found=found)
    return marker


def _marker(tokenizer: Any, av_template: str, char: str) -> InjectionMarker | None:
    if len(char) != 1 or char.isspace() or not char.isprintable():
        return None
    encoded = tokenizer.encode(char, add_special_tokens=False)
    token_id = encoded[0] if len(encoded) == 1 else tokenizer.convert_tokens_to_ids(char)
    if token_id in (None, getattr(tokenizer, "unk_token_id", None)) or token_id not in encoded:
        return None
    try:
        ids = prompt_ids(tokenizer, av_template, char)
    except GlossError:
        return None
    sites = [i for i, token in enumerate(ids) if token == token_id]
    if len(sites) != 1 or not 0 < sites[0] < len(ids) - 1:
        return None
    site = sites[0]
    return InjectionMarker(char, token_id, ids[site - 1], ids[site + 1])


def _candidates(tokenizer: Any) -> Iterator[str]:
    vocabulary = tokenizer.get_vocab()
    for char in (chr(code) for first, last in CANDIDATE_RANGES for code in range(first, last + 1)):
        if char in vocabulary or len(tokenizer.encode(char, add_special_tokens=False)) == 1:
            yield char
    rare = (t for t in vocabulary if len(t) == 1 and ord(t) > 0x250 and t != "▁")
    yield from sorted(rare, key=lambda token: -vocabulary[token])
