"""``gloss checkpoint``: look at an NLA's files, check them, bring them into shape, publish and fetch them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gloss.cli.console import next_command, print_json, print_rich
from gloss.errors import ConfigError

app = typer.Typer(help="Checkpoints: inspect, validate, convert, describe, publish, fetch.", no_args_is_help=True)

PLACE = Annotated[
    str, typer.Argument(help="Folder of an AV, an AR or both, or a hub id (owner/name, owner/name@revision).")
]
REVISION = Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit on the hub.")]
JSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
_MARKS = {"ok": "ok  ", "warning": "warn", "fail": "FAIL", "skipped": "skip"}


@app.command()
def inspect(place: PLACE, revision: REVISION = None, as_json: JSON = False) -> None:
    """Say what a checkpoint is; weights are neither read nor fetched."""
    from dataclasses import asdict

    from gloss.release.summary import inspect as run_inspect
    from gloss.release.summary_table import summary_table

    summaries = run_inspect(place, revision=revision)
    if as_json:
        print_json([asdict(summary) for summary in summaries])
        return
    print_rich(*(summary_table(summary) for summary in summaries))
    next_command(f"gloss checkpoint validate {place}")


@app.command()
def validate(
    place: PLACE,
    target: Annotated[
        str | None, typer.Option(help="Also read a few texts with this target model: round trip and layer.")
    ] = None,
    texts: Annotated[Path | None, typer.Option(help="File of texts for that, one a line; a few are built in.")] = None,
    revision: REVISION = None,
    as_json: JSON = False,
) -> None:
    """Check everything that can be checked, one line each; ends with 2 if any check failed."""
    from dataclasses import asdict

    from gloss.release.validate import validate as run_validate

    validation = run_validate(place, target=target, texts=_lines(texts), revision=revision)
    if as_json:
        print_json({"passed": validation.passed, "findings": [asdict(finding) for finding in validation.findings]})
    else:
        for finding in validation.findings:
            remedy = f". {finding.remedy}" if finding.remedy else ""
            print(f"{_MARKS[finding.status]}  {finding.half:<4}  {finding.check}: {finding.says}{remedy}")
    if not validation.passed:
        raise typer.Exit(2)
    next_command(f"gloss checkpoint card {place}" if target else f"gloss checkpoint validate {place} --target MODEL")


def _lines(file: Path | None) -> list[str] | None:
    if file is None:
        return None
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError("cannot read the texts", where=file, expected="UTF-8 text, one text a line") from error
    return [line for line in lines if line.strip()]
