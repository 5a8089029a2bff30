"""What reading an NLA returns: plain values that print well in a terminal, as HTML in a notebook,
and as JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any
from unicodedata import category

FAILED = "extraction failed"


@dataclass(frozen=True)
class TokenExplanation:
    """One explanation of one activation.

    ``text`` is None where no explanation could be extracted (``response`` then shows what the AV
    wrote). ``fve`` compares the error with the variance of the NLA's training activations (None
    where the checkpoint does not record it); ``cosine`` is that of the reconstruction. ``flags``
    name reasons to distrust the activation: early position, special token, norm outlier, extraction
    failed."""

    position: int
    token: str
    text: str | None
    response: str
    fve: float | None
    cosine: float | None
    norm: float
    flags: tuple[str, ...]
    direction_mse: float | None = None

    @property
    def shown(self) -> str:
        """The explanation, or what the AV wrote where there is none."""
        return self.text if self.text is not None else self.response


@dataclass(frozen=True)
class Explanations(Sequence[TokenExplanation]):
    """Explanations of the tokens of one text (or of given activations), in order."""

    items: tuple[TokenExplanation, ...]
    layer: int | None

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def __iter__(self) -> Iterator[TokenExplanation]:
        return iter(self.items)

    def to_dicts(self) -> list[dict[str, Any]]:
        """One JSON-ready mapping per explanation."""
        return [
            {**asdict(item), "flags": list(item.flags), "layer": self.layer} for item in self.items
        ]

    def table(self) -> Any:
        """A rich table: token, explanation, FVE, flags."""
        from rich.table import Table
        from rich.text import Text

        table = Table(show_lines=True, header_style="bold")
        for name, justify in (
            ("pos", "right"),
            ("token", "left"),
            ("explanation", "left"),
            ("FVE", "right"),
            ("flags", "left"),
        ):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        for item in self.items:
            shown = item.text if item.text is not None else item.response
            table.add_row(
                str(item.position),
                Text(visible(item.token)),
                Text(printable(shown)),
                _number(item.fve),
                Text(", ".join(item.flags)),
            )
        return table

    def __str__(self) -> str:
        from io import StringIO

        from rich.console import Console

        buffer = StringIO()
        Console(file=buffer, width=110).print(self.table())
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{item.position}</td><td><code>{escape(visible(item.token))}</code></td>"
            f"<td style='text-align:left;white-space:pre-wrap'>{escape(item.shown)}</td>"
            f"<td>{_number(item.fve)}</td><td>{escape(', '.join(item.flags))}</td></tr>"
            for item in self.items
        )
        heads = "".join(
            f"<th>{name}</th>" for name in ("pos", "token", "explanation", "FVE", "flags")
        )
        return f"<table><tr>{heads}</tr>{rows}</table>"


@dataclass(frozen=True)
class Score:
    """How well one text rebuilds one activation."""

    direction_mse: float
    cosine: float
    fve: float | None


@dataclass(frozen=True)
class Continuation:
    """What the target wrote under one edit; ``alpha`` is 0 without edit."""

    edit: str
    alpha: float
    text: str


@dataclass(frozen=True)
class Steering:
    """An edited explanation and the target's continuations: without edit, along the edit, along a
    random direction.
    """

    position: int
    token: str
    original: str
    edited: str
    continuations: tuple[Continuation, ...]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping."""
        return asdict(self)

    def table(self) -> Any:
        """A rich table: edit, α, continuation."""
        from rich.table import Table
        from rich.text import Text

        table = Table(
            header_style="bold",
            title=Text(f"steering at token {self.position} {visible(self.token)!r}"),
        )
        for name in ("edit", "α", "the target goes on"):
            table.add_column(name)
        for item in self.continuations:
            table.add_row(Text(item.edit), f"{item.alpha:g}", Text(printable(item.text)))
        return table

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(item.edit)}</td><td>{item.alpha:g}</td>"
            "<td style='text-align:left;white-space:pre-wrap'>"
            f"{escape(printable(item.text))}</td></tr>"
            for item in self.continuations
        )
        return (
            f"<p>Steering at token {self.position} <code>{escape(visible(self.token))}</code>:<br>"
            f"<del>{escape(self.original)}</del><br><ins>{escape(self.edited)}</ins></p>"
            f"<table><tr><th>edit</th><th>α</th><th>the target goes on</th></tr>{rows}</table>"
        )

    def __str__(self) -> str:
        from io import StringIO

        from rich.console import Console

        buffer = StringIO()
        Console(file=buffer, width=110).print(self.table())
        return buffer.getvalue()


def printable(text: str) -> str:
    """The text without control characters, which a terminal would obey; line breaks and tabs
    stay.
    """
    return "".join(
        "\ufffd" if category(char) in ("Cc", "Cs") and char not in "\n\t" else char for char in text
    )


def visible(token: str) -> str:
    """A token with its white space made visible."""
    return printable(token).replace("\n", "⏎").replace("\t", "⇥").replace(" ", "·")


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.2f}"
