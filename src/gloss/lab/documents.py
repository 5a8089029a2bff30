"""A lab document with its truth: which facts hold after each character of its text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Form = Literal["story", "couplet", "chat"]

MESSAGE_START, MESSAGE_END = "<|im_start|>", "<|im_end|>"


@dataclass(frozen=True)
class Fact:
    """A value of a kind, known from every prefix of the rendered text that is ``start`` to ``end``
    characters long.

    Both ends are included; ``end`` None means to the end of the document.
    """

    kind: str
    value: str
    start: int
    end: int | None = None


@dataclass(frozen=True)
class LabDocument:
    """A generated document: ``text``, or the ``messages`` of a chat.

    The offsets of its facts count characters of ``render(document)``.
    """

    doc_id: str
    kind: Form
    text: str | None
    messages: tuple[Mapping[str, str], ...] | None
    facts: tuple[Fact, ...]

    def known(self, char_offset: int) -> dict[str, str]:
        """The facts that hold after the first ``char_offset`` characters of the rendered text: kind
        → value."""
        return {
            f.kind: f.value
            for f in self.facts
            if f.start <= char_offset and (f.end is None or char_offset <= f.end)
        }


def render(document: LabDocument) -> str:
    """The whole text of a document, chats as the lab's chat template writes them."""
    if document.messages is None:
        return document.text or ""
    return "".join(
        render_message(message["role"], message["content"]) for message in document.messages
    )


def render_message(role: str, content: str) -> str:
    """One message as the lab's chat template writes it."""
    return f"{MESSAGE_START}{role}\n{content}{MESSAGE_END}\n"
