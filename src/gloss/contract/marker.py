"""The injection marker: one rare single-token character whose embedding is replaced by the
activation.
"""

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
    (0x3200, 0x3296),
    (0x32B1, 0x32FF),
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
    """A marker; ``added`` says that it had to be added to the tokenizer, so that the embedding must
    grow by one row.
    """

    marker: InjectionMarker
    added: bool


def find_marker(ids: Sequence[int], marker: InjectionMarker) -> int:
    """Index of the marker in token ids, found by its id and both neighbours.

    Raises: MarkerError unless exactly one place fits.
    """
    sites = [
        i
        for i in range(1, len(ids) - 1)
        if ids[i] == marker.token_id
        and ids[i - 1] == marker.left_neighbor_id
        and ids[i + 1] == marker.right_neighbor_id
    ]
    if len(sites) == 1:
        return sites[0]
    around = [
        list(ids[max(0, i - 1) : i + 2]) for i, token in enumerate(ids) if token == marker.token_id
    ]
    raise MarkerError(
        f"injection marker {marker.char!r} is not where it must be in the prompt",
        expected=f"ids {[marker.left_neighbor_id, marker.token_id, marker.right_neighbor_id]} once",
        found=f"{len(sites)} times" + (f"; the marker stands in {around[:3]}" if around else ""),
        remedy="Use the tokenizer and the prompt template saved beside the checkpoint",
    )


def choose_marker(tokenizer: Any, av_template: str) -> ChosenMarker:
    """Searches a marker for a tokenizer and a template: rare, one token, unchanged by the prompt.

    Enclosed and symbol characters first, then any visible unused single character of the
    vocabulary, then a character added to the tokenizer (in place).
    Raises: MarkerError if none fits, TemplateError.
    """
    validate_av_template(av_template)
    for char in _candidates(tokenizer):
        marker = _marker(tokenizer, av_template, char)
        if marker is not None:
            return ChosenMarker(marker, added=False)
    if add_marker_token(tokenizer, ADDED_MARKER):
        marker = _marker(tokenizer, av_template, ADDED_MARKER)
        if marker is not None:
            return ChosenMarker(marker, added=True)
    raise MarkerError(
        "no injection marker fits this tokenizer and template", remedy="Name one in build.marker"
    )


def add_marker_token(tokenizer: Any, char: str) -> bool:
    """Adds a marker character to a tokenizer, in place; False if the vocabulary holds it already.

    It is added as a special token: no normaliser then rewrites it, neither NFKC nor one that
    prepends a space sign."""
    return bool(tokenizer.add_tokens([char], special_tokens=True))


def marker_for(tokenizer: Any, av_template: str, char: str) -> InjectionMarker:
    """The marker that ``char`` makes in a template's prompt.

    Raises: MarkerError if it is no single token there.
    """
    marker = _marker(tokenizer, av_template, char)
    if marker is None:
        ids = tokenizer.encode(char, add_special_tokens=False)
        raise MarkerError(
            f"{char!r} cannot be the injection marker",
            expected="one token, once in the prompt",
            found=f"ids {ids}",
        )
    return marker


def _marker(tokenizer: Any, av_template: str, char: str) -> InjectionMarker | None:
    encoded = tokenizer.encode(char, add_special_tokens=False)
    token_id = encoded[0] if len(encoded) == 1 else tokenizer.convert_tokens_to_ids(char)
    if (
        token_id is None
        or token_id == getattr(tokenizer, "unk_token_id", None)
        or token_id not in encoded
    ):
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
    for first, last in CANDIDATE_RANGES:
        for code in range(first, last + 1):
            if (
                chr(code) in vocabulary
                or len(tokenizer.encode(chr(code), add_special_tokens=False)) == 1
            ):
                yield chr(code)
    unusual = [
        token
        for token in vocabulary
        if len(token) == 1
        and ord(token) > 0x250
        and token.isprintable()
        and not token.isspace()
        and token != "▁"
    ]
    yield from sorted(unusual, key=lambda token: -vocabulary[token])
