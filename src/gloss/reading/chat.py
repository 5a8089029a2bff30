"""Explains chosen tokens of a text or a transcript, their mean, or their difference to another
token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gloss.errors import ConfigError
from gloss.models.capture import ReadJob, read_all
from gloss.nla import NLA, parse_positions
from gloss.nla.flags import activation_flags
from gloss.reading.explain import ExplainConfig, explain_activations, explain_in_memory
from gloss.reading.tables import Results, read_results
from gloss.store.sources import CONTEXT_CHARS, ArraySource, DifferenceSource, memory_source
from gloss.text.document import Document, chat_messages, clean_text, read_json_file
from gloss.text.rendering import special_token_ids
from gloss.text.tokens import (
    CONTENT,
    ReadText,
    ReadToken,
    choose_tokens,
    read_tokens,
    thin_out,
)

TEMPLATE_TOKEN, POOLED = "template token", "mean-pooled"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which activations of a text are explained.

    ``tokens`` is all, last, every:N or regex:PATTERN, by default last, and of a pool every:1;
    ``positions`` (an index, several, or ``"3,7-9"``) stands instead of it.
    ``pool`` "mean" explains the mean of the chosen tokens of each message (of a plain text: of
    all). ``minus`` subtracts one activation: of that text's last token, or its ``minus_position``;
    without a text, of the same text's ``minus_position``."""

    tokens: str | None = None
    positions: str | int | Sequence[int] | None = None
    max_activations: int | None = None
    pool: Literal["mean"] | None = None
    minus: str | None = None
    minus_position: int | None = None


def load_transcript(path: Path | str) -> Document:
    """The chat in a JSON file: a list of messages with role and content, or an object that holds
    one as ``messages``.

    Raises: CorpusError if it is neither.
    """
    path = Path(path)
    value = read_json_file(path)
    messages = value.get("messages") if isinstance(value, dict) else value
    return Document(clean_text(path.stem), None, chat_messages(messages, str(path)))


def explain_chat(
    nla: NLA,
    messages: Sequence[Mapping[str, str]] | Path | str,
    out: Path | str | None = None,
    *,
    selection: Selection | None = None,
    config: ExplainConfig | None = None,
) -> Results:
    """Explains tokens of a chat (messages, or a JSON file of them), by default the last of each
    message.

    Rows carry role, message and section. With ``out`` the result is also written there, resumable.
    Raises: CorpusError, PositionError, and as ``explain_activations``.
    """
    if isinstance(messages, str | Path):
        document = load_transcript(messages)
    else:
        document = Document(
            "chat", None, chat_messages([dict(message) for message in messages], "chat")
        )
    return explain_document(nla, document, out, selection=selection, config=config)


def explain_text(
    nla: NLA,
    text: str,
    out: Path | str | None = None,
    *,
    doc_id: str = "text",
    selection: Selection | None = None,
    config: ExplainConfig | None = None,
) -> Results:
    """As ``explain_chat``, for a plain text."""
    return explain_document(
        nla, Document(doc_id, clean_text(text)), out, selection=selection, config=config
    )


def explain_document(
    nla: NLA,
    document: Document,
    out: Path | str | None = None,
    *,
    selection: Selection | None = None,
    config: ExplainConfig | None = None,
) -> Results:
    """Explains chosen tokens of a document of either kind."""
    source, read = select(nla, document, selection or Selection())
    texts = {read.doc_id: _header_of(read)}
    if out is None:
        return explain_in_memory(nla, source, config, documents=texts)
    return read_results(explain_activations(nla, source, out, config, documents=texts).path)


def select(
    nla: NLA, document: Document, selection: Selection
) -> tuple[ArraySource | DifferenceSource, ReadText]:
    """The activations that a selection names, with what is known of their tokens, and the text as
    it was read.

    Raises: CorpusError, PositionError, ConfigError.
    """
    longest = getattr(nla.target.model.config.get_text_config(), "max_position_embeddings", None)
    read = read_tokens(nla.target.tokenizer, document, max_tokens=longest)
    if selection.positions is not None and selection.tokens is not None:
        raise ConfigError("positions and tokens both say what to explain", expected="one of them")
    if selection.positions is None:
        chosen = choose_tokens(
            read, selection.tokens or ("last" if selection.pool is None else "every:1")
        )
    else:
        chosen = parse_positions(selection.positions, len(read.tokens))
    if selection.pool is None:
        chosen = thin_out(chosen, selection.max_activations)
        source = memory_source(
            _activations(nla, read, chosen), _columns(read, chosen), layer=nla.layer
        )
    else:
        source = _pooled(nla, read, chosen, selection.max_activations)
    subtrahend = _subtrahend(nla, read, selection, longest)
    return (
        source if subtrahend is None else DifferenceSource(source, memory_source(subtrahend))
    ), read


def _activations(nla: NLA, read: ReadText, positions: Sequence[int]) -> Tensor:
    """Raw activations at the positions, in their order; [positions, d_model]."""
    ids = np.asarray(
        [token.token_id for token in read.tokens[: max(positions) + 1]], dtype=np.int64
    )
    job = ReadJob(ids, positions, np.zeros(0, dtype=np.int64))
    ((_, reading),) = read_all(nla.target, nla.layer, [job], batch_tokens=len(ids), batch_size=1)
    return torch.from_numpy(reading.vectors)


def _subtrahend(
    nla: NLA, read: ReadText, selection: Selection, longest: int | None
) -> Tensor | None:
    if selection.minus is None and selection.minus_position is None:
        return None
    if selection.minus is not None:
        document = Document("minus", clean_text(selection.minus))
        read = read_tokens(nla.target.tokenizer, document, max_tokens=longest)
    site = -1 if selection.minus_position is None else selection.minus_position
    return _activations(nla, read, parse_positions(site, len(read.tokens)))


def _columns(read: ReadText, positions: Sequence[int]) -> dict[str, list[Any]]:
    tokens = [read.tokens[p] for p in positions]
    names = (
        "position",
        "token",
        "token_id",
        "role",
        "message_index",
        "section",
        "fragment_index",
        "fragment_count",
    )
    return {
        "doc_id": [read.doc_id] * len(tokens),
        **{name: [getattr(token, name) for token in tokens] for name in names},
        "context": [read.text[max(0, token.end - CONTEXT_CHARS) : token.end] for token in tokens],
        "flags": [[] if token.section == CONTENT else [TEMPLATE_TOKEN] for token in tokens],
    }


def _pooled(nla: NLA, read: ReadText, chosen: Sequence[int], budget: int | None) -> ArraySource:
    """The mean activation of each message's chosen tokens; it stands at the last of them and has
    the flags of all.
    """
    groups: dict[int | None, list[int]] = {}
    for position in chosen:
        groups.setdefault(read.tokens[position].message_index, []).append(position)
    kept = thin_out(range(len(groups)), budget)
    pools = [sorted(list(groups.values())[i]) for i in kept]
    vectors = _activations(nla, read, [p for pool in pools for p in pool])
    means = torch.stack(
        [part.mean(dim=0) for part in torch.split(vectors, [len(pool) for pool in pools])]
    )
    columns = _columns(read, [pool[-1] for pool in pools])
    special = special_token_ids(nla.target.tokenizer)
    columns["flags"] = [
        [POOLED, *_flags_of(nla, [read.tokens[p] for p in pool], special)] for pool in pools
    ]
    return memory_source(means, columns, layer=nla.layer)


def _flags_of(nla: NLA, tokens: Sequence[ReadToken], special: frozenset[int]) -> list[str]:
    flags = activation_flags(
        norm=0.0,
        norm_statistics={},
        position=min(token.position for token in tokens),
        min_position=nla.recorded.get("min_position"),
        special=any(token.token_id in special for token in tokens),
    )
    return [
        *flags,
        *([TEMPLATE_TOKEN] if any(token.section != CONTENT for token in tokens) else []),
    ]


def _header_of(read: ReadText) -> dict[str, Any]:
    tokens = [token.token for token in read.tokens]
    messages = None if read.messages is None else [dict(message) for message in read.messages]
    return {"text": read.text, "tokens": tokens, "messages": messages}
