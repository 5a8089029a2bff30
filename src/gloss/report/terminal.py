"""The same numbers and examples for a terminal, with the same marks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gloss.formatting import cleaned, count, percent, visible_token
from gloss.report.claims_tables import ClaimMark, Example, kind_scores, read_example
from gloss.report.measures import measure_rows

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

TEXT_TAIL_CHARS = 240
_STYLES = {"right": "green", "wrong": "red", "absent": "yellow", "text only": "yellow"}


def summary_table(results: Mapping[str, Any]) -> Table:
    """The measures and the claim scores of a run as a rich table."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    results = cleaned(results)
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("measure", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("what it means", style="dim")
    for title, rows in measure_rows(results).items():
        table.add_row(Text(title, style="bold"), "", "")
        for row in rows:
            interval = f"95\u00a0% interval {row.interval}. " if row.interval else ""
            style = "bold" if row.main else ""
            name, value = Text(f"  {row.name}", style=style), Text(row.value, style=style)
            table.add_row(name, value, Text(interval + row.meaning))
        table.add_section()
    scores = kind_scores(results)
    if scores:
        table.add_row(Text("Claims right, by kind", style="bold"), "", "")
    for kind in scores:
        compared = (
            f"chance {percent(kind.chance)}, best reader {percent(kind.best_reader)}, recall"
            f" {percent(kind.recall)}, {count(kind.n_claims)} claims"
        )
        table.add_row(Text(f"  {kind.kind}"), Text(percent(kind.precision)), Text(compared))
    return table


def example_panels(results: Mapping[str, Any], limit: int = 3) -> list[RenderableType]:
    """The first examples as rich panels: text with its token, marked explanation, verdicts."""
    examples = (results.get("examples") or [])[:limit]
    return [_panel(read_example(cleaned(example))) for example in examples]


def _panel(example: Example) -> RenderableType:
    from rich.columns import Columns
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    parts: list[RenderableType] = [_text_tail(example), Text(), _explanation(example)]
    if example.claims:
        parts += [Text(), Columns(map(_verdict, example.claims), padding=(0, 3))]
    scores = Text(f"FVE {example.fve} · cosine {example.cosine}")
    if example.flags:
        scores.append(f" · {', '.join(example.flags)}", style="yellow")
    return Panel(
        Group(*parts),
        title=Text(f"{example.doc_id} · token {example.position}", style="bold"),
        subtitle=scores,
        title_align="left",
        subtitle_align="right",
        padding=(1, 2),
    )


def _text_tail(example: Example) -> Text:
    from rich.text import Text

    before = example.before
    tail = before if len(before) <= TEXT_TAIL_CHARS else f"…{before[-TEXT_TAIL_CHARS:]}"
    shown = Text(tail.lstrip("\n"), style="dim")
    if not example.token_in_text:
        shown.append("  token: ", style="dim")
    return shown.append(visible_token(example.token) or "?", style="bold reverse")


def _explanation(example: Example) -> Text:
    from rich.text import Text

    shown = Text()
    for part in example.parts:
        style = _style(part.claim)
        shown.append(part.text, style=f"underline {style}" if part.claim else "")
        if part.claim is not None:
            shown.append(part.claim.mark, style=f"bold {style}")
    return shown


def _verdict(claim: ClaimMark) -> Text:
    from rich.text import Text

    shown = Text(f"{claim.mark} ", style=f"bold {_style(claim)}")
    shown.append(f"{claim.kind}: {claim.value}", style=_style(claim))
    if claim.truth is not None:
        shown.append(f" (truth: {claim.truth})", style="dim")
    return shown


def _style(claim: ClaimMark | None) -> str:
    return "" if claim is None else _STYLES.get(claim.verdict, "")
