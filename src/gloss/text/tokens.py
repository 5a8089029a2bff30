"""The tokens of a text or a chat with message, role and section, and the choice of some of them.

<|im_start|>user\\n  hello there  <|im_end|>\\n
     header           content        footer          (in no message, as a BOS: scaffold)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, takewhile
from typing import Any, NamedTuple, TypeVar

from gloss.errors import CorpusError, PositionError
from gloss.text.document import Document
from gloss.text.patterns import Pattern
from gloss.text.positions import check_selection
from gloss.text.rendering import DocumentEncoder, EncodedDocument, word_start
from gloss.text.token_texts import text_of_ids

Item = TypeVar("Item")
CONTENT, HEADER, FOOTER, SCAFFOLD = "content", "header", "footer", "scaffold"
ANSWERER = "assistant"
_UNBOUNDED = 1 << 20
_LONGEST_GLYPH = 16
"""Tokens that are waited for while a character is unfinished: it may be cut into one for each byte
of its UTF-8, and each of these may hold a part of the next one."""
_UNFINISHED = "\ufffd"


@dataclass(frozen=True, kw_only=True)
class ReadToken:
    """One token, at characters ``start`` … ``end`` of the text; of a glyph that several tokens make
    up, each shows the whole glyph.

    ``section`` is header, content, footer or scaffold of a chat; in a plain text None, and scaffold
    for a token without characters (BOS).
    """

    token: str
    token_id: int
    position: int
    fragment_index: int = 0
    fragment_count: int = 1
    role: str | None = None
    section: str | None = None
    channel: str | None = None
    message_index: int | None = None
    start: int = 0
    end: int = 0

    @property
    def is_content(self) -> bool:
        """Whether it is one of the text's own words rather than of a template."""
        return self.section in (None, CONTENT)


@dataclass(frozen=True)
class ReadText:
    """A text as the target reads it, and its tokens."""

    doc_id: str
    text: str
    tokens: tuple[ReadToken, ...]
    messages: tuple[Mapping[str, Any], ...] | None

    @property
    def token_ids(self) -> list[int]:
        """The ids of its tokens."""
        return [token.token_id for token in self.tokens]


class _Part(NamedTuple):
    """Characters start … end of the rendered text, and what they are."""

    start: int
    end: int
    section: str | None
    message_index: int | None
    role: str | None = None


def read_tokens(tokenizer: Any, document: Document, *, max_tokens: int | None = None) -> ReadText:
    """The tokens of a text or a chat as a target reads it.

    Raises: CorpusError if it is empty, longer than ``max_tokens``, or the tokenizer cannot render a
    chat or does not say where its tokens stand."""
    longest = max_tokens or _UNBOUNDED
    encoder = DocumentEncoder(tokenizer, longest + 1)
    encoded = encoder.encode([document])[0]
    if not len(encoded.ids):
        raise CorpusError("the text is empty", where=document.doc_id, expected="at least one token")
    if len(encoded.ids) > longest:
        raise CorpusError(
            "too long for the target",
            where=document.doc_id,
            expected=f"at most {longest} tokens",
            remedy="Shorten it, or read it in parts",
        )
    messages = document.messages
    if encoded.starts is not None:
        parts = [] if messages is None else _parts(encoder, document, encoded.text)
        tokens, text = _tokens(encoder, encoded, parts, messages), encoded.text
    elif messages is None:
        tokens = glyph_tokens(tokenizer, encoded.ids.tolist())
        text = text_of_tokens(tokens)
    else:
        what = "this tokenizer does not say where its tokens stand"
        raise CorpusError(what, where=document.doc_id, expected="a fast tokenizer")
    return ReadText(document.doc_id, text, tuple(tokens), messages)


def text_of_tokens(tokens: Iterable[ReadToken]) -> str:
    """Their text: a glyph of several tokens once."""
    return "".join(token.token for token in tokens if not token.fragment_index)


def choose_tokens(read: ReadText, selection: str) -> list[int]:
    """Positions that a selection names: all (template tokens too), or of the content of each
    message the last token, every:N-th, or those that a match of regex:PATTERN touches.

    Raises: PositionError for another selection, or one that takes nothing.
    """
    check_selection(selection)
    kind, _, argument = selection.partition(":")
    contents = [
        list(group)
        for key, group in groupby(read.tokens, key=lambda t: (t.message_index, t.is_content))
        if key[1]
    ]
    if selection == "all":
        chosen = list(read.tokens)
    elif selection == "last":
        chosen = [tokens[-1] for tokens in contents]
    elif kind == "every":
        step = int(argument)
        chosen = [token for tokens in contents for token in tokens[step - 1 :: step]]
    else:
        spans = _matches(read, contents, argument)
        inside = [token for tokens in contents for token in tokens]
        chosen = [t for t in inside if any(t.start < end and t.end > start for start, end in spans)]
    if not chosen:
        found = f"{selection!r} takes none"
        raise PositionError("no token is selected", where=read.doc_id, found=found)
    return [token.position for token in chosen]


def thin_out(items: Sequence[Item], budget: int | None) -> list[Item]:
    """At most ``budget`` of the items, evenly spread, the first and the last among them."""
    if budget is None or len(items) <= budget:
        return list(items)
    if budget == 1:
        return [items[-1]]
    return [items[round(i * (len(items) - 1) / (budget - 1))] for i in range(budget)]


def _matches(
    read: ReadText, contents: Sequence[Sequence[ReadToken]], pattern: str
) -> list[tuple[int, int]]:
    """Where the pattern matches inside each content, in characters of the whole text."""
    starts = [tokens[0].start for tokens in contents]
    texts = [read.text[tokens[0].start : tokens[-1].end] for tokens in contents]
    found = zip(starts, Pattern(pattern, PositionError).spans(texts), strict=True)
    return [(first + start, first + end) for first, spans in found for start, end in spans]


def _tokens(
    encoder: DocumentEncoder,
    encoded: EncodedDocument,
    parts: Sequence[_Part],
    messages: Sequence[Mapping[str, Any]] | None,
) -> list[ReadToken]:
    assert encoded.starts is not None
    assert encoded.ends is not None
    ids, tokens = encoded.ids.tolist(), list[ReadToken]()
    bounds = list(zip(encoded.starts.tolist(), encoded.ends.tolist(), strict=True))
    for run in _glyph_runs(bounds):
        start, end = bounds[run[0]][0], max(bounds[position][1] for position in run)
        part = _part_of(parts, word_start(encoded.text, start, end), end)
        message_index = part.message_index
        message = {} if messages is None or message_index is None else messages[message_index]
        tokens += [
            ReadToken(
                token=encoder.token_text(ids[position])
                if len(run) == 1
                else encoded.text[start:end],
                token_id=ids[position],
                position=position,
                fragment_index=index,
                fragment_count=len(run),
                role=message.get("role", part.role),
                section=part.section,
                channel=message.get("channel"),
                message_index=message_index,
                start=start,
                end=end,
            )
            for index, position in enumerate(run)
        ]
    return tokens


def _glyph_runs(bounds: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Positions by what is shown whole: tokens that share a character belong together."""
    runs: list[list[int]] = []
    reached = -1
    for position, (start, end) in enumerate(bounds):
        if runs and start < end and start < reached:
            runs[-1].append(position)
        else:
            runs.append([position])
        reached = max(reached, end) if start < end else reached
    return runs


class GlyphMerger:
    """Token ids that come one by one as tokens to be shown, those of one character together.

    ``position`` and ``start`` are those of the first token; ``role`` is who writes a chat's answer.
    """

    def __init__(
        self, tokenizer: Any, *, position: int = 0, start: int = 0, role: str | None = None
    ) -> None:
        self._tokenizer, self._position, self._start, self._role = tokenizer, position, start, role
        self._pending: list[int] = []

    def push(self, token_id: int) -> Iterator[ReadToken]:
        """The tokens that can be shown now that ``token_id`` is there."""
        self._pending.append(token_id)
        yield from self.finish(at_end=False)

    def finish(self, *, at_end: bool = True) -> Iterator[ReadToken]:
        """The rest; unless ``at_end`` without a glyph that may still be completed."""
        while self._pending:
            sizes = range(1, len(self._pending) + 1)
            size = next((n for n in sizes if _UNFINISHED not in self._text(n)), None)
            if size is None and len(self._pending) < _LONGEST_GLYPH and not at_end:
                return
            yield from self._take(size or 1)

    def _take(self, size: int) -> Iterator[ReadToken]:
        text = self._text(size)
        end = self._start + len(text)
        for index in range(size):
            yield ReadToken(
                token=text,
                token_id=self._pending[index],
                position=self._position + index,
                fragment_index=index,
                fragment_count=size,
                role=self._role,
                section=None if self._role is None else CONTENT,
                start=self._start,
                end=end,
            )
        del self._pending[:size]
        self._position, self._start = self._position + size, end

    def _text(self, size: int) -> str:
        return text_of_ids(self._tokenizer, self._pending[:size], first=self._position == 0)


def glyph_tokens(tokenizer: Any, token_ids: Sequence[int], **first: Any) -> list[ReadToken]:
    """Token ids as tokens, a glyph of several shown whole; ``first`` goes to ``GlyphMerger``."""
    merger = GlyphMerger(tokenizer, **first)
    return [*(token for i in token_ids for token in merger.push(i)), *merger.finish()]


def _part_of(parts: Sequence[_Part], start: int, end: int) -> _Part:
    """The part in which a token's word begins; one without characters (BOS) is in none."""
    if end <= start or not parts:
        return _Part(start, end, SCAFFOLD if end <= start else None, None)
    return parts[bisect_right(parts, start, key=lambda one: one.start) - 1]


def _parts(encoder: DocumentEncoder, document: Document, text: str) -> list[_Part]:
    """The rendered chat cut into headers, contents, footers and scaffold, without gaps.

    What stands behind the last content of the closed chat is its footer; as much of it as comes
    back behind another content is that one's. A generation prompt is the header of an answer that
    is no message yet."""
    assert document.messages is not None
    options = {**document.template_options}
    opened = options.pop("add_generation_prompt", False)
    options.pop("continue_final_message", None)
    closed, spans = encoder.chat(replace(document, template_options=options))
    parts = _closed_parts(closed, spans, encoder.tokenizer.bos_token or "")
    if not text.startswith(closed):
        closed, spans = encoder.chat(document)
        if not closed.startswith(text):
            parts = _closed_parts(closed, spans, encoder.tokenizer.bos_token or "")
    if opened and len(text) > len(closed):
        parts.append(_Part(len(closed), len(text), HEADER, None, ANSWERER))
    cut = (part._replace(end=min(part.end, len(text))) for part in parts)
    return [part for part in cut if part.end > part.start]


def _closed_parts(text: str, spans: Sequence[tuple[int, int] | None], bos: str) -> list[_Part]:
    placed = sorted((*span, i) for i, span in enumerate(spans) if span is not None)
    if not placed:
        return [_Part(0, len(text), SCAFFOLD, None)]
    footer = text[placed[-1][1] :]
    parts: list[_Part] = []
    cursor, before = 0, -1
    for start, end, index in placed:
        gap = text[cursor:start]
        if before < 0:
            whole = footer.strip() and footer in gap
            cut = gap.rfind(footer) + len(footer) if whole else len(bos) * gap.startswith(bos)
            parts.append(_Part(0, cut, SCAFFOLD, None))
        else:
            alike = takewhile(lambda pair: pair[0] == pair[1], zip(gap, footer, strict=False))
            cut = cursor + sum(1 for _ in alike)
            parts.append(_Part(cursor, cut, FOOTER, before))
        header = (HEADER, index) if index == before + 1 else (SCAFFOLD, None)
        parts += [_Part(cut, start, *header), _Part(start, end, CONTENT, index)]
        cursor, before = end, index
    return [*parts, _Part(cursor, len(text), FOOTER, before)]
