"""Documents as token ids, and of each token where its text ends and whether it is an own word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np

from gloss.errors import CorpusError, first_line
from gloss.text.document import Document, clean_text

_TOKENIZED_TOGETHER = 64
_FIRST_CUT_CHARS_PER_TOKEN, _CUT_GROWTH = 8, 4
_MARGIN_CHARS, _MARGIN_TOKENS = 1024, 64
_Integers = np.ndarray[Any, np.dtype[np.int64]]
_Spans = tuple[tuple[int, int], ...] | None
_Offsets = list[tuple[int, int]] | None
_Tokens = tuple[list[int], _Offsets]


@dataclass(frozen=True)
class EncodedDocument:
    """A document as the target reads it: rendered ``text``, token ids, ``excluded`` indices, which
    are not its own words, and character offsets in ``text`` where the tokenizer gives them."""

    doc_id: str
    text: str
    ids: _Integers
    starts: _Integers | None
    ends: _Integers | None
    excluded: frozenset[int]


@dataclass
class DocumentEncoder:
    """Renders and tokenizes documents: chats through the chat template, BOS once if there is one.

    Tokens beyond ``max_tokens`` are cut off. Special tokens are excluded and, with
    ``exclude_template_tokens``, those that a chat template puts around the messages.
    """

    tokenizer: Any
    max_tokens: int
    exclude_template_tokens: bool = True
    template_options: Mapping[str, Any] = field(default_factory=dict)
    _frames: dict[tuple[str, ...], list[str] | None] = field(default_factory=dict)
    _token_texts: dict[int, str] = field(default_factory=dict)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """See ``special_token_ids``."""
        return special_token_ids(self.tokenizer)

    @cached_property
    def _added_bos(self) -> str | None:
        bos = self.tokenizer.bos_token_id
        ids = self.tokenizer.encode("a", add_special_tokens=True)
        return self.tokenizer.bos_token if bos is not None and ids and ids[0] == bos else None

    def encode(self, documents: Sequence[Document]) -> list[EncodedDocument]:
        """The documents in order; an empty one has no tokens."""
        rendered = [self._render(document) for document in documents]
        tokens: list[_Tokens] = [([], None)] * len(documents)
        for add_special in (True, False):
            chosen = [i for i, (text, _, add) in enumerate(rendered) if add == add_special and text]
            for first in range(0, len(chosen), _TOKENIZED_TOGETHER):
                some = chosen[first : first + _TOKENIZED_TOGETHER]
                tokenized = self._tokenize([rendered[i][0] for i in some], add_special)
                for i, found in zip(some, tokenized, strict=True):
                    tokens[i] = found
        return [
            self._encoded(document.doc_id, text, spans, *found)
            for document, (text, spans, _), found in zip(documents, rendered, tokens, strict=True)
        ]

    def text_through(self, document: EncodedDocument, position: int) -> str:
        """The rendered text up to and with a token, with all of a character that it only begins."""
        if document.ends is None:
            return self._decode(document.ids[: position + 1].tolist())
        text, end = document.text, int(document.ends[: position + 1].max())
        token = self.token_text(int(document.ids[position]))
        trailing = token[len(token.rstrip()) :]
        if not text[:end].endswith(trailing) and text.startswith(trailing, end):
            end += len(trailing)
        return text[:end]

    def token_text(self, token_id: int) -> str:
        """One token's own text."""
        if token_id not in self._token_texts:
            self._token_texts[token_id] = self._decode([token_id])
        return self._token_texts[token_id]

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    def _render(self, document: Document) -> tuple[str, _Spans, bool]:
        """Text, the spans of its own words (None: all), and whether to add special tokens."""
        if document.messages is None:
            plain = clean_text(document.text or "")
            return plain, None, self._added_bos is None or not plain.startswith(self._added_bos)
        messages = [
            {name: clean_text(message[name]) for name in ("role", "content")}
            for message in document.messages
        ]
        if not any(message["content"].strip() for message in messages):
            return "", None, True
        if not getattr(self.tokenizer, "chat_template", None):
            raise CorpusError(
                "a chat for a tokenizer without a chat template",
                where=document.doc_id,
                remedy="Use plain documents for a base model",
            )
        text = self._apply_template(messages, document.doc_id)
        add_special = self._added_bos is not None and not text.startswith(self._added_bos)
        if not self.exclude_template_tokens:
            return text, None, add_special
        spans = self.content_spans(messages, text)
        return text, tuple(span for span in spans if span is not None), add_special

    def _apply_template(self, messages: Sequence[Mapping[str, str]], doc_id: str) -> str:
        from jinja2 import TemplateError as JinjaError

        options = {"add_generation_prompt": False, **self.template_options}
        apply = self.tokenizer.apply_chat_template
        try:
            return str(apply(list(messages), tokenize=False, **options))
        except (JinjaError, ValueError, TypeError, KeyError) as error:
            refusal = f"the chat template refuses this chat ({first_line(error)})"
            raise CorpusError(refusal, where=doc_id) from error

    def content_spans(
        self, messages: Sequence[Mapping[str, str]], text: str
    ) -> tuple[tuple[int, int] | None, ...]:
        """Where each message's content stands in the rendered text; None if empty or rewritten."""
        contents = [message["content"] for message in messages]
        frame = self.frame(tuple(message["role"] for message in messages))
        for variant in (contents, [content.strip() for content in contents]):
            pieces = [] if frame is None else chain_pieces(frame, variant)
            if pieces and text == "".join(pieces):
                ends = list(accumulate(map(len, pieces)))
                return tuple(zip(ends[:-1:2], ends[1::2], strict=True))
        spans: list[tuple[int, int] | None] = []
        cursor = 0
        for content in map(str.strip, contents):
            start = text.find(content, cursor) if content else -1
            spans.append(None if start < 0 else (start, cursor := start + len(content)))
        return tuple(spans)

    def frame(self, roles: tuple[str, ...]) -> list[str] | None:
        """What the template writes around messages of these roles; None if that is not known."""
        if roles not in self._frames:
            marks = [f"Gloss{i}Content" for i in range(len(roles))]
            pairs = zip(roles, marks, strict=True)
            messages = [{"role": role, "content": mark} for role, mark in pairs]
            rest, pieces = self._apply_template(messages, "chat"), []
            for mark in marks:
                before, found, rest = rest.partition(mark)
                pieces += [before] if found else []
            self._frames[roles] = [*pieces, rest] if len(pieces) == len(roles) else None
        return self._frames[roles]

    def _tokenize(self, texts: list[str], add_special: bool) -> list[_Tokens]:
        """Tokens of each text, of a long one those of a beginning that holds ``max_tokens``."""
        chars = _FIRST_CUT_CHARS_PER_TOKEN * self.max_tokens + _MARGIN_CHARS
        tokenized = self._tokenize_whole([_beginning(text, chars) for text in texts], add_special)
        for i, text in enumerate(texts):
            size = chars
            while size < len(text) and not self._holds_enough(tokenized[i], size):
                size *= _CUT_GROWTH
                tokenized[i] = self._tokenize_whole([_beginning(text, size)], add_special)[0]
        return tokenized

    def _holds_enough(self, tokens: _Tokens, size: int) -> bool:
        """Whether the kept tokens end so far before the cut that it cannot have changed them."""
        ids, offsets = tokens
        if len(ids) < self.max_tokens + _MARGIN_TOKENS:
            return False
        last = max(end for _, end in offsets[: self.max_tokens]) if offsets else 0
        return last <= size - _MARGIN_CHARS // 2

    def _tokenize_whole(self, texts: list[str], add_special: bool) -> list[_Tokens]:
        fast = bool(getattr(self.tokenizer, "is_fast", False))
        out = self.tokenizer(
            texts,
            add_special_tokens=add_special,
            return_attention_mask=False,
            return_offsets_mapping=fast,
            verbose=False,
        )
        offsets = out["offset_mapping"] if fast else [None] * len(texts)
        return list(zip(out["input_ids"], offsets, strict=True))

    def _encoded(
        self, doc_id: str, text: str, spans: _Spans, ids: list[int], offsets: _Offsets
    ) -> EncodedDocument:
        kept = np.asarray(ids[: self.max_tokens], dtype=np.int64)
        excluded = {i for i, token in enumerate(kept.tolist()) if token in self.special_ids}
        if offsets is None:
            return EncodedDocument(doc_id, text, kept, None, None, frozenset(excluded))
        starts, ends = np.asarray(offsets[: self.max_tokens], dtype=np.int64).reshape(-1, 2).T
        if spans is not None:
            inside = np.zeros(len(kept), dtype=bool)
            for first, last in spans:
                inside |= (starts >= first) & (ends <= last) & (ends > first)
            excluded |= set(np.flatnonzero(~inside).tolist())
        return EncodedDocument(doc_id, text, kept, starts, ends, frozenset(excluded))


def special_token_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of special tokens: the named ones, and added ones that are marked as special."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).items()
    return frozenset(tokenizer.all_special_ids) | {int(i) for i, token in added if token.special}


def _beginning(text: str, size: int) -> str:
    """At most ``size`` characters of a text, cut before white space where some stands near."""
    if len(text) <= size:
        return text
    near = max(text.rfind(space, size - _MARGIN_CHARS // 4, size) for space in " \n\t")
    return text[: near if near > 0 else size]


def chain_pieces(frame: Sequence[str], contents: Sequence[str]) -> list[str]:
    """Frame pieces and contents in turn: piece, content, piece, …, piece."""
    pieces = [text for pair in zip(frame, contents, strict=False) for text in pair]
    return [*pieces, frame[-1]]
