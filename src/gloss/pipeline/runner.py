"""Runs every stage of a config in a folder: what is finished is kept, what was stopped goes on,
what differs is refused.
"""

from __future__ import annotations

import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from gloss.contract.files import RESULTS_NAME
from gloss.durable import folder_lock, read_json, write_json
from gloss.pipeline import stages
from gloss.pipeline.last_run import require_finished_run
from gloss.pipeline.run_config import RunConfig
from gloss.report import write_report
from gloss.store.record import require_same_settings

VERSIONED = ("gloss-nla", "torch", "transformers", "tokenizers", "numpy", "pyarrow")


@dataclass
class RunFolder:
    """A run's folder: its resolved config in ``config.json`` and what each finished stage took in
    ``stages.json``.
    """

    path: Path
    finished: dict[str, dict[str, float]] = field(default_factory=dict)

    def open(self, config: RunConfig) -> None:
        """Creates the folder, or continues it.

        Raises: ResumeError if it holds a run with other settings, naming the first that differ.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        record, wanted = self.path / "config.json", config.model_dump(mode="json")
        if record.exists():
            require_same_settings(read_json(record), wanted, where=self.path)
        else:
            write_json(record, wanted)
        ledger = self.path / "stages.json"
        if ledger.exists():
            self.finished = read_json(ledger)

    def stage(self, name: str, work: Callable[[], object]) -> None:
        """Runs ``work`` unless the stage is finished, and records its seconds."""
        if name in self.finished:
            return
        started, used = time.monotonic(), time.process_time()
        work()
        self.finished[name] = {
            "seconds": round(time.monotonic() - started, 2),
            "cpu_seconds": round(time.process_time() - used, 2),
        }
        write_json(self.path / "stages.json", self.finished)


def run(config: RunConfig, out_dir: Path) -> dict[str, Any]:
    """Runs all stages of ``config`` in ``out_dir`` and returns the contents of its
    ``results.json``.

    A run stopped or killed at any moment continues when called again with the same config, and ends
    with the same numbers.
    Raises: LockError if another process is at work there; any GlossError of a stage.
    """
    with folder_lock(out_dir):
        return _run(config, out_dir)


def _run(config: RunConfig, out_dir: Path) -> dict[str, Any]:
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    folder = RunFolder(out_dir)
    folder.open(config)
    for name, work in stages.plan(config, out_dir):
        folder.stage(name, work)
    return _conclude(config, folder)


def _conclude(config: RunConfig, folder: RunFolder) -> dict[str, Any]:
    """Writes ``results.json`` and the report, and returns the results."""
    results = _results(config, folder)
    write_json(folder.path / RESULTS_NAME, results)
    write_report(folder.path)
    return results


def _results(config: RunConfig, folder: RunFolder) -> dict[str, Any]:
    measured = read_json(folder.path / "evaluation.json")
    seconds = {name: entry["seconds"] for name, entry in folder.finished.items()}
    return {
        **measured,
        "seconds": {**seconds, "total": round(sum(seconds.values()), 2)},
        "cpu_seconds": round(sum(entry["cpu_seconds"] for entry in folder.finished.values()), 2),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "seed": config.seed,
        "preset": config.name,
        "target": config.target,
        "layer": measured["layer"],
        "config_hash": config.hash,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in VERSIONED},
        },
    }


def evaluate_again(out_dir: Path, *, max_rows: int | None = None) -> dict[str, Any]:
    """Measures a finished run's NLA again and rewrites its results; returns them.

    Raises: ResumeError if the folder holds no finished run.
    """
    folder = RunFolder(out_dir)
    require_finished_run(out_dir)
    with folder_lock(out_dir):
        config = RunConfig.model_validate(read_json(out_dir / "config.json"))
        folder.open(config)
        if max_rows is not None:
            config = config.model_copy(
                update={"evaluate": config.evaluate.model_copy(update={"max_rows": max_rows})}
            )
        folder.finished.pop("evaluate", None)
        folder.stage("evaluate", lambda: stages.evaluate(config, out_dir))
        return _conclude(config, folder)


def plan_text(config: RunConfig, out_dir: Path) -> str:
    """What a run would do and cost: its stages, one per line, and which are finished in
    ``out_dir``.
    """
    folder = RunFolder(out_dir)
    if (out_dir / "config.json").exists():
        folder.open(config)
    corpus, joint = config.corpus, config.joint
    documents = corpus.max_documents
    rows = f"{documents * config.extract.positions_per_doc:,}" if documents else "all"
    shares = ", ".join(f"{name} {share:.0%}" for name, share in config.split.shares.items())
    amounts = {
        "target": config.target,
        "extract_activations": (
            f"{documents or 'all'} documents of {corpus.source}, at most {rows} activations"
        ),
        "split_documents": shares,
        "write_labels": f"labeller {config.label.labeller}",
        "build_datasets": "prompts and responses",
        "ar_sft": f"{config.ar_sft.steps} steps of {config.ar_sft.batch_size}",
        "av_sft": f"{config.av_sft.steps} steps of {config.av_sft.batch_size}",
        "joint": (
            f"{joint.steps} steps of {joint.prompts_per_step} × {joint.group_size} explanations,"
            f" {joint.steps * joint.prompts_per_step * joint.group_size:,} in all, at most"
            f" {joint.max_new_tokens} tokens each"
        ),
        "evaluate": (
            f"at most {config.evaluate.max_rows} held-out activations, explained four times"
        ),
    }
    lines = [f"run {config.name} (config {config.hash}) in {out_dir}"]
    for name, _ in stages.plan(config, out_dir):
        state = "done" if name in folder.finished else "to do"
        lines.append(f"  {name:<20} {state:<6} {amounts[name]}")
    return "\n".join(lines)
