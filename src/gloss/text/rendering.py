"""Documents as token ids with, for each token, where its text ends and whether it is one of their
own words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from gloss.errors import CorpusError, cause
from gloss.text.document import Document, clean_text

_TOKENIZED_TOGETHER = 64
_FIRST_CUT_CHARS_PER_TOKEN, _CUT_GROWTH = 8, 4
_MARGIN_CHARS, _MARGIN_TOKENS = 1024, 64
_Spans = tuple[tuple[int, int], ...] | None
_Tokens = tuple[list[int], list[tuple[int, int]] | None]


@dataclass(frozen=True)
class EncodedDocument:
    """A document as the target reads it: ``text`` (rendered), token ids, and the indices that are
    not its own words.

    ``starts`` and ``ends`` are character offsets of the tokens in ``text``; None if the tokenizer
    gives none."""

    doc_id: str
    text: str
    ids: np.ndarray[Any, np.dtype[np.int64]]
    starts: np.ndarray[Any, np.dtype[np.int64]] | None
    ends: np.ndarray[Any, np.dtype[np.int64]] | None
    excluded: frozenset[int]


@dataclass
class DocumentEncoder:
    """Renders and tokenizes documents: chats through the chat template, BOS once where the
    tokenizer adds one.

    Tokens beyond ``max_tokens`` are cut off. Special tokens are excluded and, with
    ``exclude_template_tokens``, also those that a chat template puts around the messages.
    ``template_options`` go to the chat template."""

    tokenizer: Any
    max_tokens: int
    exclude_template_tokens: bool = True
    template_options: Mapping[str, Any] = field(default_factory=dict)
    _frames: dict[tuple[str, ...], list[str] | None] = field(default_factory=dict)
    _token_texts: dict[int, str] = field(default_factory=dict)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of special tokens, whether the tokenizer adds them or a text holds them."""
        return special_token_ids(self.tokenizer)

    @cached_property
    def _added_bos(self) -> str | None:
        bos = self.tokenizer.bos_token_id
        ids = self.tokenizer.encode("a", add_special_tokens=True)
        return self.tokenizer.bos_token if bos is not None and ids and ids[0] == bos else None

    def encode(self, documents: Sequence[Document]) -> list[EncodedDocument]:
        """The documents in order; an empty one has no tokens."""
        rendered = [self._render(document) for document in documents]
        encoded: list[EncodedDocument | None] = [None] * len(documents)
        for add_special in (True, False):
            chosen = [i for i, (text, _, add) in enumerate(rendered) if add == add_special and text]
            for first in range(0, len(chosen), _TOKENIZED_TOGETHER):
                some = chosen[first : first + _TOKENIZED_TOGETHER]
                tokenized = self._tokenize([rendered[i][0] for i in some], add_special)
                for i, (ids, offsets) in zip(some, tokenized, strict=True):
                    encoded[i] = self._encoded(
                        documents[i].doc_id, rendered[i][0], rendered[i][1], ids, offsets
                    )
        empty = np.zeros(0, dtype=np.int64)
        return [
            item or EncodedDocument(document.doc_id, "", empty, None, None, frozenset())
            for item, document in zip(encoded, documents, strict=True)
        ]

    def text_through(self, document: EncodedDocument, position: int) -> str:
        """The rendered text up to and with the token at ``position``, with all of a character that
        it only begins.
        """
        if document.ends is None:
            text: str = self.tokenizer.decode(
                document.ids[: position + 1].tolist(), clean_up_tokenization_spaces=False
            )
            return text
        end = int(document.ends[: position + 1].max())
        token = self.token_text(int(document.ids[position]))
        trailing = token[len(token.rstrip()) :]
        if (
            trailing
            and not document.text[:end].endswith(trailing)
            and document.text.startswith(trailing, end)
        ):
            end += len(trailing)
        return document.text[:end]

    def token_text(self, token_id: int) -> str:
        """One token's own text."""
        if token_id not in self._token_texts:
            self._token_texts[token_id] = self.tokenizer.decode(
                [token_id], clean_up_tokenization_spaces=False
            )
        return self._token_texts[token_id]

    def _render(self, document: Document) -> tuple[str, _Spans, bool]:
        """Rendered text, the spans of the document's own words (None: all of it), and whether to
        add special tokens.
        """
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
        spans = self._own_words(messages, text) if self.exclude_template_tokens else None
        return text, spans, add_special

    def _apply_template(self, messages: Sequence[Mapping[str, str]], doc_id: str) -> str:
        from jinja2 import TemplateError as JinjaError

        try:
            options = {"add_generation_prompt": False, **self.template_options}
            return str(
                self.tokenizer.apply_chat_template(list(messages), tokenize=False, **options)
            )
        except (JinjaError, ValueError, TypeError, KeyError) as error:
            reason = cause(error)
            raise CorpusError(
                f"the chat template refuses this chat ({reason})", where=doc_id
            ) from error

    def _own_words(
        self, messages: Sequence[Mapping[str, str]], text: str
    ) -> tuple[tuple[int, int], ...]:
        return tuple(span for span in self.content_spans(messages, text) if span is not None)

    def content_spans(
        self, messages: Sequence[Mapping[str, str]], text: str
    ) -> tuple[tuple[int, int] | None, ...]:
        """Where each message's content stands in the rendered text; None for one that the template
        rewrote, or an empty one.
        """
        contents = [message["content"] for message in messages]
        frame = self.frame(tuple(message["role"] for message in messages))
        for variant in (contents, [content.strip() for content in contents]):
            if frame is not None and text == "".join(chain_pieces(frame, variant)):
                starts = np.cumsum([len(piece) for piece in chain_pieces(frame, variant)])
                return tuple(
                    (int(starts[2 * i]), int(starts[2 * i + 1])) for i in range(len(variant))
                )
        spans: list[tuple[int, int] | None] = []
        cursor = 0
        for content in (content.strip() for content in contents):
            start = text.find(content, cursor)
            if content and start >= 0:
                cursor = start + len(content)
                spans.append((start, cursor))
            else:
                spans.append(None)
        return tuple(spans)

    def frame(self, roles: tuple[str, ...]) -> list[str] | None:
        """What the template writes before, between and after messages of these roles; None if that
        cannot be told.
        """
        if roles not in self._frames:
            marks = [f"Gloss{i}Content" for i in range(len(roles))]
            messages = [
                {"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)
            ]
            rest, pieces = self._apply_template(messages, "chat"), []
            for mark in marks:
                before, found, rest = rest.partition(mark)
                pieces.append(before if found else None)
            complete = [piece for piece in pieces if piece is not None]
            self._frames[roles] = [*complete, rest] if len(complete) == len(roles) else None
        return self._frames[roles]

    def _tokenize(self, texts: list[str], add_special: bool) -> list[_Tokens]:
        """Tokens of each text, of long ones only of a beginning that holds the ``max_tokens`` kept
        ones.
        """
        chars = _FIRST_CUT_CHARS_PER_TOKEN * self.max_tokens + _MARGIN_CHARS
        tokenized = self._tokenize_whole([_beginning(text, chars) for text in texts], add_special)
        for i, text in enumerate(texts):
            size = chars
            while size < len(text) and not self._holds_enough(tokenized[i], size):
                size *= _CUT_GROWTH
                tokenized[i] = self._tokenize_whole([_beginning(text, size)], add_special)[0]
        return tokenized

    def _holds_enough(self, tokens: _Tokens, size: int) -> bool:
        """Whether the kept tokens end so far before the cut at ``size`` characters that it cannot
        have changed them.
        """
        ids, offsets = tokens
        if len(ids) < self.max_tokens + _MARGIN_TOKENS:
            return False
        return (
            offsets is None
            or max(end for _, end in offsets[: self.max_tokens]) <= size - _MARGIN_CHARS // 2
        )

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
        self,
        doc_id: str,
        text: str,
        spans: _Spans,
        ids: Sequence[int],
        offsets: Sequence[tuple[int, int]] | None,
    ) -> EncodedDocument:
        kept = np.asarray(ids[: self.max_tokens], dtype=np.int64)
        excluded = {i for i, token in enumerate(kept.tolist()) if token in self.special_ids}
        if offsets is None:
            return EncodedDocument(doc_id, text, kept, None, None, frozenset(excluded))
        bounds = np.asarray(offsets[: self.max_tokens], dtype=np.int64).reshape(-1, 2)
        starts, ends = bounds[:, 0], bounds[:, 1]
        if spans is not None:
            inside = np.zeros(len(kept), dtype=bool)
            for first, last in spans:
                inside |= (starts >= first) & (ends <= last) & (ends > first)
            excluded |= set(np.flatnonzero(~inside).tolist())
        return EncodedDocument(doc_id, text, kept, starts, ends, frozenset(excluded))


def special_token_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of special tokens: the named ones, and added ones that are marked as special."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return frozenset(tokenizer.all_special_ids) | {
        int(i) for i, token in added.items() if token.special
    }


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
