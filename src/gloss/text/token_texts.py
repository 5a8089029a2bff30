"""The text of token ids as they stand inside of a text: one definition for all that is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_BEFORE = "a"


def text_of_ids(tokenizer: Any, ids: Sequence[int], *, first: bool = False) -> str:
    """What tokens write behind others: with the space in front of a word, which some tokenizers
    drop where a text begins (``first``)."""
    alone = _decoded(tokenizer, ids)
    if first or not ids:
        return alone
    before = tokenizer.encode(_BEFORE, add_special_tokens=False)
    start = _decoded(tokenizer, before)
    both = _decoded(tokenizer, [*before, *ids])
    behind = both[len(start) :] if both.startswith(start) else alone
    return behind if behind.endswith(alone) else alone


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))
