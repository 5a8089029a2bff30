"""How results are shown: as JSON, as a table in a terminal, as HTML in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape
from io import StringIO
from typing import Any

from gloss.formatting import printable

Shown = tuple[Sequence[str], Sequence[Sequence[str]]]


class Result:
    """An answer: ``to_dict`` is what it is as JSON, ``table`` what a terminal shows of it."""

    def to_dict(self) -> Any:
        """The answer as JSON-ready values."""
        kind: Any = type(self)
        return adapter(kind).dump_python(self, mode="json")

    _title = ""
    _verdict = ""
    """One sentence below the table."""

    def _shown(self) -> Shown:
        """Heads of columns, and rows of cells."""
        raise NotImplementedError

    def table(self) -> Any:
        """A rich table."""
        from rich.table import Table
        from rich.text import Text

        heads, rows = self._shown()
        title, below = Text(printable(self._title)), Text(printable(self._verdict))
        table = Table(show_lines=True, header_style="bold", title=title, caption=below or None)
        for head in heads:
            table.add_column(head, justify="right" if head in _NUMBERS else "left")
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        return table

    def __str__(self) -> str:
        from rich.console import Console

        buffer = StringIO()
        Console(file=buffer, width=110).print(self.table())
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        heads, rows = self._shown()
        style = "text-align:left;white-space:pre-wrap"
        body = "".join(
            "<tr>" + "".join(f"<td style='{style}'>{_html(cell)}</td>" for cell in row) + "</tr>"
            for row in rows
        )
        head = "".join(f"<th>{_html(name)}</th>" for name in heads)
        below = f"<p>{_html(self._verdict)}</p>" if self._verdict else ""
        return f"<p>{_html(self._title)}</p><table><tr>{head}</tr>{body}</table>{below}"


@cache
def adapter(kind: Any) -> Any:
    """What turns values of a kind into JSON and back, by pydantic."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


_NUMBERS = ("pos", "FVE", "cosine", "percentile", "α", "up to here", "lost without", "norm")


def visible(token: str) -> str:
    """A token with its white space made visible."""
    return printable(token).replace("\n", "⏎").replace("\t", "⇥").replace(" ", "·")


def _html(text: str) -> str:
    return escape(printable(text))
