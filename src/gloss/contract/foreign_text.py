"""Text of others as token ids: what looks like a control token in it stays text.

A tokenizer parses ``<|im_end|>`` wherever it stands. Only what Gloss or a chat template writes may
be parsed so; a document, a message or an explanation that quotes such a token is text. It is read
by a twin of the tokenizer that splits special tokens; those that are meant stand in it as private
characters, so that everything around them is cut as ever."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from gloss.errors import CorpusError, TemplateError, foreign_faults

Spans = Sequence[tuple[int, int]]
Tokens = tuple[list[int], list[tuple[int, int]] | None]
"""Ids, and where each stands in the text, if the tokenizer can tell."""

_STAND_INS = 0x10F000
_twins: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_lock = Lock()


def special_token_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of special tokens: the named ones, and added ones that are marked as special."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).items()
    return frozenset(tokenizer.all_special_ids) | {int(i) for i, token in added if token.special}


def encode_texts(
    tokenizer: Any,
    texts: Sequence[str],
    foreign: Sequence[Spans | None],
    *,
    add_special_tokens: bool = False,
) -> list[Tokens]:
    """Ids of texts in whose ``foreign`` spans (None: all of it) special tokens are plain text.

    Raises: TemplateError where the tokenizer cannot tell the two apart."""
    if not texts:
        return []
    with foreign_faults(CorpusError, "the tokenizer fails", where=f"the text {texts[0][:40]!r}"):
        twin = _twin_of(tokenizer)
        apart = [i for i, text in enumerate(texts) if twin.names_special(text, foreign[i])]
        found = list(_plain(tokenizer, texts, add_special_tokens))
        for i in apart:
            found[i] = twin.encode(texts[i], foreign[i], add_special_tokens)
    return found


def _plain(tokenizer: Any, texts: Sequence[str], add_special_tokens: bool) -> list[Tokens]:
    fast = bool(getattr(tokenizer, "is_fast", False))
    out = tokenizer(
        list(texts),
        add_special_tokens=add_special_tokens,
        return_attention_mask=False,
        return_offsets_mapping=fast,
        verbose=False,
    )
    offsets = out["offset_mapping"] if fast else [None] * len(texts)
    return list(zip(out["input_ids"], offsets, strict=True))


def _twin_of(tokenizer: Any) -> _Twin:
    with _lock:
        known = _twins.get(tokenizer)
        if known is None or known[0] != len(tokenizer):
            known = _twins[tokenizer] = len(tokenizer), _Twin(tokenizer)
        twin: _Twin = known[1]
        return twin


@dataclass(frozen=True)
class _Own:
    """A text with its own special tokens replaced by stand-ins of one character."""

    text: str
    starts: list[int]
    """Where each of its characters stands in the original; one more for its end."""


class _Twin:
    """A copy of a tokenizer that splits special tokens and knows a stand-in for each."""

    def __init__(self, tokenizer: Any) -> None:
        added = getattr(tokenizer, "added_tokens_decoder", {})
        special = special_token_ids(tokenizer)
        self._added = {added[i].content: (i, added[i]) for i in sorted(special) if i in added}
        longest_first = sorted(self._added, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        fast = bool(getattr(tokenizer, "is_fast", False))
        self._backend = tokenizer.backend_tokenizer if fast else None

    def names_special(self, text: str, foreign: Spans | None) -> bool:
        """Whether a special token is written in a foreign span."""
        if foreign is None:
            return self._pattern.search(text) is not None
        return any(self._foreign(match, foreign) for match in self._pattern.finditer(text))

    def encode(self, text: str, foreign: Spans | None, add_special_tokens: bool) -> Tokens:
        """Ids and offsets of one text."""
        if self._backend is None:
            what = "this tokenizer cannot read a control token as text"
            found = self._pattern.findall(text)[:1]
            raise TemplateError(what, expected="a fast tokenizer", found=found)
        own = self._with_stand_ins(text, () if foreign is None else foreign, foreign is None)
        encoding = self._reader.encode(own.text, add_special_tokens=add_special_tokens)
        ids = [self._meant.get(i, i) for i in encoding.ids]
        starts = own.starts
        return ids, [
            (starts[start], starts[end] if end > start else starts[start])
            for start, end in encoding.offsets
        ]

    def _with_stand_ins(self, text: str, foreign: Spans, everything: bool) -> _Own:
        parts, starts, cursor = list[str](), list[int](), 0
        for match in () if everything else self._pattern.finditer(text):
            if self._foreign(match, foreign):
                continue
            parts += [text[cursor : match.start()], self._stand_ins[match[0]]]
            starts += [*range(cursor, match.start()), match.start()]
            cursor = match.end()
        return _Own("".join([*parts, text[cursor:]]), [*starts, *range(cursor, len(text) + 1)])

    @staticmethod
    def _foreign(match: re.Match[str], foreign: Spans) -> bool:
        return any(match.start() < end and match.end() > start for start, end in foreign)

    @cached_property
    def _stand_ins(self) -> dict[str, str]:
        return {content: chr(_STAND_INS + n) for n, content in enumerate(self._added)}

    @cached_property
    def _reader(self) -> Any:
        from tokenizers import AddedToken, Tokenizer

        assert self._backend is not None
        reader = Tokenizer.from_str(self._backend.to_str())
        reader.no_truncation()
        reader.no_padding()
        reader.encode_special_tokens = True
        reader.add_tokens(
            [
                AddedToken(
                    self._stand_ins[content],
                    special=False,
                    normalized=False,
                    lstrip=token.lstrip,
                    rstrip=token.rstrip,
                )
                for content, (_, token) in self._added.items()
            ]
        )
        return reader

    @cached_property
    def _meant(self) -> dict[int, int]:
        return {
            self._reader.token_to_id(self._stand_ins[content]): i
            for content, (i, _) in self._added.items()
        }
