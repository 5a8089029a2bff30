"""Texts and chats of requests as the target's tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gloss.errors import ConfigError
from gloss.nla import NLA
from gloss.serve.interop_models import TextRequest, TokenInfo
from gloss.text.document import Document, chat_messages, clean_text
from gloss.text.tokens import CONTENT, ReadText, read_tokens

_LONGEST_GLYPH = 4
"""Tokens that one character can be cut into: one for each byte of its UTF-8."""
_UNFINISHED = "\ufffd"


def read_source(nla: NLA, request: TextRequest) -> ReadText:
    """The tokens that a request means; its messages stand before its text.

    Raises: ConfigError if there is neither; CorpusError for a text that is empty, too long or
    refused by the chat template."""
    if request.messages is not None:
        messages = [
            {"role": message.role, "content": message.content} for message in request.messages
        ]
        options = _template_options(request)
        document = Document("messages", None, chat_messages(messages, "messages"), options)
    elif request.text is not None:
        document = Document("text", clean_text(request.text))
    else:
        raise ConfigError("nothing to read", expected="text or messages", found="neither")
    longest = getattr(nla.target.model.config.get_text_config(), "max_position_embeddings", None)
    return read_tokens(nla.target.tokenizer, document, max_tokens=longest)


def _template_options(request: TextRequest) -> dict[str, Any]:
    thinking = (
        {} if request.enable_thinking is None else {"enable_thinking": request.enable_thinking}
    )
    if request.continue_final_message:
        return {**thinking, "continue_final_message": True}
    return {**thinking, "add_generation_prompt": request.add_generation_prompt}


def token_infos(read: ReadText, request: TextRequest) -> list[TokenInfo]:
    """The tokens as a client sees them, with the channel of their message."""
    names = (
        "token",
        "token_id",
        "position",
        "fragment_index",
        "fragment_count",
        "role",
        "section",
        "message_index",
    )
    messages = request.messages or []
    infos = []
    for token in read.tokens:
        of_message = messages[token.message_index] if token.message_index is not None else None
        values = {name: getattr(token, name) for name in names}
        infos.append(TokenInfo(**values, channel=of_message.channel if of_message else None))
    if request.messages is None:  # a plain text has no sections
        infos = [info.model_copy(update={"section": None}) for info in infos]
    return infos


class GlyphMerger:
    """Generated token ids as tokens to be shown: those that make up one character together come
    together.
    """

    def __init__(self, tokenizer: Any, first_position: int, *, role: str | None) -> None:
        self._tokenizer, self._position, self._role = tokenizer, first_position, role
        self._held: list[int] = []

    def push(self, token_id: int) -> Iterator[TokenInfo]:
        """The tokens that can be shown now that ``token_id`` is there."""
        self._held.append(token_id)
        yield from self._shown(at_end=False)

    def finish(self) -> Iterator[TokenInfo]:
        """The rest."""
        yield from self._shown(at_end=True)

    def _shown(self, *, at_end: bool) -> Iterator[TokenInfo]:
        while self._held:
            size = next(
                (n for n in range(1, len(self._held) + 1) if _UNFINISHED not in self._text(n)), None
            )
            if size is None and len(self._held) < _LONGEST_GLYPH and not at_end:
                return
            yield from self._take(size or 1)

    def _take(self, size: int) -> Iterator[TokenInfo]:
        text = self._text(size)
        for index in range(size):
            yield TokenInfo(
                token=text,
                token_id=self._held[index],
                position=self._position + index,
                fragment_index=index,
                fragment_count=size,
                role=self._role,
                section=None if self._role is None else CONTENT,
            )
        del self._held[:size]
        self._position += size

    def _text(self, size: int) -> str:
        text: str = self._tokenizer.decode(self._held[:size], clean_up_tokenization_spaces=False)
        return text


def shown_tokens(
    tokenizer: Any, token_ids: Sequence[int], first_position: int, *, role: str | None
) -> list[TokenInfo]:
    """Generated tokens all at once."""
    merger = GlyphMerger(tokenizer, first_position, role=role)
    shown = [info for token_id in token_ids for info in merger.push(token_id)]
    return [*shown, *merger.finish()]
