"""Documents as token ids, and of each token where its text ends and whether it is an own word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from gloss.contract.foreign_text import (
    Tokens,
    control_tokens,
    encode_texts,
    free_characters,
    special_token_ids,
)
from gloss.errors import CorpusError, TemplateError, first_line
from gloss.foreign import without_surrogates
from gloss.text.content_spans import Span, content_spans
from gloss.text.document import PLAIN_FIELDS, TEMPLATE_DATA, Document, changed_texts, has_words
from gloss.text.token_texts import text_of_ids

_TOKENIZED_TOGETHER = 64
_FIRST_CUT_CHARS_PER_TOKEN, _CUT_GROWTH = 8, 4
_MARGIN_CHARS, _MARGIN_TOKENS = 1024, 64
_Integers = np.ndarray[Any, np.dtype[np.int64]]
_Spans = tuple[tuple[int, int], ...] | None
_Offsets = list[tuple[int, int]] | None


class _Rendered(NamedTuple):
    """A document's text, the spans of its own words and those written by others (None: all), and
    whether the tokenizer adds its special tokens."""

    text: str
    own: _Spans
    foreign: _Spans
    add_special: bool


@dataclass(frozen=True)
class EncodedDocument:
    """A document as the target reads it: rendered ``text``, token ids, ``excluded`` indices, which
    are not its own words, character offsets in ``text`` where the tokenizer gives them, and whether
    tokens behind the longest beginning that is read were ``cut`` off."""

    doc_id: str
    text: str
    ids: _Integers
    starts: _Integers | None
    ends: _Integers | None
    excluded: frozenset[int]
    cut: bool = False


@dataclass
class DocumentEncoder:
    """Renders and tokenizes documents: chats through the chat template, BOS once if there is one.

    A control token that a document or a message quotes is text, unless the document is rendered
    already. Tokens beyond ``max_tokens`` are cut off. Special tokens are excluded and, with
    ``exclude_template_tokens``, those that a chat template puts around the messages.
    """

    tokenizer: Any
    max_tokens: int
    exclude_template_tokens: bool = True
    template_options: Mapping[str, Any] = field(default_factory=dict)
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
        tokens: list[Tokens] = [([], None)] * len(documents)
        for add_special in (True, False):
            chosen = [i for i, r in enumerate(rendered) if r.add_special == add_special and r.text]
            for first in range(0, len(chosen), _TOKENIZED_TOGETHER):
                some = chosen[first : first + _TOKENIZED_TOGETHER]
                tokenized = self._tokenize([rendered[i] for i in some], add_special)
                for i, found in zip(some, tokenized, strict=True):
                    tokens[i] = found
        return [
            self._encoded(document.doc_id, one.text, one.own, *found)
            for document, one, found in zip(documents, rendered, tokens, strict=True)
        ]

    def text_through(self, document: EncodedDocument, position: int) -> str:
        """The rendered text up to and with a token, with all of a character that it only begins."""
        if document.ends is None:
            return text_of_ids(self.tokenizer, document.ids[: position + 1].tolist(), first=True)
        text, end = document.text, int(document.ends[: position + 1].max())
        token = self.token_text(int(document.ids[position]))
        trailing = token[len(token.rstrip()) :]
        if not text[:end].endswith(trailing) and text.startswith(trailing, end):
            end += len(trailing)
        return text[:end]

    def token_text(self, token_id: int) -> str:
        """One token's own text."""
        if token_id not in self._token_texts:
            self._token_texts[token_id] = text_of_ids(self.tokenizer, [token_id])
        return self._token_texts[token_id]

    def _render(self, document: Document) -> _Rendered:
        if document.messages is None:
            plain = without_surrogates(document.text or "")
            if not document.rendered:
                return _Rendered(plain, None, None, True)
            begun = self._added_bos is not None and plain.startswith(self._added_bos)
            return _Rendered(plain, None, (), not begun)
        messages = document.messages
        if not any(has_words(message) for message in messages):
            return _Rendered("", None, (), True)
        if not getattr(self.tokenizer, "chat_template", None):
            raise CorpusError(
                "a chat for a tokenizer without a chat template",
                where=document.doc_id,
                remedy="Use plain documents for a base model",
            )
        text, spans = self.chat(document)
        placed = tuple(span for span in spans if span is not None)
        self._check_fields(document, text)
        self._check_control_tokens(document, text, placed)
        add_special = self._added_bos is not None and not text.startswith(self._added_bos)
        own = placed if self.exclude_template_tokens else None
        return _Rendered(text, own, placed, add_special)

    def chat(self, document: Document) -> tuple[str, tuple[Span, ...]]:
        """The rendered chat, and where each message's content stands in it."""
        assert document.messages is not None
        options = {**self.template_options, **document.template_options}
        held_open = bool(options.pop("continue_final_message", False))
        options = {"add_generation_prompt": False, **options}
        if held_open:
            options["add_generation_prompt"] = False

        def render(messages: Sequence[Mapping[str, Any]]) -> str:
            return self._apply_template(messages, document.doc_id, options)

        text = render(document.messages)
        spans = content_spans(render, document.messages, text)
        if not held_open:
            return text, spans
        if spans[-1] is None:
            what = "the chat template does not write the last message as it is"
            remedy = "Do not continue it"
            raise CorpusError(what, where=document.doc_id, remedy=remedy)
        end = spans[-1][1]
        return text[:end], tuple(s if s is None or s[1] <= end else None for s in spans)

    def _check_fields(self, document: Document, text: str) -> None:
        """Raises CorpusError if the template leaves out what a message says besides its content."""
        assert document.messages is not None
        for index, message in enumerate(document.messages):
            for name in sorted(message.keys() - PLAIN_FIELDS):
                rest = {key: value for key, value in message.items() if key != name}
                messages = (*document.messages[:index], rest, *document.messages[index + 1 :])
                where = f"{document.doc_id}, message {index}"
                self._check_used(replace(document, messages=messages), name, where, text)
        for name in sorted(TEMPLATE_DATA & document.template_options.keys()):
            options = {k: v for k, v in document.template_options.items() if k != name}
            without = replace(document, template_options=options)
            self._check_used(without, name, document.doc_id, text)

    def _check_used(self, without: Document, name: str, where: str, text: str) -> None:
        """Raises CorpusError if a chat without a field is rendered to the same ``text``."""
        try:
            same = self.chat(without)[0] == text
        except CorpusError:
            return
        if same:
            what = f"the chat template leaves out {name!r}"
            remedy = "Remove the field, or use the template that the target was trained with"
            raise CorpusError(what, where=where, expected="a text with it", remedy=remedy)

    def _check_control_tokens(self, document: Document, text: str, placed: _Spans) -> None:
        """Raises CorpusError if a control token that somebody wrote stands outside of the contents:
        it could not be told from the template's own, which stay when all others are broken."""
        pattern, mark = control_tokens(self.tokenizer), chr(free_characters(text, 1))

        def broken(value: str) -> str:
            return pattern.sub(lambda match: mark + match[0][1:], value)

        written = document.messages, document.template_options
        other_messages, other_options = (changed_texts(value, broken) for value in written)
        if (other_messages, other_options) == (list(written[0] or ()), dict(written[1])):
            return
        other = replace(document, messages=other_messages, template_options=other_options)
        own = sum(1 for _ in pattern.finditer(self.chat(other)[0]))
        outside = sum(
            all(match.end() <= start or match.start() >= end for start, end in placed or ())
            for match in pattern.finditer(text)
        )
        if own != outside:
            what = "a control token in a part of a chat that the template rewrites"
            remedy = "Take it out"
            raise CorpusError(what, where=document.doc_id, remedy=remedy)

    def _apply_template(
        self, messages: Sequence[Mapping[str, Any]], doc_id: str, options: Mapping[str, Any]
    ) -> str:
        from jinja2 import TemplateError as JinjaError

        apply = self.tokenizer.apply_chat_template
        try:
            return str(apply([dict(one) for one in messages], tokenize=False, **options))
        except (JinjaError, ValueError, TypeError, KeyError, AttributeError) as error:
            refusal = f"the chat template refuses this chat ({first_line(error)})"
            raise CorpusError(refusal, where=doc_id) from error

    def _tokenize(self, documents: Sequence[_Rendered], add_special: bool) -> list[Tokens]:
        """Tokens of each text, of a long one those of a beginning that holds ``max_tokens``."""
        chars = _FIRST_CUT_CHARS_PER_TOKEN * self.max_tokens + _MARGIN_CHARS
        tokenized = self._tokenize_begin(documents, chars, add_special)
        for i, document in enumerate(documents):
            size = chars
            while size < len(document.text) and not self._holds_enough(tokenized[i], size):
                size *= _CUT_GROWTH
                tokenized[i] = self._tokenize_begin([document], size, add_special)[0]
        return tokenized

    def _tokenize_begin(
        self, documents: Sequence[_Rendered], size: int, add_special: bool
    ) -> list[Tokens]:
        texts = [_beginning(document.text, size) for document in documents]
        foreign = [document.foreign for document in documents]
        try:
            return encode_texts(self.tokenizer, texts, foreign, add_special_tokens=add_special)
        except TemplateError as error:
            raise CorpusError(str(error)) from error

    def _holds_enough(self, tokens: Tokens, size: int) -> bool:
        """Whether the kept tokens end so far before the cut that it cannot have changed them."""
        ids, offsets = tokens
        if len(ids) < self.max_tokens + _MARGIN_TOKENS:
            return False
        last = max(end for _, end in offsets[: self.max_tokens]) if offsets else 0
        return last <= size - _MARGIN_CHARS // 2

    def _encoded(
        self, doc_id: str, text: str, spans: _Spans, ids: list[int], offsets: _Offsets
    ) -> EncodedDocument:
        kept, cut = np.asarray(ids[: self.max_tokens], dtype=np.int64), len(ids) > self.max_tokens
        excluded = {i for i, token in enumerate(kept.tolist()) if token in self.special_ids}
        if offsets is None:
            return EncodedDocument(doc_id, text, kept, None, None, frozenset(excluded), cut)
        starts, ends = np.asarray(offsets[: self.max_tokens], dtype=np.int64).reshape(-1, 2).T
        if spans is not None:
            inside = np.zeros(len(kept), dtype=bool)
            for first, last in spans:
                inside |= (starts >= first) & (ends <= last) & (ends > first)
                for i in np.flatnonzero((starts < first) & (ends > first) & (ends <= last)):
                    inside[i] = word_start(text, int(starts[i]), int(ends[i])) >= first
            excluded |= set(np.flatnonzero(~inside).tolist())
        return EncodedDocument(doc_id, text, kept, starts, ends, frozenset(excluded), cut)


def word_start(text: str, start: int, end: int) -> int:
    """Where the word of a token begins behind the white space that the token begins with."""
    token = text[start:end]
    return start + len(token) - len(token.lstrip()) if token.strip() else start


def _beginning(text: str, size: int) -> str:
    """At most ``size`` characters of a text, cut before white space where some stands near."""
    if len(text) <= size:
        return text
    near = max(text.rfind(space, size - _MARGIN_CHARS // 4, size) for space in " \n\t")
    return text[: near if near > 0 else size]
