"""The verbs of ``gloss nla`` that look at an NLA's files: inspect, validate, convert, card, push,
pull."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from gloss.cli.checks import check_dtype, check_model, check_new_folder
from gloss.cli.output import Answer, next_command
from gloss.errors import CheckpointError, ConfigError

_MARKS = {"ok": "ok  ", "warning": "warn", "fail": "FAIL", "skipped": "skip"}


def inspect(place: str, /, revision: str | None = None) -> Answer:
    """Say what a checkpoint is; weights are neither read nor fetched."""
    _check(place, revision)
    from gloss.release.summary import inspect as run_inspect
    from gloss.release.summary import summary_table

    summaries = run_inspect(place, revision=revision)
    shown = [summary_table(summary) for summary in summaries]
    return Answer([asdict(one) for one in summaries], shown, f"gloss nla validate {place}")


def validate(
    place: str,
    /,
    target: str | None = None,
    texts: Path | None = None,
    revision: str | None = None,
) -> Answer:
    """Check everything that can be checked, one line each; ends with 2 if any check failed."""
    read = _lines(texts)
    _check(place, revision)
    if target is not None:
        check_model(target)
    from gloss.release.validate import validate as run_validate

    validation = run_validate(place, target=target, texts=read, revision=revision)
    lines = []
    for one in validation.findings:
        remedy = f". {one.remedy}" if one.remedy else ""
        lines.append(f"{_MARKS[one.status]}  {one.half:<4}  {one.check}: {one.says}{remedy}")
    found = [asdict(finding) for finding in validation.findings]
    following = f"card {place} --license ID" if target else f"validate {place} --target MODEL"
    return Answer(
        {"passed": validation.passed, "findings": found},
        lines,
        f"gloss nla {following}",
        exit_code=0 if validation.passed else 2,
    )


def convert(
    place: str,
    out: Path,
    /,
    dialect: Literal["released", "internal"] = "released",
    dtype: str | None = None,
    base: str | None = None,
    like: Path | None = None,
    base_checkpoint: str | None = None,
    revision: str | None = None,
) -> None:
    """Turn training shards, a LoRA adapter or another dialect or dtype into one Hugging Face
    folder."""
    check_dtype(dtype)
    if not Path(place).expanduser().is_dir():  # shards and adapters are no NLA to be found
        _check(place, revision)
    check_new_folder(out)
    from gloss.release.convert import ConvertOptions
    from gloss.release.convert import convert as run_convert

    options = ConvertOptions(
        dialect=dialect, dtype=dtype, base=base, like=like, base_checkpoint=base_checkpoint
    )
    for folder in run_convert(place, out, options, revision=revision):
        print(folder)
    next_command(f"gloss nla validate {out}")


def card(
    folder: str,
    /,
    results: Path | None = None,
    licence: str | None = None,
    base_model: str | None = None,
    repo: str | None = None,
) -> None:
    """Write the model card: licence, base model, measured FVE with interval and controls, usage."""
    _check(folder, None)
    from gloss.release.card import write_cards

    said: Any = {"results": results, "licence": licence, "base_model": base_model, "repo": repo}
    for file in write_cards(folder, **said):
        print(file)
    next_command(f"gloss nla push {folder} OWNER/NAME")


def push(folder: Path, repo: str, /, private: bool = False) -> None:
    """Publish a checkpoint; refused without a licence and a passing validate. The token is HF_TOKEN
    or that of hf auth login."""
    if not folder.is_dir():
        raise CheckpointError("no such folder", where=folder)
    from gloss.release.publish import push as run_push

    for address in run_push(folder, repo, private=private).values():
        print(address)
    next_command(f"gloss nla pull {repo}")


def pull(place: str, /, revision: str | None = None) -> None:
    """Fetch all parts of an NLA and print their folders."""
    _check(place, revision)
    from gloss.release.publish import pull as run_pull

    for folder in run_pull(place, revision=revision).values():
        print(folder)
    next_command(f'gloss explain "Some text" --nla {place}')


def _check(place: str, revision: str | None) -> None:
    """Refuses a place that is none before anything is loaded."""
    from gloss.release.parts import parts_of

    parts_of(place, revision=revision)


def _lines(file: Path | None) -> list[str] | None:
    if file is None:
        return None
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        expected = "UTF-8 text, one text a line"
        raise ConfigError("cannot read the texts", where=file, expected=expected) from error
    return [line for line in lines if line.strip()]
