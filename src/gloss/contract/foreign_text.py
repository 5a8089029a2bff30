"""Text of others as token ids: what looks like a control token in it stays text.

A tokenizer parses ``<|im_end|>`` wherever it stands. Only what Gloss or a chat template writes may
be parsed so; a document, a message or an explanation that quotes such a token is text. It is read
by a twin of the tokenizer that splits special tokens; those that are meant stand in it as private
characters, so that everything around them is cut as ever."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from gloss.errors import CorpusError, TemplateError, foreign_faults

Spans = Sequence[tuple[int, int]]
Tokens = tuple[list[int], list[tuple[int, int]] | None]
"""Ids, and where each stands in the text, if the tokenizer can tell."""

_PRIVATE = range(0xF0000, 0xFFFFE)
"""Characters of Unicode that stand for nothing."""
_ROW = 1024
_MOST_READERS = 4
_twins: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_lock = Lock()


def special_token_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of special tokens: the named ones, and added ones that are marked as special."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).items()
    return frozenset(tokenizer.all_special_ids) | {int(i) for i, token in added if token.special}


def control_tokens(tokenizer: Any) -> re.Pattern[str]:
    """Finds the texts of special tokens."""
    pattern: re.Pattern[str] = _twin_of(tokenizer).pattern
    return pattern


def encode_texts(
    tokenizer: Any,
    texts: Sequence[str],
    foreign: Sequence[Spans | None],
    *,
    add_special_tokens: bool = False,
) -> list[Tokens]:
    """Ids of texts in whose ``foreign`` spans (None: all of it) special tokens are plain text.

    With ``add_special_tokens`` the tokenizer's own BOS is there, but no end-of-text token that it
    appends: no text ends so while it is read. Raises: TemplateError where the tokenizer cannot tell
    the two apart; CorpusError where it fails."""
    if not texts:
        return []
    with foreign_faults(CorpusError, "the tokenizer fails", where=f"the text {texts[0][:40]!r}"):
        twin = _twin_of(tokenizer)
        apart = [i for i, text in enumerate(texts) if twin.names_special(text, foreign[i])]
        found = list(_plain(tokenizer, texts, add_special_tokens))
        for i in apart:
            found[i] = twin.encode(texts[i], foreign[i], add_special_tokens)
    if add_special_tokens and twin.appended is not None:
        return [_without_last(twin.appended, *tokens) for tokens in found]
    return found


def _without_last(appended: int, ids: list[int], offsets: list[tuple[int, int]] | None) -> Tokens:
    if not ids or ids[-1] != appended:
        return ids, offsets
    return ids[:-1], None if offsets is None else offsets[:-1]


def _appended_eos(tokenizer: Any) -> int | None:
    """The end-of-text token that the tokenizer puts behind every text, if it does."""
    eos = getattr(tokenizer, "eos_token_id", None)
    ids = tokenizer.encode("a", add_special_tokens=True)
    plain = tokenizer.encode("a", add_special_tokens=False)
    return eos if eos is not None and ids and ids[-1] == eos and plain[-1:] != [eos] else None


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


@dataclass(frozen=True)
class _Reader:
    """A tokenizer that splits special tokens; ``stand_ins`` are parsed in their place, with ids
    that are ``meant`` for theirs."""

    tokenizer: Any
    stand_ins: Mapping[str, str]
    meant: Mapping[int, int]


class _Twin:
    """A copy of a tokenizer that splits special tokens and knows a stand-in for each."""

    def __init__(self, tokenizer: Any) -> None:
        added = getattr(tokenizer, "added_tokens_decoder", {})
        special = special_token_ids(tokenizer)
        self._added = {added[i].content: (i, added[i]) for i in sorted(special) if i in added}
        longest_first = sorted(self._added, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        fast = bool(getattr(tokenizer, "is_fast", False))
        self._backend = tokenizer.backend_tokenizer if fast else None
        self._readers: dict[int, _Reader] = {}
        self.appended = _appended_eos(tokenizer)

    def names_special(self, text: str, foreign: Spans | None) -> bool:
        """Whether a special token is written in a foreign span."""
        if foreign is None:
            return self.pattern.search(text) is not None
        return any(self._foreign(match, foreign) for match in self.pattern.finditer(text))

    def encode(self, text: str, foreign: Spans | None, add_special_tokens: bool) -> Tokens:
        """Ids and offsets of one text."""
        if self._backend is None:
            what = "this tokenizer cannot read a control token as text"
            found = self.pattern.findall(text)[:1]
            raise TemplateError(what, expected="a fast tokenizer", found=found)
        reader = self._reader_for(text)
        own = self._with_stand_ins(reader, text, foreign)
        encoding = reader.tokenizer.encode(own.text, add_special_tokens=add_special_tokens)
        starts = own.starts
        return [reader.meant.get(i, i) for i in encoding.ids], [
            (starts[start], starts[end] if end > start else starts[start])
            for start, end in encoding.offsets
        ]

    def _with_stand_ins(self, reader: _Reader, text: str, foreign: Spans | None) -> _Own:
        parts, starts, cursor = list[str](), list[int](), 0
        for match in () if foreign is None else self.pattern.finditer(text):
            if self._foreign(match, foreign or ()):
                continue
            parts += [text[cursor : match.start()], reader.stand_ins[match[0]]]
            starts += [*range(cursor, match.start()), match.start()]
            cursor = match.end()
        return _Own("".join([*parts, text[cursor:]]), [*starts, *range(cursor, len(text) + 1)])

    @staticmethod
    def _foreign(match: re.Match[str], foreign: Spans) -> bool:
        return any(match.start() < end and match.end() > start for start, end in foreign)

    def _reader_for(self, text: str) -> _Reader:
        """A reader none of whose stand-ins is in the text: they would be parsed there too."""
        first = free_characters(text, len(self._added))
        with _lock:
            if first not in self._readers:
                if len(self._readers) >= _MOST_READERS:
                    self._readers.clear()  # each is a whole tokenizer; texts choose which
                self._readers[first] = self._reader(first)
            return self._readers[first]

    def _reader(self, first: int) -> _Reader:
        from tokenizers import AddedToken, Tokenizer

        assert self._backend is not None
        reader = Tokenizer.from_str(self._backend.to_str())
        reader.no_truncation()
        reader.no_padding()
        reader.encode_special_tokens = True
        stand_ins = {content: chr(first + n) for n, content in enumerate(self._added)}
        reader.add_tokens(
            [
                AddedToken(
                    stand_ins[content],
                    special=False,
                    normalized=False,
                    lstrip=token.lstrip,
                    rstrip=token.rstrip,
                )
                for content, (_, token) in self._added.items()
            ]
        )
        vocabulary = reader.get_vocab()
        meant = {vocabulary[stand_ins[content]]: i for content, (i, _) in self._added.items()}
        return _Reader(reader, stand_ins, meant)


def free_characters(text: str, count: int) -> int:
    """The first of ``count`` private characters in a row that the text does not hold.

    Raises: CorpusError if there is no such row: then the text was made to that end."""
    used = {ord(char) for char in set(text) if ord(char) >= _PRIVATE.start}
    for first in range(_PRIVATE.start, _PRIVATE.stop - count, _ROW):
        if used.isdisjoint(range(first, first + count)):
            return first
    what, found = "a text that uses up the private characters", f"{len(used)} of them"
    raise CorpusError(what, expected="some that are free", found=found)
