"""Verbs that run the whole pipeline or measure what it made: quickstart, run, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gloss.cli.checks import check_sources
from gloss.cli.options import AtLeast0
from gloss.cli.output import Answer
from gloss.durable import output_folder
from gloss.pipeline.last_run import remember_quickstart, require_finished_run

if TYPE_CHECKING:
    from gloss.pipeline.run_config import RunConfig


Rows = Annotated[int, typer.Option(min=2)]


def quickstart(preset: str = "standard", out: Path | None = None, seed: AtLeast0 = 0) -> Answer:
    """Train an NLA for a small language model and read its activations, on a laptop."""
    from gloss.pipeline.run_config import preset_path, read_config

    config = read_config(preset_path(preset), [f"seed={seed}"])
    named = preset if seed == 0 else f"{preset}-seed{seed}"
    folder = out if out is not None else Path("gloss-runs") / named
    output_folder(folder)
    text = "Once upon a time there was a small boat on the lake."
    answer = _run(config, folder, f'gloss explain "{text}" --positions all')
    remember_quickstart(folder)
    return answer


def run(
    config: Path,
    /,
    out: Path | None = None,
    overrides: list[str] | None = None,
    dry_run: bool = False,
) -> Answer:
    """Run every stage of a config: extract, split, label, build, AR SFT, AV SFT, joint RL,
    evaluate, report."""
    from gloss.pipeline.run_config import read_config

    settings = read_config(config, overrides or [])
    folder = out if out is not None else Path("gloss-runs") / settings.name
    output_folder(folder)
    check_sources(settings)
    if dry_run:
        from gloss.pipeline.runner import plan_text

        plan = plan_text(settings, folder)
        return Answer({"plan": plan.splitlines()}, [plan])
    return _run(settings, folder, f"gloss explain TEXT --nla {folder}")


def evaluate(run_dir: Path, /, max_rows: Rows | None = None) -> Answer:
    """Measure the NLA of a run again: FVE with interval, controls, claims."""
    require_finished_run(run_dir)
    from gloss.pipeline.runner import evaluate_again
    from gloss.report import summary_table

    results: dict[str, Any] = evaluate_again(run_dir, max_rows=max_rows)
    return Answer(results, [summary_table(results)], f"gloss results report {run_dir}")


def _run(config: RunConfig, folder: Path, then: str) -> Answer:
    from gloss.pipeline.runner import run as run_pipeline
    from gloss.report import example_panels, summary_table

    results = run_pipeline(config, folder)
    written = [f"{name}: {folder / file}" for name, file in _WRITTEN.items()]
    return Answer(results, [summary_table(results), *example_panels(results), *written], then)


_WRITTEN = {"report": "report.html", "results": "results.json"}
