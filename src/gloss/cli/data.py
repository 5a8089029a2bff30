"""``gloss data``: extract, split, label, build; each stage alone, on files of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gloss.cli.console import next_command, print_json
from gloss.errors import ConfigError

app = typer.Typer(help="From a corpus to training datasets.", no_args_is_help=True)

CONFIG = Annotated[
    Path, typer.Option("--config", help="Run config (TOML); its table for this stage is used.")
]
SET = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting: table.key=value; repeatable.")
]


@app.command()
def extract(
    config: CONFIG,
    out: Annotated[Path, typer.Option("--out", help="Folder for the shards.")],
    overrides: SET = None,
) -> None:
    """Corpus → raw activations with provenance."""
    from gloss.data import extract as run_extract
    from gloss.plugins import target_place
    from gloss.target_model import load_target

    settings = _config(config, overrides)
    stage = settings.extract.model_copy(update={"corpus": settings.corpus.source})
    name = target_place(settings.target)
    target = load_target(name, dtype=stage.dtype, attn_implementation=stage.attn_implementation)
    documents = settings.corpus.documents(settings.seed)
    result = run_extract(stage, target, documents, out, num_documents=settings.corpus.max_documents)
    print_json({"path": str(result.path), **vars(result.counts)})
    next_command(f"gloss data split --config {config} --activations {out} --out splits")


@app.command()
def split(
    config: CONFIG,
    activations: Annotated[Path, typer.Option(help="Folder or file of activations.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for av_sft, ar_sft, rl and heldout.")],
    overrides: SET = None,
) -> None:
    """Activations → four parts, by document."""
    from gloss.data import split as run_split

    result = run_split(_config(config, overrides).split, activations, out)
    print_json(
        {
            name: {"rows": result.rows[name], "documents": result.documents[name]}
            for name in result.paths
        }
    )
    for name in ("av_sft", "ar_sft"):
        next_command(
            f"gloss data label {out / name}.parquet --config {config} --out labels/{name}.parquet"
        )


@app.command()
def label(
    parquet: Annotated[Path, typer.Argument(help="Activations to label.")],
    config: CONFIG,
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
    overrides: SET = None,
) -> None:
    """Activations → with a label each."""
    from gloss.data import label as run_label

    settings = _config(config, overrides).label
    result = run_label(settings, parquet, settings.make_labeller(), out)
    print_json({"path": str(result.path), "labelled": result.labelled, "dropped": result.dropped})
    next_command(
        f"the same for the other parts, then: gloss data build NAME=FILE … --config {config} --out"
        " datasets"
    )


@app.command()
def build(
    inputs: Annotated[
        list[str], typer.Argument(help="NAME=FILE; av_sft, ar_sft, rl, heldout or heldout_labels.")
    ],
    config: CONFIG,
    out: Annotated[Path, typer.Option("--out", help="Folder for the datasets.")],
    overrides: SET = None,
) -> None:
    """Labelled and plain activations → prompts and responses to train on."""
    from gloss.data import build as run_build
    from gloss.plugins import target_place
    from gloss.target_model import load_tokenizer

    settings = _config(config, overrides)
    named = {}
    for item in inputs:
        name, equals, path = item.partition("=")
        if not equals or name in named:
            raise ConfigError(
                "cannot read an input", expected="NAME=FILE, each name once", found=repr(item)
            )
        named[name] = Path(path)
    result = run_build(settings.build, named, load_tokenizer(target_place(settings.target)), out)
    print_json(
        {
            name: {"path": str(path), "rows": result.rows[name]}
            for name, path in result.paths.items()
        }
    )
    next_command(
        f"gloss train ar --config {config} --dataset {out / 'ar_sft.parquet'} --out ar_sft"
    )


def _config(path: Path, overrides: list[str] | None) -> Any:
    from gloss.pipeline.run_config import read_config

    return read_config(path, overrides or [])
