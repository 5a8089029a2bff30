"""Which activations a question is about: of tokens, their mean or difference, or given ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gloss.errors import ActivationError, ConfigError
from gloss.foreign import without_surrogates
from gloss.models.injection import injection_rows
from gloss.nla.request import Selection, Text
from gloss.nla.results import DIFFERENCE, POOLED, TEMPLATE_TOKEN
from gloss.store.sources import CONTEXT_CHARS, VectorRows
from gloss.text.document import Document, chat_messages
from gloss.text.positions import parse_positions
from gloss.text.tokens import ReadText, ReadToken, choose_tokens, thin_out

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from gloss.nla.nla import NLA
    from gloss.nla.questions import Questions

Source = Text | Tensor | VectorRows
"""What a question is about: a text, a chat, or activations [n, d_model] with or without what is
known of them."""


@dataclass(frozen=True)
class Chosen:
    """Activations [n, d_model] with what is known of each: fields of ``TokenExplanation``.

    ``seed_rows`` key the samples: the position in a text, else the row. ``bare`` activations have
    no positions but their rows.
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


def bare_rows(vectors: Tensor, seed_rows: Sequence[int]) -> Chosen:
    """Activations [n, d_model] of which nothing is known."""
    known = [{"position": row, "row": row} for row in range(len(vectors))]
    return Chosen(vectors, known, seed_rows, bare=True)


def document_of(source: Text) -> Document:
    """A text or a chat as a document. Raises: CorpusError if messages are none."""
    if isinstance(source, Document):
        return source
    if isinstance(source, str):
        return Document("text", without_surrogates(source))
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
    if is_text(source):
        chosen = await _of_text(questions, await questions.read(source), selection, draws)
    elif selection.of_text:
        what, expected = "only a text has tokens to choose", "a text or a chat"
        raise ConfigError(what, expected=expected, found="activations")
    else:
        chosen = _given(questions, source)
        questions.check_rows(len(chosen.vectors) * draws)
    return await _minus(questions, chosen, selection)


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
    return bare_rows(vectors, range(len(vectors)))


async def _of_text(
    questions: Questions, read: ReadText, selection: Selection, draws: int
) -> Chosen:
    pooled, groups = selection.pool is not None, dict[int | None, list[int]]()
    if selection.positions is None:
        wanted = selection.tokens or ("every:1" if pooled else "last")
        positions = await questions.executor.aside(lambda: choose_tokens(read, wanted))
    else:
        positions = parse_positions(selection.positions, len(read.tokens))
    for position in positions:
        key = read.tokens[position].message_index if pooled else position
        groups.setdefault(key, []).append(position)
    pools = [sorted(one) for one in thin_out([*groups.values()], selection.max_activations)]
    questions.check_rows(len(pools) * draws)
    vectors = await questions.executor.activations(read.token_ids)
    known = []
    for row, pool in enumerate(pools):
        tokens = [read.tokens[position] for position in pool]
        of_token, end = vars(tokens[-1]), tokens[-1].end
        known.append(
            {
                **{name: of_token[name] for name in of_token if name not in ("start", "end")},
                "doc_id": read.doc_id,
                "row": row,
                "context": read.text[max(0, end - CONTEXT_CHARS) : end],
                "flags": _flags_of(questions.nla, tokens, pooled=pooled),
            }
        )
    means = torch.stack([vectors[pool].mean(dim=0) for pool in pools])
    return Chosen(means, known, [pool[-1] for pool in pools], read)


def _flags_of(nla: NLA, tokens: Sequence[ReadToken], *, pooled: bool) -> tuple[str, ...]:
    """Flags of a token, or of all tokens whose mean is taken, but for those of the norm."""
    template = () if all(token.is_content for token in tokens) else (TEMPLATE_TOKEN,)
    if not pooled:
        return template
    weightless = torch.zeros(1)
    own = [flag for one in tokens for flag in nla.flags(one.token_id, one.position, weightless)]
    return tuple(dict.fromkeys((POOLED, *own, *template)))


async def _minus(questions: Questions, chosen: Chosen, selection: Selection) -> Chosen:
    site = selection.minus_position
    if selection.minus is None and site is None:
        return chosen
    if selection.minus is not None and not is_text(selection.minus):
        other = questions.nla.checked(selection.minus)
    else:
        read = chosen.read if selection.minus is None else await questions.read(selection.minus)
        assert read is not None
        place = parse_positions(-1 if site is None else site, len(read.tokens))
        other = (await questions.executor.activations(read.token_ids))[place]
    if len(other) not in (1, len(chosen.vectors)):
        what = "the sides of a difference have different numbers of rows"
        raise ActivationError(what, expected=f"{len(chosen.vectors)}, or 1", found=len(other))
    known = [{**one, "flags": (*one.get("flags", ()), DIFFERENCE)} for one in chosen.known]
    return replace(chosen, vectors=chosen.vectors - other, known=known)
