"""Runs the stages of a config in a folder: finished ones are kept, other settings refused."""

from __future__ import annotations

import platform
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from gloss.contract.files import RESULTS_NAME
from gloss.durable import folder_lock, read_json, write_json
from gloss.pipeline import stages
from gloss.pipeline.last_run import require_finished_run
from gloss.pipeline.run_checks import check_run
from gloss.pipeline.run_config import RunConfig
from gloss.report import write_report
from gloss.store.digests import check_digests, digests_of
from gloss.store.record import require_same_settings

VERSIONED = ("gloss-nla", "torch", "transformers", "tokenizers", "numpy", "pyarrow")


@dataclass
class RunFolder:
    """A run's resolved config (``config.json``), and of each stage what it took and the digests of
    what it read and wrote (``stages.json``)."""

    path: Path
    finished: dict[str, dict[str, Any]] = field(default_factory=dict)

    def open(self, config: RunConfig) -> None:
        """Creates the folder, or continues it. Raises: ResumeError if it has other settings."""
        self.path.mkdir(parents=True, exist_ok=True)
        record, wanted = self.path / "config.json", config.model_dump(mode="json")
        if record.exists():
            found, defaults = read_json(record), config.defaults()
            require_same_settings(found, wanted, where=self.path, defaults=defaults)
        else:
            write_json(record, wanted)
        ledger = self.path / "stages.json"
        if ledger.exists():
            self.finished = read_json(ledger)

    def check_finished(self) -> None:
        """Raises ResumeError if something that a finished stage read or wrote is not as it was."""
        for name, entry in self.finished.items():
            for kind, use in (("inputs", "read"), ("outputs", "wrote")):
                check_digests(entry.get(kind, {}), self.path, stage=name, use=use)

    def stage(
        self,
        name: str,
        work: Callable[[], object],
        *,
        inputs: Sequence[Path] = (),
        outputs: Sequence[Path] = (),
    ) -> None:
        """Runs ``work`` unless the stage is finished; records its seconds and digests of files."""
        if name in self.finished:
            return
        read = digests_of(inputs, self.path)
        started, used = time.monotonic(), time.process_time()
        work()
        seconds, cpu_seconds = time.monotonic() - started, time.process_time() - used
        self.finished[name] = {
            "seconds": round(seconds, 2),
            "cpu_seconds": round(cpu_seconds, 2),
            "inputs": read,
            "outputs": digests_of(outputs, self.path),
        }
        write_json(self.path / "stages.json", self.finished)


def run(config: RunConfig, out_dir: Path) -> dict[str, Any]:
    """Runs all stages of ``config`` in ``out_dir`` and returns its ``results.json``.

    Stopped or killed at any moment and called again it ends with the same numbers.
    Raises: LockError if another process is at work there; any GlossError of a stage."""
    with folder_lock(out_dir):
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        folder = RunFolder(out_dir)
        folder.open(config)
        folder.check_finished()
        if not folder.finished:
            check_run(config)
        for name, work in stages.plan(config, out_dir):
            inputs, outputs = stages.files(config, out_dir, name)
            folder.stage(name, work, inputs=inputs, outputs=outputs)
        return _conclude(config, folder)


def _conclude(config: RunConfig, folder: RunFolder) -> dict[str, Any]:
    measured = read_json(folder.path / "evaluation.json")
    seconds = {name: entry["seconds"] for name, entry in folder.finished.items()}
    results = {
        **measured,
        "seconds": {**seconds, "total": round(sum(seconds.values()), 2)},
        "cpu_seconds": round(sum(entry["cpu_seconds"] for entry in folder.finished.values()), 2),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "seed": config.seed,
        "preset": config.name,
        "target": config.target,
        "layer": measured["layer"],
        "config_hash": config.hash,
        "versions": {"python": platform.python_version()} | {n: version(n) for n in VERSIONED},
    }
    write_json(folder.path / RESULTS_NAME, results)
    write_report(folder.path)
    return results


def evaluate_again(out_dir: Path, *, max_rows: int | None = None) -> dict[str, Any]:
    """Measures a finished run's NLA again and rewrites its results. Raises: ResumeError."""
    folder = RunFolder(out_dir)
    require_finished_run(out_dir)
    with folder_lock(out_dir):
        config = RunConfig.model_validate(read_json(out_dir / "config.json"))
        folder.open(config)
        folder.finished.pop("evaluate", None)
        folder.check_finished()
        if max_rows is not None:
            measured = config.evaluate.model_copy(update={"max_rows": max_rows})
            config = config.model_copy(update={"evaluate": measured})
        folder.stage("evaluate", lambda: stages.evaluate(config, out_dir))
        return _conclude(config, folder)


def plan_text(config: RunConfig, out_dir: Path) -> str:
    """A run's stages and what each costs, one per line, and which are finished in ``out_dir``.

    Raises: what ``check_run`` and a folder of other settings raise."""
    check_run(config)
    folder = RunFolder(out_dir)
    if (out_dir / "config.json").exists():
        folder.open(config)
        folder.check_finished()
    corpus, joint = config.corpus, config.joint
    documents = corpus.max_documents
    rows = f"{documents * config.extract.positions_per_doc:,}" if documents else "all"
    read, measured = f"{documents or 'all'} documents of {corpus.source}", config.evaluate.max_rows
    steps = f"{joint.steps} steps of {joint.prompts_per_step} × {joint.group_size} explanations"
    total = joint.steps * joint.prompts_per_step * joint.group_size
    shares = ", ".join(f"{name} {share:.0%}" for name, share in config.split.shares.items())
    amounts = {
        "target": config.target,
        "extract_activations": f"{read}, at most {rows} activations",
        "split_documents": shares,
        "write_labels": f"labeller {config.label.labeller}",
        "build_datasets": "prompts and responses",
        "ar_sft": f"{config.ar_sft.steps} steps of {config.ar_sft.batch_size}",
        "av_sft": f"{config.av_sft.steps} steps of {config.av_sft.batch_size}",
        "joint": f"{steps}, {total:,} in all, at most {joint.max_new_tokens} tokens each",
        "evaluate": f"at most {measured} held-out activations, explained four times",
    }
    lines = [f"run {config.name} (config {config.hash}) in {out_dir}"]
    for name, _ in stages.plan(config, out_dir):
        state = "done" if name in folder.finished else "to do"
        lines.append(f"  {name:<20} {state:<6} {amounts[name]}")
    return "\n".join(lines)
