"""The lab's verbs: rebuild the lab target, look at the micro-world."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gloss.foreign import json_text

app = typer.Typer(
    help="The laboratory: a micro-world with known truth.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@app.command()
def build(
    out: Annotated[Path, typer.Option(help="Folder to write the lab target to.")],
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimizer steps; the shipped target's if not given.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed; the shipped target's if not given.")
    ] = None,
) -> None:
    """Train the lab target from scratch, as the shipped one was."""
    from gloss.lab.target_training import LabTargetConfig, build_lab_target

    given = {name: value for name, value in (("steps", steps), ("seed", seed)) if value is not None}
    _print(build_lab_target(LabTargetConfig(**given), out))
    print(f"\nNext: gloss run CONFIG.toml --set target={out}", file=sys.stderr)


@app.command()
def documents(
    count: Annotated[int, typer.Argument(min=1, help="How many.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the documents.")] = 0,
) -> None:
    """Print documents of the micro-world with their facts, as JSON."""
    from gloss.lab.world import generate_documents

    _print([asdict(document) for document in generate_documents(count, seed)])


def _print(value: object) -> None:
    encoding = (sys.stdout.encoding or "utf-8").lower()
    print(json_text(value, indent=1, only_ascii=encoding != "utf-8"))
