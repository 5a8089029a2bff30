"""``gloss data`` and ``gloss train``: each stage alone, on files of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gloss.cli.checks import check_half, check_sources
from gloss.cli.options import ConfigOptions
from gloss.cli.output import next_command, print_json
from gloss.durable import output_file, output_folder
from gloss.errors import ConfigError
from gloss.store.shards import shard_files


def extract(given: ConfigOptions, *, out: Path) -> None:
    """Corpus → raw activations with provenance."""
    settings = given.read()
    output_folder(out)
    check_sources(settings)
    from gloss.data import extract as run_extract
    from gloss.plugins import target_place
    from gloss.target_model import load_target

    stage = settings.extract.model_copy(update={"corpus": settings.corpus.source})
    name = target_place(settings.target)
    target = load_target(name, dtype=stage.dtype, attn_implementation=stage.attn_implementation)
    documents = settings.corpus.documents(settings.seed)
    result = run_extract(stage, target, documents, out, num_documents=settings.corpus.max_documents)
    print_json({"path": str(result.path), **vars(result.counts)})
    next_command(f"gloss data split --config {given.config} --activations {out} --out splits")


def split(given: ConfigOptions, *, activations: Path, out: Path) -> None:
    """Activations → four parts, by document."""
    settings = given.read()
    output_folder(out)
    shard_files(activations)
    from gloss.data import split as run_split

    result = run_split(settings.split, activations, out)
    rows, documents = result.rows, result.documents
    print_json({name: {"rows": rows[name], "documents": documents[name]} for name in result.paths})
    for name in ("av_sft", "ar_sft"):
        written = f"--config {given.config} --out labels/{name}.parquet"
        next_command(f"gloss data label {out / name}.parquet {written}")


def label(parquet: Path, /, given: ConfigOptions, *, out: Path) -> None:
    """Activations → with a label each."""
    settings = given.read().label
    output_file(out, unlike=parquet)
    shard_files(parquet)
    from gloss.data import label as run_label

    result = run_label(settings, parquet, settings.make_labeller(), out)
    print_json({"path": str(result.path), "labelled": result.labelled, "dropped": result.dropped})
    following = f"gloss data build FILE … --config {given.config} --out datasets"
    next_command(f"the same for the other parts, then: {following}")


def build(inputs: list[str], /, given: ConfigOptions, *, out: Path) -> None:
    """Labelled and plain activations → prompts and responses to train on."""
    settings, named = given.read(), _named(inputs)
    output_folder(out)
    for name, file in named.items():
        output_file(out / f"{name}.parquet", unlike=file)
    check_sources(settings, corpus=False)
    from gloss.data import build as run_build
    from gloss.plugins import target_place
    from gloss.target_model import load_tokenizer

    tokenizer = load_tokenizer(target_place(settings.target))
    result = run_build(settings.build, named, tokenizer, out)
    rows = result.rows
    print_json({name: {"path": str(p), "rows": rows[name]} for name, p in result.paths.items()})
    dataset = out / "ar_sft.parquet"
    next_command(f"gloss train ar --config {given.config} --dataset {dataset} --out ar_sft")


def ar(given: ConfigOptions, *, dataset: Path, out: Path) -> None:
    """AR SFT: regression from labels to activations."""
    settings, options = _warm_start(given, dataset, out)
    from gloss.train import train_ar

    result = train_ar(settings.ar_sft, **options)
    measured = {"fve_train": result.final_fve, "skipped_steps": result.skipped_steps}
    print_json({"checkpoint": str(result.folder), **measured})
    following = dataset.with_name("av_sft.parquet")
    next_command(f"gloss train av --config {given.config} --dataset {following} --out av_sft")


def av(given: ConfigOptions, *, dataset: Path, out: Path) -> None:
    """AV SFT: next-token prediction on labels, with the activation injected."""
    settings, options = _warm_start(given, dataset, out)
    from gloss.train import train_av

    result = train_av(settings.av_sft, **options)
    measured = {"loss": result.final_loss, "skipped_steps": result.skipped_steps}
    print_json({"checkpoint": str(result.folder), **measured})
    halves, rl = f"--av {result.folder} --ar ar_sft/checkpoint", dataset.with_name("rl.parquet")
    next_command(f"gloss train joint --config {given.config} {halves} --dataset {rl} --out nla")


def joint(
    given: ConfigOptions,
    *,
    av: Path,
    ar: Path,
    dataset: Path,
    out: Path,
    heldout: Path | None = None,
) -> None:
    """Joint RL: GRPO for the AV, regression for the AR, on the same explanations."""
    settings = given.read()
    output_folder(out)
    check_half(av, "av")
    check_half(ar, "ar")
    for file in (dataset, *([] if heldout is None else [heldout])):
        shard_files(file)
    from gloss.pipeline.stages import joint_measure
    from gloss.train import train_joint

    result = train_joint(
        settings.joint,
        av=av,
        ar=ar,
        dataset=dataset,
        heldout=heldout,
        out_dir=out,
        measure=joint_measure(settings),
    )
    halves = {"av": str(result.av), "ar": str(result.ar)}
    numbers = {"fve_sampled": result.final_fve_sampled, "kept_step": result.kept_step}
    print_json({**halves, **numbers, "stopped": result.stopped})
    next_command(f"gloss explain TEXT --nla {out} --target TARGET")


def _warm_start(given: ConfigOptions, dataset: Path, out: Path) -> tuple[Any, dict[str, Any]]:
    """The settings, and what SFT of a half reads and writes."""
    settings = given.read()
    output_folder(out)
    check_sources(settings, corpus=False)
    shard_files(dataset)
    from gloss.plugins import target_place

    return settings, {"target": target_place(settings.target), "dataset": dataset, "out_dir": out}


def _named(inputs: list[str]) -> dict[str, Path]:
    """The files by the names of the datasets that are made of them."""
    named: dict[str, Path] = {}
    for item in inputs:
        name, equals, path = item.partition("=")
        file = Path(path if equals else item)
        name = name if equals else file.stem
        if not name or name in named:
            expected = "NAME=FILE, each name once"
            raise ConfigError("cannot read an input", expected=expected, found=repr(item))
        shard_files(file)
        named[name] = file
    return named
