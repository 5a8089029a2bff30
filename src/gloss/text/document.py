"""A document: a plain text, or the messages of a chat."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gloss.errors import CorpusError

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Document:
    """A document: plain ``text``, or the ``messages`` (role and content) of a chat."""

    doc_id: str
    text: str | None
    messages: tuple[Mapping[str, str], ...] | None = None


def chat_messages(messages: Any, where: str) -> tuple[Mapping[str, str], ...]:
    """The messages of a chat, as roles and contents.

    Raises: CorpusError that names ``where`` if they are none.
    """
    for message in messages if isinstance(messages, list) else [None]:
        fields = (
            (message.get("role"), message.get("content"))
            if isinstance(message, dict)
            else (None, None)
        )
        if not all(isinstance(field, str) for field in fields):
            raise CorpusError(
                "not a chat",
                where=where,
                expected="messages with role and content, both strings",
                found=repr(message)[:80],
            )
    return tuple(
        {"role": clean_text(m["role"]), "content": clean_text(m["content"])} for m in messages
    )


def clean_text(text: str) -> str:
    """The text with lone surrogates, which no tokenizer or file takes, replaced by U+FFFD; the
    length stays.
    """
    return _LONE_SURROGATE.sub("\ufffd", text)
