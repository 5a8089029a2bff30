"""The stages of a run, in order, each reading files of the run's folder and writing files there.

target/       a copy of an installed target such as the lab's, where the config names one
activations/  raw activations with provenance                      ← extract
splits/       av_sft, ar_sft, rl, heldout: rows by document        ← split
labels/       av_sft, ar_sft, heldout: with a label each           ← label
datasets/     av_sft, ar_sft, rl, heldout, heldout_labels          ← build
ar_sft/, av_sft/   checkpoints of the warm start                   ← train
nla/          av/, ar/: the trained NLA, metrics and samples; series.json, series/:
              checkpoints on the way, and how they measure         ← train
evaluation.json, metrics.jsonl, samples.jsonl                      ← evaluate
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from gloss import plugins
from gloss.data import build, extract, label, split
from gloss.durable import copy_files, read_json, replaced_folder, write_json, write_text
from gloss.evaluate import NLAFolders, SeriesOf
from gloss.evaluate import evaluate as evaluate_nla
from gloss.nla.trust_score import TRUST_SCORE_NAME
from gloss.pipeline.run_config import RunConfig
from gloss.target_model import load_target, load_tokenizer
from gloss.train import train_ar, train_av, train_joint
from gloss.train.series import SERIES_NAME, WEIGHTS_FOLDER, SeriesMeasure
from gloss.train.state import FINISHED_NAME

LABELLED = ("ar_sft", "av_sft", "heldout")
Plan = list[tuple[str, Callable[[], object]]]


def plan(config: RunConfig, out_dir: Path) -> Plan:
    """The stages by name, each as a call without arguments."""
    stages = (target, extract_activations, split_documents, write_labels, build_datasets)
    trained = (ar_sft, av_sft, joint, evaluate)
    return [(stage.__name__, partial(stage, config, out_dir)) for stage in (*stages, *trained)]


OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "target": ("target",),
    "extract_activations": ("activations",),
    "split_documents": ("splits",),
    "write_labels": ("labels",),
    "build_datasets": ("datasets",),
    "ar_sft": ("ar_sft/checkpoint",),
    "av_sft": ("av_sft/checkpoint",),
    "joint": ("nla/av", "nla/ar", f"nla/{SERIES_NAME}", f"nla/{WEIGHTS_FOLDER}"),
    "evaluate": ("evaluation.json",),  # and nla/av/trust_score.json
}
"""What each stage leaves for those behind it."""


def files(config: RunConfig, out_dir: Path, stage: str) -> tuple[list[Path], list[Path]]:
    """The files and folders from outside of the run that a stage reads, and those it writes."""
    source = config.corpus.source
    places = {"target": config.target, "extract_activations": source}
    named = Path(places[stage]) if stage in places else None
    outside = named is not None and plugins.find("gloss.corpora", source) is None
    inputs = [named] if outside and named is not None and named.exists() else []
    return inputs, [out_dir / name for name in OUTPUTS[stage]]


def target_of(config: RunConfig, out_dir: Path) -> str:
    """The target of a run: of an installed one the copy in its folder, else what is named."""
    return str(out_dir / "target") if _installed_target(config) else config.target


def target(config: RunConfig, out_dir: Path) -> None:
    """Copies an installed target; every target is loaded once: a wrong one ends the run at once."""
    if (installed := _installed_target(config)) is not None:
        with replaced_folder(out_dir / "target") as temporary:
            copy_files(installed, temporary)
    load_target(target_of(config, out_dir), dtype=config.extract.dtype)


def _installed_target(config: RunConfig) -> Path | None:
    place = plugins.target_place(config.target)
    return Path(place) if place != config.target and Path(place).is_dir() else None


def extract_activations(config: RunConfig, out_dir: Path) -> None:
    """Corpus → activations."""
    settings = config.extract.model_copy(update={"corpus": config.corpus.source})
    name, kernel = target_of(config, out_dir), settings.attn_implementation
    model = load_target(name, dtype=settings.dtype, attn_implementation=kernel)
    documents, total = config.corpus.documents(config.seed), config.corpus.max_documents
    extract(settings, model, documents, out_dir / "activations", num_documents=total)


def split_documents(config: RunConfig, out_dir: Path) -> None:
    """Activations → av_sft, ar_sft, rl, heldout, by document."""
    split(config.split, out_dir / "activations", out_dir / "splits")


def write_labels(config: RunConfig, out_dir: Path) -> None:
    """Texts for the warm start, and for measuring the AR on labels of held-out documents."""
    labeller = config.label.make_labeller()
    splits, labels = out_dir / "splits", out_dir / "labels"
    for name in LABELLED:
        file = f"{name}.parquet"
        label(config.label, splits / file, labeller, labels / file)


def build_datasets(config: RunConfig, out_dir: Path) -> None:
    """Prompts and responses for training."""
    splits, labels = out_dir / "splits", out_dir / "labels"
    inputs = {name: labels / f"{name}.parquet" for name in ("av_sft", "ar_sft")}
    inputs |= {name: splits / f"{name}.parquet" for name in ("rl", "heldout")}
    inputs["heldout_labels"] = labels / "heldout.parquet"
    build(config.build, inputs, load_tokenizer(target_of(config, out_dir)), out_dir / "datasets")


def ar_sft(config: RunConfig, out_dir: Path) -> None:
    """Warm start of the AR."""
    name, dataset = target_of(config, out_dir), out_dir / "datasets" / "ar_sft.parquet"
    train_ar(config.ar_sft, target=name, dataset=dataset, out_dir=out_dir / "ar_sft")


def av_sft(config: RunConfig, out_dir: Path) -> None:
    """Warm start of the AV."""
    name, dataset = target_of(config, out_dir), out_dir / "datasets" / "av_sft.parquet"
    train_av(config.av_sft, target=name, dataset=dataset, out_dir=out_dir / "av_sft")


def joint(config: RunConfig, out_dir: Path) -> None:
    """Joint reinforcement learning."""
    av, ar = _warm_starts(out_dir)
    dataset, heldout = (out_dir / "datasets" / f"{name}.parquet" for name in ("rl", "heldout"))
    train_joint(
        config.joint,
        av=av,
        ar=ar,
        dataset=dataset,
        heldout=heldout,
        out_dir=out_dir / "nla",
        measure=joint_measure(config),
    )


def joint_measure(config: RunConfig) -> SeriesMeasure:
    """What the series of checkpoints of joint RL is measured by."""
    measured = config.evaluate
    return SeriesOf(_judge(config), measured.max_new_tokens, measured.seed)


def _judge(config: RunConfig) -> plugins.ClaimJudge | None:
    judge = plugins.find("gloss.judges", config.corpus.source)
    return None if judge is None else judge()


def _warm_starts(out_dir: Path) -> tuple[Path, Path]:
    return out_dir / "av_sft" / "checkpoint", out_dir / "ar_sft" / "checkpoint"


def evaluate(config: RunConfig, out_dir: Path) -> None:
    """FVE, controls, claims and examples on held-out documents; metrics gathered beside them."""
    datasets = out_dir / "datasets"
    results = evaluate_nla(
        config.evaluate,
        nla=NLAFolders(*_warm_starts(out_dir), out_dir / "nla" / "av", out_dir / "nla" / "ar"),
        heldout=datasets / "heldout.parquet",
        judge=_judge(config),
        heldout_labels=datasets / "heldout_labels.parquet",
        probe_dataset=datasets / "rl.parquet",
        target=target_of(config, out_dir),
        trust_score=out_dir / "nla" / "av" / TRUST_SCORE_NAME,
    )
    for name in ("metrics.jsonl", "samples.jsonl"):
        parts = [out_dir / stage / name for stage in ("ar_sft", "av_sft", "nla")]
        texts = [part.read_text(encoding="utf-8") for part in parts if part.exists()]
        write_text(out_dir / name, "".join(texts))
    series = out_dir / "nla" / SERIES_NAME
    if series.exists():
        finished = read_json(out_dir / "nla" / FINISHED_NAME)["result"]
        ended = {name: finished.get(name) for name in ("kept_step", "stopped")}
        results["series"] = {**read_json(series), **ended}
    write_json(out_dir / "evaluation.json", results)
