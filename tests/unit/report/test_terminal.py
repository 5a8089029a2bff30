from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console, RenderableType

from gloss.report import example_panels, summary_table


def printed(*renderables: RenderableType, width: int = 120) -> str:
    buffer = StringIO()
    console = Console(file=buffer, width=width, color_system=None)
    for renderable in renderables:
        console.print(renderable)
    return buffer.getvalue()


def test_summary_table_shows_headline_and_claims(results: dict[str, Any]) -> None:
    text = " ".join(printed(summary_table(results)).split())
    for wanted in (
        "RL, greedy 0.891 95 % interval 0.885 to 0.898",
        "Shuffled activations −0.942",
        "hero 9 % chance 8 %",
    ):
        assert wanted in text


def test_example_panels_mark_claims_with_symbols(results: dict[str, Any]) -> None:
    panels = example_panels(results, limit=2)
    text = printed(*panels)
    assert len(panels) == 2
    for wanted in (
        "evening✓",
        "with Piet at her side✗",
        "the mood is joyful○",
        "✗ person: Piet (truth: Jon)",
        "norm outlier",
    ):
        assert wanted in text


def test_rich_markup_and_escapes_in_model_text_stay_text(results: dict[str, Any]) -> None:
    attack = "[red]x[/red] [/] [link=a]b \x1b[2J"
    results["examples"][0].update(
        text=attack,
        token="J",
        explanation=attack,
        doc_id="[bold]d",
        flags=["[/nope]"],
        facts={"hero": "[b]"},
        claims=[{"kind": "hero", "value": "[/]", "verdict": "wrong", "start": 0, "end": 5}],
    )
    results["claims"]["[blink]kind"] = results["claims"]["topic"]
    text = printed(summary_table(results), *example_panels(results, limit=1))
    assert "\x1b" not in text
    for wanted in (
        "[red]✗x[/red] [/] [link=a]b",
        "[bold]d",
        "[/nope]",
        "hero: [/] (truth: [b])",
        "[blink]kind",
    ):
        assert wanted in text


def test_terminal_takes_results_with_parts_missing() -> None:
    assert "—" in printed(summary_table({}))
    assert example_panels({}) == []
    assert "token: ?" in printed(*example_panels({"examples": [{}]}))
