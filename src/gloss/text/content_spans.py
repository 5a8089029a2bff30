"""Where the content of each message stands in a rendered chat: found by rendering it again.

A mark (a private character) is put into a content and the chat is rendered once more. If the render
is the same but for the mark, the mark stands where that place of the content went. Nothing is ever
searched for: a template may trim a content, cut it, move it, or write the same words itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gloss.contract.foreign_text import free_characters
from gloss.errors import CorpusError

Message = Mapping[str, Any]
Render = Callable[[Sequence[Message]], str]
Span = tuple[int, int] | None

_MOST_MARKED = 2**14
_PROBES = 16


def content_spans(render: Render, messages: Sequence[Message], text: str) -> tuple[Span, ...]:
    """Where each message's content stands in ``text``, the render of ``messages``; None for one
    that has none or that the template leaves out or rewrites.

    ``render`` may raise for a chat with marks; then nothing is known of what they mark."""
    contents = [_content(message) for message in messages]
    trimmed = [_core(content) for content in contents]
    count = 2 * min(len(messages), _MOST_MARKED)
    mark = free_characters("".join([text, *contents]), count)
    spans = _marked_together(render, messages, trimmed, text, mark)
    if spans is None:
        found = (_Content(render, messages, index, text, mark) for index in range(len(messages)))
        return tuple(one.span() for one in found)
    return tuple(
        _Content(render, messages, index, text, mark).widened(span) if _has_edges(content) else span
        for index, (content, span) in enumerate(zip(contents, spans, strict=True))
    )


def _content(message: Message) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else ""


def _core(content: str) -> tuple[int, int]:
    """The content without white space at its ends; all of one that is nothing else."""
    start = len(content) - len(content.lstrip())
    end = len(content.rstrip())
    return (start, end) if start < end else (0, 0)


def _has_edges(content: str) -> bool:
    return bool(content.strip()) and content.strip() != content


def _with_content(messages: Sequence[Message], index: int, content: str) -> list[Message]:
    return [
        {**message, "content": content} if i == index else message
        for i, message in enumerate(messages)
    ]


def _marked_together(
    render: Render,
    messages: Sequence[Message],
    cores: Sequence[tuple[int, int]],
    text: str,
    mark: int,
) -> list[Span] | None:
    """The spans if one render with all contents marked, by two characters from ``mark`` on each,
    says it all, else None."""
    if len(messages) > _MOST_MARKED:
        return None
    marked = []
    for index, (message, (start, end)) in enumerate(zip(messages, cores, strict=True)):
        content = message.get("content")
        if isinstance(content, str):
            first, last = chr(mark + 2 * index), chr(mark + 2 * index + 1)
            content = content[:start] + first + content[start:end] + last + content[end:]
        marked.append({**message, "content": content})
    rendered = _rendered(render, marked)
    if rendered is None:
        return None
    places, plain = dict[int, int](), list[str]()
    for char in rendered:
        if mark <= ord(char) < mark + 2 * len(messages):
            places.setdefault(ord(char) - mark, len(plain))
        else:
            plain.append(char)
    if "".join(plain) != text or any((place ^ 1) not in places for place in places):
        return None
    spans = [
        (places[2 * index], places[2 * index + 1]) if 2 * index in places else None
        for index in range(len(messages))
    ]
    return spans if all(span is None or span[0] <= span[1] for span in spans) else None


def _rendered(render: Render, messages: Sequence[Message]) -> str | None:
    try:
        return render(messages)
    except CorpusError:
        return None


class _Content:
    """One message's content, asked place by place where it went."""

    def __init__(
        self, render: Render, messages: Sequence[Message], index: int, text: str, mark: int
    ) -> None:
        self._render, self._messages, self._index, self._text = render, messages, index, text
        self._mark = chr(mark)
        self._content = _content(messages[index])
        self._known: dict[int, int | None] = {}

    def span(self) -> Span:
        """Where the part of the content that was rendered stands."""
        length = len(self._content)
        if not isinstance(self._messages[self._index].get("content"), str):
            return None
        start, end = _core(self._content)
        places = sorted({start, end, *(length * n // _PROBES for n in range(_PROBES + 1))})
        there = [place for place in places if self.place(place) is not None]
        if not there:
            return None
        first = self._edge(there[0], before=[p for p in places if p < there[0]][-1:])
        last = self._edge(there[-1], before=[p for p in places if p > there[-1]][:1])
        a, b = self.place(first), self.place(last)
        return (a, b) if a is not None and b is not None and a <= b else None

    def widened(self, span: Span) -> Span:
        """A span with the white space at the content's ends, where the template keeps it."""
        first, last = self.place(0), self.place(len(self._content))
        if span is None:
            return None
        return (
            span[0] if first is None or first > span[0] else first,
            span[1] if last is None or last < span[1] else last,
        )

    def place(self, offset: int) -> int | None:
        """Where a place of the content went; None if it did not."""
        if offset not in self._known:
            mark, content = self._mark, self._content
            marked = content[:offset] + mark + content[offset:]
            messages = _with_content(self._messages, self._index, marked)
            rendered = _rendered(self._render, messages) or ""
            at = rendered.find(mark)
            same = at >= 0 and rendered.replace(mark, "") == self._text
            self._known[offset] = at if same else None
        return self._known[offset]

    def _edge(self, there: int, before: list[int]) -> int:
        """The outermost place that went into the render, between one that did and one that did
        not."""
        outside = before[0] if before else there
        while abs(there - outside) > 1:
            middle = (there + outside) // 2
            if self.place(middle) is None:
                outside = middle
            else:
                there = middle
        return there
