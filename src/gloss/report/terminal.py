"""The same numbers and examples for a terminal, with the same marks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gloss.report.claims_tables import ClaimMark, claim_marks, kind_scores, segments
from gloss.report.formatting import cleaned, count, decimal, percent, visible_token
from gloss.report.headline import headline

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

TEXT_TAIL_CHARS = 240
_STYLES = {"right": "green", "wrong": "red", "absent": "yellow"}


def summary_table(results: Mapping[str, Any]) -> Table:
    """The headline numbers and the claim scores of a run as a rich table: measure, value, what it
    means.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    results = cleaned(results)
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("measure", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("what it means", style="dim")
    for group in headline(results):
        table.add_row(Text(group.title, style="bold"), "", "")
        for measure in group.measures:
            meaning = (
                f"95 % interval {measure.interval}. {measure.meaning}"
                if measure.interval
                else measure.meaning
            )
            style = "bold" if measure.main else ""
            table.add_row(
                Text(f"  {measure.name}", style=style),
                Text(measure.value, style=style),
                Text(meaning),
            )
        table.add_section()
    scores = kind_scores(results)
    if scores:
        table.add_row(Text("Claims right, by kind", style="bold"), "", "")
    for row in scores:
        compared = (
            f"chance {percent(row.chance)}, probe {percent(row.probe_ceiling)}, recall"
            f" {percent(row.recall)}, {count(row.n_claims)} claims"
        )
        table.add_row(Text(f"  {row.kind}"), Text(percent(row.precision)), Text(compared))
    return table


def example_panels(results: Mapping[str, Any], limit: int = 3) -> list[RenderableType]:
    """The first examples as rich panels: text with its token, marked explanation, what is known
    there.
    """
    from rich import box
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    panels: list[RenderableType] = []
    for raw in (results.get("examples") or [])[:limit]:
        example = cleaned(raw)
        parts: list[RenderableType] = [_text_tail(example), Text(), _explanation(example)]
        if (verdicts := _verdicts(example)) is not None:
            parts += [Text(), verdicts]
        title = Text(
            f"{example.get('doc_id', '')} · token {example.get('position', '?')}", style="bold"
        )
        scores = Text(
            f"FVE {decimal(example.get('fve'))} · cosine {decimal(example.get('cosine'))}"
        )
        if flags := example.get("flags"):
            scores.append(f" · {', '.join(map(str, flags))}", style="yellow")
        panels.append(
            Panel(
                Group(*parts),
                title=title,
                subtitle=scores,
                title_align="left",
                subtitle_align="right",
                box=box.ROUNDED,
                padding=(1, 2),
            )
        )
    return panels


def _text_tail(example: Mapping[str, Any]) -> Text:
    from rich.text import Text

    text, token = str(example.get("text") or ""), str(example.get("token") or "")
    inside = bool(token) and text.endswith(token)
    before = text[: len(text) - len(token)] if inside else text
    tail = before if len(before) <= TEXT_TAIL_CHARS else f"…{before[-TEXT_TAIL_CHARS:]}"
    shown = Text(tail.lstrip("\n"), style="dim")
    if not inside:
        shown.append("  token: ", style="dim")
    shown.append(visible_token(token) or "?", style="bold reverse")
    return shown


def _explanation(example: Mapping[str, Any]) -> Text:
    from rich.text import Text

    shown = Text()
    for part in segments(example):
        if part.claim is None:
            shown.append(part.text)
        else:
            shown.append(part.text, style=f"underline {_style(part.claim)}")
            shown.append(part.claim.mark, style=f"bold {_style(part.claim)}")
    return shown


def _verdicts(example: Mapping[str, Any]) -> RenderableType | None:
    from rich.columns import Columns
    from rich.text import Text

    claims = claim_marks(example)
    if not claims:
        return None
    verdicts = []
    for claim in claims:
        shown = Text()
        shown.append(f"{claim.mark} ", style=f"bold {_style(claim)}")
        shown.append(f"{claim.kind}: {claim.value}", style=_style(claim))
        if claim.verdict == "wrong" and claim.truth is not None:
            shown.append(f" (truth: {claim.truth})", style="dim")
        verdicts.append(shown)
    return Columns(verdicts, padding=(0, 3))


def _style(claim: ClaimMark) -> str:
    return _STYLES.get(claim.verdict, "")
