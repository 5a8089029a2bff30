"""A document: a plain text, or the messages of a chat."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gloss.errors import CorpusError, first_line
from gloss.foreign import without_surrogates


@dataclass(frozen=True)
class Document:
    """Plain ``text``, or ``messages`` (role, content, perhaps channel) with template options."""

    doc_id: str
    text: str | None
    messages: tuple[Mapping[str, str], ...] | None = None
    template_options: Mapping[str, Any] = field(default_factory=dict)


def chat_messages(messages: Any, where: str) -> tuple[Mapping[str, str], ...]:
    """Role, content and, where one is named, channel of each message of a chat.

    Raises: CorpusError that names ``where`` if they are none.
    """
    for message in messages if isinstance(messages, list | tuple) else [None]:
        known = message if isinstance(message, Mapping) else {}
        if not all(isinstance(known.get(name), str) for name in ("role", "content")):
            raise CorpusError(
                "not a chat",
                where=where,
                expected="messages with role and content, both strings",
                found=repr(message)[:80],
            )
    return tuple(
        {
            name: clean_text(message[name])
            for name in ("role", "content", "channel")
            if isinstance(message.get(name), str)
        }
        for message in messages
    )


def load_transcript(path: Path | str) -> Document:
    """The chat in a JSON file: a list of messages, or an object that holds one as ``messages``.

    Raises: CorpusError if it is neither.
    """
    path = Path(path)
    value = read_json_file(path)
    messages = value.get("messages") if isinstance(value, dict) else value
    return Document(clean_text(path.stem), None, chat_messages(messages, str(path)))


def read_json_file(path: Path) -> Any:
    """The value in a JSON file of the user's. Raises: CorpusError if it is missing or no JSON."""
    try:
        return json_value(path.read_text(encoding="utf-8"), where=path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise CorpusError(f"cannot be read ({reason})", where=path) from error


def json_value(text: str, *, where: object) -> Any:
    """The value of a JSON text from elsewhere. Raises: CorpusError if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"not JSON ({first_line(error)})", where=where) from error


def clean_text(text: str) -> str:
    """The text with lone surrogates, which no tokenizer or file takes, replaced by U+FFFD."""
    return without_surrogates(text)
