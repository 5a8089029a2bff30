"""Verbs that run the pipeline: quickstart, run, evaluate, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gloss.cli.console import next_command, print_json, print_rich
from gloss.errors import ConfigError

OUT = Annotated[Path, typer.Option("--out", help="Folder of the run; a stopped run goes on there.")]
JSON = Annotated[bool, typer.Option("--json", help="Print results.json instead of a table.")]


def register(app: typer.Typer) -> None:
    """Adds the pipeline verbs to the root command."""
    for command in (quickstart, run, evaluate, report):
        app.command()(command)


def quickstart(
    preset: Annotated[
        str, typer.Option(help="smoke (a minute), standard (five) or thorough (twenty).")
    ] = "standard",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the run; gloss-runs/PRESET if not given."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything.")] = 0,
    as_json: JSON = False,
) -> None:
    """Train an NLA for a small language model and read its activations, on a laptop."""
    from gloss.pipeline.last_run import remember_quickstart
    from gloss.pipeline.run_config import preset_path, read_config

    folder = (
        out
        if out is not None
        else Path("gloss-runs") / (preset if seed == 0 else f"{preset}-seed{seed}")
    )
    config = read_config(preset_path(preset), [f"seed={seed}"])
    _run(config, folder, as_json)
    remember_quickstart(folder)
    next_command(
        'gloss explain "Once upon a time there was a small boat on the lake." --positions all'
    )


def run(
    config: Annotated[Path, typer.Argument(help="A TOML file; see configs/ for examples.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run; gloss-runs/NAME if not given.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting: table.key=value; repeatable."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and its cost, and stop.")
    ] = False,
    as_json: JSON = False,
) -> None:
    """Run every stage of a config: extract, split, label, build, AR SFT, AV SFT, joint RL,
    evaluate, report.
    """
    from gloss.pipeline.run_config import read_config

    settings = read_config(config, overrides or [])
    folder = out if out is not None else Path("gloss-runs") / settings.name
    if dry_run:
        from gloss.pipeline.runner import plan_text

        print(plan_text(settings, folder))
        return
    _run(settings, folder, as_json)
    next_command(f"gloss explain TEXT --nla {folder}")


def _run(config: Any, folder: Path, as_json: bool) -> None:
    from gloss.pipeline.runner import run as run_pipeline
    from gloss.report import example_panels, summary_table

    results = run_pipeline(config, folder)
    if as_json:
        print_json(results)
        return
    print_rich(summary_table(results), *example_panels(results))
    print_rich(f"report: {folder / 'report.html'}", f"results: {folder / 'results.json'}")


def evaluate(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    max_rows: Annotated[
        int | None, typer.Option(min=2, help="Held-out activations to explain.")
    ] = None,
    as_json: JSON = False,
) -> None:
    """Measure the NLA of a run again: FVE with interval, controls, claims."""
    from gloss.pipeline.runner import evaluate_again
    from gloss.report import summary_table

    results = evaluate_again(run_dir, max_rows=max_rows)
    if as_json:
        print_json(results)
    else:
        print_rich(summary_table(results))
    next_command(f"gloss report {run_dir}")


def report(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a run with results.json.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File to write; report.html in the folder if not given."),
    ] = None,
) -> None:
    """Write one self-contained HTML page from a run's results."""
    from gloss.report import write_report

    if not run_dir.is_dir():
        raise ConfigError("no such folder", where=run_dir, expected="a run's folder")
    print(write_report(run_dir, out))
