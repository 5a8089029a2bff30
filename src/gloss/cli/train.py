"""``gloss train``: the three loops, each on datasets that ``gloss data build`` made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gloss.cli.console import next_command, print_json

app = typer.Typer(help="Train the two halves: SFT of each, then joint RL.", no_args_is_help=True)

CONFIG = Annotated[
    Path, typer.Option("--config", help="Run config (TOML); its table for this stage is used.")
]
SET = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting: table.key=value; repeatable.")
]
DATASET = Annotated[Path, typer.Option("--dataset", help="Dataset (Parquet with sidecar).")]
OUT = Annotated[
    Path,
    typer.Option(
        "--out", help="Folder for checkpoint, state and metrics; a stopped run goes on there."
    ),
]


@app.command("ar")
def ar(config: CONFIG, dataset: DATASET, out: OUT, overrides: SET = None) -> None:
    """AR SFT: regression from labels to activations."""
    from gloss.pipeline.run_config import read_config
    from gloss.train import train_ar

    settings = read_config(config, overrides or [])
    result = train_ar(settings.ar_sft, target=_target(settings), dataset=dataset, out_dir=out)
    print_json(
        {
            "checkpoint": str(result.folder),
            "fve_train": result.final_fve,
            "skipped_steps": result.skipped_steps,
        }
    )
    next_command(
        f"gloss train av --config {config} --dataset {dataset.with_name('av_sft.parquet')} --out"
        " av_sft"
    )


@app.command("av")
def av(config: CONFIG, dataset: DATASET, out: OUT, overrides: SET = None) -> None:
    """AV SFT: next-token prediction on labels, with the activation injected."""
    from gloss.pipeline.run_config import read_config
    from gloss.train import train_av

    settings = read_config(config, overrides or [])
    result = train_av(settings.av_sft, target=_target(settings), dataset=dataset, out_dir=out)
    print_json(
        {
            "checkpoint": str(result.folder),
            "loss": result.final_loss,
            "skipped_steps": result.skipped_steps,
        }
    )
    next_command(
        f"gloss train joint --config {config} --av {result.folder} --ar ar_sft/checkpoint "
        f"--dataset {dataset.with_name('rl.parquet')} --out nla"
    )


@app.command("joint")
def joint(
    config: CONFIG,
    av: Annotated[Path, typer.Option("--av", help="AV checkpoint to start from.")],
    ar: Annotated[Path, typer.Option("--ar", help="AR checkpoint to start from.")],
    dataset: DATASET,
    out: OUT,
    heldout: Annotated[
        Path | None, typer.Option("--heldout", help="Held-out dataset that is only measured.")
    ] = None,
    overrides: SET = None,
) -> None:
    """Joint RL: GRPO for the AV, regression for the AR, on the same explanations."""
    from gloss.pipeline.run_config import read_config
    from gloss.train import train_joint

    settings = read_config(config, overrides or [])
    result = train_joint(
        settings.joint, av=av, ar=ar, dataset=dataset, out_dir=out, heldout=heldout
    )
    print_json(
        {"av": str(result.av), "ar": str(result.ar), "fve_sampled": result.final_fve_sampled}
    )
    next_command(f"gloss explain TEXT --nla {out} --target TARGET")


def _target(settings: Any) -> str:
    from gloss.plugins import target_place

    return target_place(settings.target)
