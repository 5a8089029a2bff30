"""Documents as token ids, and of each token where its text ends and whether it is an own word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from gloss.contract.foreign_text import Tokens, encode_texts, special_token_ids
from gloss.errors import CorpusError, TemplateError, first_line
from gloss.foreign import without_surrogates
from gloss.text.content_spans import Span, content_spans
from gloss.text.document import PLAIN_FIELDS, TEMPLATE_DATA, Document, has_words
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

    @cached_property
    def _adds_eos(self) -> bool:
        ids = self.tokenizer.encode("a", add_special_tokens=True)
        return bool(ids) and ids[-1] == self.tokenizer.eos_token_id

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
        self._check_fields(document, text, spans)
        add_special = self._added_bos is not None and not text.startswith(self._added_bos)
        placed = tuple(span for span in spans if span is not None)
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

    def _check_fields(self, document: Document, text: str, spans: Sequence[Span]) -> None:
        """Raises CorpusError if the template leaves out what a message says besides its content, or
        writes it where a control token in it could not be told from the template's own."""
        assert document.messages is not None
        for index, message in enumerate(document.messages):
            where = f"{document.doc_id}, message {index}"
            for name in sorted(message.keys() - PLAIN_FIELDS):
                rest = {key: value for key, value in message.items() if key != name}
                messages = _replaced(document.messages, index, rest)
                self._check_used(replace(document, messages=tuple(messages)), name, where, text)
            hidden = dict(message) if spans[index] is None else message.keys() - {"content"}
            said = [s for name in hidden for s in _strings(message[name])]
            self._check_no_control_token(said, where)
        for name in sorted(TEMPLATE_DATA & document.template_options.keys()):
            options = {k: v for k, v in document.template_options.items() if k != name}
            without = replace(document, template_options=options)
            self._check_used(without, name, document.doc_id, text)
            said = list(_strings(document.template_options[name]))
            self._check_no_control_token(said, document.doc_id)

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

    def _check_no_control_token(self, strings: Sequence[str], where: str) -> None:
        special = [self.tokenizer.convert_ids_to_tokens(i) for i in self.special_ids]
        found = next((t for t in special for s in strings if t in s), None)
        if found is not None:
            what = "a control token in a part of a chat that the template rewrites"
            raise CorpusError(what, where=where, found=repr(found), remedy="Take it out")

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
            tokens = encode_texts(self.tokenizer, texts, foreign, add_special_tokens=add_special)
        except TemplateError as error:
            raise CorpusError(str(error)) from error
        return [self._without_eos(*one) for one in tokens] if add_special else tokens

    def _without_eos(self, ids: list[int], offsets: _Offsets) -> Tokens:
        """Without the end-of-text token that a tokenizer appends: no text of a model ends so while
        it is read."""
        if self._adds_eos and ids and ids[-1] == self.tokenizer.eos_token_id:
            return ids[:-1], None if offsets is None else offsets[:-1]
        return ids, offsets

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
        kept = np.asarray(ids[: self.max_tokens], dtype=np.int64)
        excluded = {i for i, token in enumerate(kept.tolist()) if token in self.special_ids}
        if offsets is None:
            return EncodedDocument(doc_id, text, kept, None, None, frozenset(excluded))
        starts, ends = np.asarray(offsets[: self.max_tokens], dtype=np.int64).reshape(-1, 2).T
        if spans is not None:
            inside = np.zeros(len(kept), dtype=bool)
            for first, last in spans:
                inside |= (starts >= first) & (ends <= last) & (ends > first)
                for i in np.flatnonzero((starts < first) & (ends > first) & (ends <= last)):
                    inside[i] = word_start(text, int(starts[i]), int(ends[i])) >= first
            excluded |= set(np.flatnonzero(~inside).tolist())
        return EncodedDocument(doc_id, text, kept, starts, ends, frozenset(excluded))


def _replaced(
    messages: Sequence[Mapping[str, Any]], index: int, message: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    return [message if i == index else other for i, other in enumerate(messages)]


def _strings(value: Any) -> Iterator[str]:
    """The texts in a value of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for pair in value.items() for one in pair for text in _strings(one))
    elif isinstance(value, list | tuple):
        yield from (text for one in value for text in _strings(one))


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
