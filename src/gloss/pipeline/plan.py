"""What a run would do and cost, without doing it."""

from __future__ import annotations

from pathlib import Path

from gloss.pipeline import stages
from gloss.pipeline.run_config import RunConfig


def plan_text(config: RunConfig, out_dir: Path) -> str:
    """The stages with their amounts, one per line, and which are finished in ``out_dir``."""
    from gloss.pipeline.runner import RunFolder

    folder = RunFolder(out_dir)
    if (out_dir / "config.json").exists():
        folder.open(config)
    documents = config.corpus.max_documents
    rows = f"{documents * config.extract.positions_per_doc:,}" if documents else "all"
    joint = config.joint
    amounts = {
        "target": config.target,
        "extract_activations": (
            f"{documents or 'all'} documents of {config.corpus.source}, at most {rows} activations"
        ),
        "split_documents": ", ".join(
            f"{name} {share:.0%}" for name, share in config.split.shares.items()
        ),
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
