"""Interchanged activations: what the planted layer holds where a text turns decides what follows.

turn        = the line break behind a couplet's first line, or the header before a chat's answer
row         = text i up to its turn, then text j from its turn on                      [tokens]
h[row]      = h[j] at the turn, behind block ``PLANTED_LAYER``
loss        = next-token cross-entropy of the row, as of any other

So the target learns to take the planned rhyme, or the answer's motive, from that one activation; an
edit of it changes what follows (interchange intervention training, Geiger et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from gloss.lab.documents import MESSAGE_START, LabDocument, render

SHARES = {"couplet": 0.8, "chat": 0.4}
"""Of the documents of a batch, how many another text is continued from."""


@dataclass(frozen=True)
class Turn:
    """Token indices of a turn: the ``site`` whose activation is exchanged, and the ``end`` of what
    it decides."""

    site: int
    end: int


@dataclass(frozen=True)
class Interchanged:
    """A row of token ids that is not any document's, and where its activation comes from: ``site``
    of the row, ``source`` row and site."""

    ids: list[int]
    site: int
    source: int
    source_site: int


def turn_of(document: LabDocument, token_ends: Sequence[int], rng: Random) -> Turn | None:
    """One turn of a document, None if it has none or not within its tokens."""
    if document.kind == "chat":
        header = f"{MESSAGE_START}assistant\n"
        text = render(document)
        start, end = text.rindex(header) + len(header), len(text)
    else:
        rhymes = [fact for fact in document.facts if fact.kind == "rhyme" and fact.end is not None]
        if not rhymes:
            return None
        rhyme = rng.choice(rhymes)
        start, end = rhyme.start + len(",\n"), int(rhyme.end or 0) + len(".")
    ends = list(token_ends)
    if start not in ends or end not in ends:
        return None
    return Turn(ends.index(start), ends.index(end) + 1)


def interchanged(
    rows: Sequence[Sequence[int]],
    documents: Sequence[LabDocument | None],
    token_ends: Sequence[Sequence[int]],
    rng: Random,
) -> list[Interchanged]:
    """Rows that begin as one document of a batch and go on as another of its kind."""
    found = []
    for kind, share in SHARES.items():
        turns = {
            i: turn
            for i, document in enumerate(documents)
            if document is not None
            and document.kind == kind
            and rng.random() < share
            and (turn := turn_of(document, token_ends[i], rng)) is not None
        }
        order = list(turns)
        rng.shuffle(order)
        for i, j in zip(order, [*order[1:], *order[:1]], strict=True):
            if i != j:
                mine, other = turns[i], turns[j]
                ids = [*rows[i][: mine.site + 1], *rows[j][other.site + 1 : other.end]]
                found.append(Interchanged(ids, mine.site, j, other.site))
    return found


@dataclass
class Exchange:
    """A hook on the planted block: notes its output, then exchanges what ``sites`` [n, 4] names
    (row, site, source row, source site)."""

    sites: Tensor | None = None
    residuals: list[Tensor] = field(default_factory=list)

    @contextmanager
    def on(self, block: nn.Module) -> Iterator[Exchange]:
        """The hook, for as long as the block is open."""
        handle = block.register_forward_hook(self._exchanged)
        try:
            yield self
        finally:
            handle.remove()

    def _exchanged(self, _module: nn.Module, _args: Any, output: Any) -> Any:
        h = output[0] if isinstance(output, tuple) else output
        self.residuals.append(h)
        if self.sites is None or not len(self.sites):
            return output
        row, site, source, source_site = self.sites.unbind(1)
        changed = h.index_put((row, site), h[source, source_site])
        return (changed, *output[1:]) if isinstance(output, tuple) else changed


def exchange_sites(found: Sequence[Interchanged], first_row: int) -> Tensor:
    """The rows' activations to exchange, as ``Exchange`` takes them; [n, 4]."""
    sites = [(first_row + n, one.site, one.source, one.source_site) for n, one in enumerate(found)]
    return torch.tensor(sites, dtype=torch.long).reshape(-1, 4)
