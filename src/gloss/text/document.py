"""A document: a plain text, or the messages of a chat."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gloss.errors import CorpusError, first_line
from gloss.foreign import shown, without_surrogates
from gloss.text.text_files import read_text_file

PLAIN_FIELDS = frozenset({"role", "content", "channel", "id", "tool_call_id"})
"""Fields of a message that a template may leave out: they say nothing, or are kept beside it."""
TEMPLATE_DATA = frozenset({"tools", "documents"})
"""What stands beside the messages of a chat and is written into its text."""


@dataclass(frozen=True)
class Document:
    """Plain ``text``, or ``messages`` with template options.

    A message has a role, its content, and whatever else the chat template is to be given, such as
    ``reasoning_content`` or ``tool_calls``. Control tokens in a plain text are text, unless it is
    ``rendered``: what a chat template wrote.
    """

    doc_id: str
    text: str | None
    messages: tuple[Mapping[str, Any], ...] | None = None
    template_options: Mapping[str, Any] = field(default_factory=dict)
    rendered: bool = False


def chat_messages(messages: Any, where: str) -> tuple[Mapping[str, Any], ...]:
    """The messages of a chat, cleaned: content as one text, empty fields left out.

    Raises: CorpusError that names ``where`` if they are none.
    """
    return tuple(
        _message(message, where)
        for message in (messages if isinstance(messages, list | tuple) else [None])
    )


def _message(message: Any, where: str) -> Mapping[str, Any]:
    known = message if isinstance(message, Mapping) else {}
    if not _is_json(known):
        raise _no_chat(where, message)
    fields = {name: clean_value(value) for name, value in known.items() if value not in _EMPTY}
    fields |= {name: known[name] for name in ("content",) if known.get(name) == ""}
    if isinstance(parts := fields.get("content"), list):
        fields["content"] = _joined(parts, where)
    said = fields.keys() - PLAIN_FIELDS or isinstance(fields.get("content"), str)
    typed = all(isinstance(fields.get(name, ""), str) for name in ("content", "channel"))
    if not (isinstance(fields.get("role"), str) and typed and said):
        raise _no_chat(where, message)
    return fields if "content" in fields else {**fields, "content": None}


def _no_chat(where: str, found: Any) -> CorpusError:
    expected = "messages with role and content, both strings"
    return CorpusError("not a chat", where=where, expected=expected, found=shown(found))


_EMPTY: tuple[Any, ...] = (None, "", [], {})


def _is_json(value: Any) -> bool:
    """Whether JSON knows its type, and so every template."""
    if isinstance(value, Mapping):
        return all(isinstance(name, str) for name in value) and all(map(_is_json, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    return value is None or isinstance(value, str | int | float)


def _joined(parts: Sequence[Any], where: str) -> str:
    """The text of a content that comes in parts."""
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    for part, text in zip(parts, texts, strict=True):
        if not isinstance(text, str):
            raise _no_chat(where, part)
    return "".join(text for text in texts if text is not None)


def has_words(message: Mapping[str, Any]) -> bool:
    """Whether a message says anything."""
    content = message.get("content")
    return bool((isinstance(content, str) and content.strip()) or message.keys() - PLAIN_FIELDS)


def changed_texts(value: Any, change: Callable[[str], str]) -> Any:
    """A value of JSON with every text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(str(name)): changed_texts(one, change) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [changed_texts(one, change) for one in value]
    return value


def clean_value(value: Any) -> Any:
    """A value of JSON without half characters."""
    return changed_texts(value, without_surrogates)


def chat_document(doc_id: str, value: Any, where: str) -> Document:
    """The chat in a value of JSON: a list of messages, or an object that holds one as ``messages``,
    perhaps with ``tools``, ``documents`` and ``chat_template_kwargs`` beside it.

    Raises: CorpusError if it is neither.
    """
    fields = value if isinstance(value, Mapping) else {"messages": value}
    options = {name: clean_value(fields[name]) for name in TEMPLATE_DATA if fields.get(name)}
    further = fields.get("chat_template_kwargs")
    options |= further if isinstance(further, Mapping) else {}
    return Document(doc_id, None, chat_messages(fields.get("messages"), where), options)


def load_transcript(path: Path | str) -> Document:
    """The chat in a JSON file, as ``chat_document`` reads it.

    Raises: CorpusError if there is none.
    """
    path = Path(path)
    return chat_document(without_surrogates(path.stem), read_json_file(path), str(path))


def read_json_file(path: Path) -> Any:
    """The value in a JSON file of the user's. Raises: CorpusError if it is missing or no JSON."""
    return json_value(read_text_file(path), where=path)


def json_value(text: str, *, where: object) -> Any:
    """The value of a JSON text from elsewhere.

    Raises: CorpusError if it is none, or if an object has one key twice."""
    try:
        return json.loads(text, object_pairs_hook=_each_key_once)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"not JSON ({first_line(error)})", where=where) from error


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the key {twice[:80]!r} more than once")
    return found
