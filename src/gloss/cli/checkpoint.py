"""``gloss checkpoint``: look at an NLA's files, check them, bring them into shape, publish and
fetch them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gloss.cli.console import next_command, print_json, print_rich
from gloss.errors import ConfigError

app = typer.Typer(
    help="Checkpoints: inspect, validate, convert, describe, publish, fetch.", no_args_is_help=True
)

PLACE = Annotated[
    str,
    typer.Argument(
        help="Folder of an AV, an AR or both, or a hub id (owner/name, owner/name@revision)."
    ),
]
REVISION = Annotated[
    str | None, typer.Option("--revision", help="Branch, tag or commit on the hub.")
]
JSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
_MARKS = {"ok": "ok  ", "warning": "warn", "fail": "FAIL", "skipped": "skip"}


@app.command()
def inspect(place: PLACE, revision: REVISION = None, as_json: JSON = False) -> None:
    """Say what a checkpoint is; weights are neither read nor fetched."""
    from dataclasses import asdict

    from gloss.release.summary import inspect as run_inspect
    from gloss.release.summary import summary_table

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
        str | None,
        typer.Option(help="Also read a few texts with this target model: round trip and layer."),
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(help="File of texts for that, one a line; a few are built in.")
    ] = None,
    revision: REVISION = None,
    as_json: JSON = False,
) -> None:
    """Check everything that can be checked, one line each; ends with 2 if any check failed."""
    from dataclasses import asdict

    from gloss.release.validate import validate as run_validate

    validation = run_validate(place, target=target, texts=_lines(texts), revision=revision)
    if as_json:
        print_json(
            {
                "passed": validation.passed,
                "findings": [asdict(finding) for finding in validation.findings],
            }
        )
    else:
        for finding in validation.findings:
            remedy = f". {finding.remedy}" if finding.remedy else ""
            print(
                f"{_MARKS[finding.status]}  {finding.half:<4}  {finding.check}:"
                f" {finding.says}{remedy}"
            )
    if not validation.passed:
        raise typer.Exit(2)
    next_command(
        f"gloss checkpoint card {place} --license ID"
        if target
        else f"gloss checkpoint validate {place} --target MODEL"
    )


@app.command()
def convert(
    place: PLACE,
    out: Annotated[Path, typer.Argument(help="Folder to write; it must not hold anything yet.")],
    dialect: Annotated[
        Literal["released", "internal"],
        typer.Option(help="Of the sidecar: as published, or as the reference trains with."),
    ] = "released",
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16; as it is if not given.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Base of a LoRA adapter, if not the one that it names.")
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            help="Folder with config, tokenizer and sidecar, for training shards that have none."
        ),
    ] = None,
    base_checkpoint: Annotated[
        str | None, typer.Option(help="Hub id of the base model, for the sidecar.")
    ] = None,
    revision: REVISION = None,
) -> None:
    """Turn training shards, a LoRA adapter or another dialect or dtype into one Hugging Face
    folder.
    """
    from gloss.release.convert import ConvertOptions
    from gloss.release.convert import convert as run_convert

    options = ConvertOptions(
        dialect=dialect, dtype=dtype, base=base, like=like, base_checkpoint=base_checkpoint
    )
    for folder in run_convert(place, out, options, revision=revision):
        print(folder)
    next_command(f"gloss checkpoint validate {out}")


@app.command()
def card(
    place: Annotated[str, typer.Argument(help="Folder of an AV, an AR or both.")],
    results: Annotated[
        Path | None, typer.Option(help="results.json of the run; without it nothing was measured.")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option("--license", help="Licence of the base model, as its card names it."),
    ] = None,
    base_model: Annotated[
        str | None, typer.Option(help="Hub id of the base model, if not that of the sidecar.")
    ] = None,
    repo: Annotated[
        str | None, typer.Option(help="Name under which it will be published, for the example.")
    ] = None,
) -> None:
    """Write the model card: licence, base model, measured FVE with interval and controls, usage."""
    from gloss.release.card import write_cards

    for file in write_cards(
        place, results=results, licence=licence, base_model=base_model, repo=repo
    ):
        print(file)
    next_command(f"gloss checkpoint push {place} OWNER/NAME")


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="Folder of an AV, an AR or both.")],
    repo: Annotated[
        str,
        typer.Argument(help="owner/name; of both halves owner/name-av and owner/name-ar are made."),
    ],
    private: Annotated[
        bool, typer.Option("--private", help="Make new repositories private.")
    ] = False,
) -> None:
    """Publish a checkpoint; refused without a licence and a passing validate. The token is HF_TOKEN
    or that of hf auth login.
    """
    from gloss.release.publish import push as run_push

    for address in run_push(folder, repo, private=private).values():
        print(address)
    next_command(f"gloss checkpoint pull {repo}")


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="owner/name or owner/name@revision.")],
    revision: REVISION = None,
) -> None:
    """Fetch all parts of an NLA and print their folders."""
    from gloss.release.publish import pull as run_pull

    for folder in run_pull(name, revision=revision).values():
        print(folder)
    next_command(f'gloss explain "Some text" --nla {name}')


def _lines(file: Path | None) -> list[str] | None:
    if file is None:
        return None
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(
            "cannot read the texts", where=file, expected="UTF-8 text, one text a line"
        ) from error
    return [line for line in lines if line.strip()]
