"""Which activations a question is about: tokens of a text or a chat, their mean, their difference
to another activation, or activations that were brought along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gloss.errors import ActivationError, ConfigError
from gloss.models.injection import injection_rows
from gloss.nla.flags import activation_flags
from gloss.nla.request import Selection, Text
from gloss.nla.results import DIFFERENCE, POOLED, TEMPLATE_TOKEN
from gloss.store.sources import CONTEXT_CHARS, VectorRows
from gloss.text.document import Document, chat_messages, clean_text
from gloss.text.positions import parse_positions
from gloss.text.tokens import ReadText, ReadToken, choose_tokens, thin_out

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from gloss.nla.questions import Questions

Source = Text | Tensor | VectorRows
"""What a question is about: a text, a chat, or activations [n, d_model] with or without what is
known of them.
"""
_OF_TOKEN = (
    "position",
    "token",
    "token_id",
    "role",
    "section",
    "channel",
    "message_index",
    "fragment_index",
    "fragment_count",
)


@dataclass(frozen=True)
class Chosen:
    """Activations [n, d_model] with what is known of each: fields of ``TokenExplanation``.

    ``seed_rows`` key the samples: the position in a text, else the row. ``read`` is the text;
    ``bare`` activations have no positions but their rows.
    """

    vectors: Tensor
    known: Sequence[dict[str, Any]]
    seed_rows: Sequence[int]
    read: ReadText | None = None
    bare: bool = False

    def __getitem__(self, some: slice) -> Chosen:
        """Some of the activations."""
        parts = self.vectors[some], self.known[some], self.seed_rows[some]
        return Chosen(*parts, self.read, self.bare)


def document_of(source: Text) -> Document:
    """A text or a chat as a document. Raises: CorpusError if messages are none."""
    if isinstance(source, Document):
        return source
    if isinstance(source, str):
        return Document("text", clean_text(source))
    return Document("chat", None, chat_messages(source, "chat"))


def is_text(source: object) -> TypeIs[Text]:
    """Whether a source is a text or a chat; everything else is read as activations."""
    if isinstance(source, list | tuple):
        return not source or any(isinstance(message, Mapping) for message in source)
    return isinstance(source, str | Document)


async def choose(
    questions: Questions, source: Source, selection: Selection, *, draws: int = 1
) -> Chosen:
    """The activations that a selection means, for so many responses to each.

    Raises: PositionError, CorpusError, ActivationError; ConfigError for a selection that does not
    fit the source, or for more responses than one question may ask for.
    """
    if not is_text(source):
        if selection.of_text:
            raise ConfigError(
                "only a text has tokens to choose", expected="a text or a chat", found="activations"
            )
        chosen = _given(questions, source)
        questions.check_rows(len(chosen.vectors) * draws)
    else:
        chosen = await _of_text(questions, questions.read(source), selection, draws)
    return await _minus(questions, chosen, selection)


def positions_of(read: ReadText, selection: Selection) -> list[int]:
    """The positions that a selection means. Raises: PositionError, ConfigError."""
    if selection.positions is None:
        default = "last" if selection.pool is None else "every:1"
        return choose_tokens(read, selection.tokens or default)
    return parse_positions(selection.positions, len(read.tokens))


def known_of(read: ReadText, token: ReadToken) -> dict[str, Any]:
    """What a text says of one of its tokens."""
    return {
        **{name: getattr(token, name) for name in _OF_TOKEN},
        "doc_id": read.doc_id,
        "context": read.text[max(0, token.end - CONTEXT_CHARS) : token.end],
        "flags": () if token.is_content else (TEMPLATE_TOKEN,),
    }


def _given(questions: Questions, source: Tensor | VectorRows) -> Chosen:
    if isinstance(source, VectorRows):
        columns, rows = source.columns, range(source.first, source.first + len(source.vectors))
        known = [
            {"position": None, **{name: values[i] for name, values in columns.items()}, "row": row}
            for i, row in enumerate(rows)
        ]
        return Chosen(questions.nla.checked(source.vectors), known, list(rows))
    vectors = questions.nla.checked(source)
    if len(vectors):
        injection_rows(vectors, 1.0)
    rows = range(len(vectors))
    return Chosen(vectors, [{"position": i, "row": i} for i in rows], list(rows), bare=True)


async def _of_text(
    questions: Questions, read: ReadText, selection: Selection, draws: int
) -> Chosen:
    positions = positions_of(read, selection)
    if selection.pool is not None:
        groups: dict[int | None, list[int]] = {}
        for position in positions:
            groups.setdefault(read.tokens[position].message_index, []).append(position)
        kept = thin_out(range(len(groups)), selection.max_activations)
        pools = [sorted(list(groups.values())[i]) for i in kept]
    else:
        pools = [[position] for position in thin_out(positions, selection.max_activations)]
    questions.check_rows(len(pools) * draws)
    vectors = await questions.executor.activations(read.token_ids)
    known = [
        {**known_of(read, read.tokens[pool[-1]]), "row": row} for row, pool in enumerate(pools)
    ]
    if selection.pool is not None:
        for one, pool in zip(known, pools, strict=True):
            one["flags"] = _pool_flags(questions, [read.tokens[p] for p in pool])
    means = torch.stack([vectors[pool].mean(dim=0) for pool in pools])
    return Chosen(means, known, [pool[-1] for pool in pools], read)


def _pool_flags(questions: Questions, tokens: Sequence[ReadToken]) -> tuple[str, ...]:
    """The flags of all tokens whose mean is taken."""
    flags = activation_flags(
        norm=0.0,
        norm_statistics={},
        position=min(token.position for token in tokens),
        min_position=questions.nla.recorded.min_position,
        special=any(token.token_id in questions.nla.special_ids for token in tokens),
    )
    template = () if all(token.is_content for token in tokens) else (TEMPLATE_TOKEN,)
    return (POOLED, *flags, *template)


async def _minus(questions: Questions, chosen: Chosen, selection: Selection) -> Chosen:
    site = selection.minus_position
    if selection.minus is None and site is None:
        return chosen
    if selection.minus is not None and not is_text(selection.minus):
        other = questions.nla.checked(selection.minus)
    else:
        read = chosen.read if selection.minus is None else questions.read(selection.minus)
        assert read is not None
        place = parse_positions(-1 if site is None else site, len(read.tokens))
        other = (await questions.executor.activations(read.token_ids))[place]
    if len(other) not in (1, len(chosen.vectors)):
        raise ActivationError(
            "the sides of a difference have different numbers of rows",
            expected=f"{len(chosen.vectors)}, or 1",
            found=len(other),
        )
    known = [{**one, "flags": (*one.get("flags", ()), DIFFERENCE)} for one in chosen.known]
    return replace(chosen, vectors=chosen.vectors - other, known=known)
