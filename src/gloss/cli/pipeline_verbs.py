"""Verbs that run the whole pipeline or measure what it made: quickstart, run, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gloss.cli.checks import check_sources
from gloss.cli.options import AtLeast0, NLAOptions
from gloss.cli.output import Answer
from gloss.durable import output_folder
from gloss.errors import ConfigError
from gloss.pipeline.last_run import remember_quickstart, require_finished_run

if TYPE_CHECKING:
    from gloss.pipeline.run_config import RunConfig


Rows = Annotated[int, typer.Option(min=2)]


def quickstart(preset: str = "standard", out: Path | None = None, seed: AtLeast0 = 0) -> Answer:
    """Train an NLA for a small language model and read its activations, on a laptop."""
    from gloss.pipeline.run_config import preset_path, read_config

    config = read_config(preset_path(preset), [f"seed={seed}"])
    named = preset if seed == 0 else f"{preset}-seed{seed}"
    folder = out if out is not None else Path("gloss-runs") / named
    output_folder(folder)
    text = "Once upon a time there was a small boat on the lake."
    answer = _run(config, folder, f'gloss explain "{text}" --positions all')
    remember_quickstart(folder)
    return answer


def run(
    config: Path,
    /,
    out: Path | None = None,
    overrides: list[str] | None = None,
    dry_run: bool = False,
) -> Answer:
    """Run every stage of a config: extract, split, label, build, AR SFT, AV SFT, joint RL,
    evaluate, report."""
    from gloss.pipeline.run_config import read_config

    settings = read_config(config, overrides or [])
    folder = out if out is not None else Path("gloss-runs") / settings.name
    output_folder(folder)
    check_sources(settings)
    if dry_run:
        from gloss.pipeline.runner import plan_text

        plan = plan_text(settings, folder)
        return Answer({"plan": plan.splitlines()}, [plan])
    return _run(settings, folder, f"gloss explain TEXT --nla {folder}")


def evaluate(
    run_dir: Path | None = None,
    /,
    *,
    parts: NLAOptions,
    activations: Path | None = None,
    judge: str | None = None,
    max_rows: Rows | None = None,
    seed: AtLeast0 = 0,
    out: Path | None = None,
) -> Answer:
    """Measure an NLA: that of a run again, or any NLA (--nla, --av, --ar) on a file of activations:
    FVE with interval, blind controls, claims, rewrites."""
    if run_dir is None and activations is None:
        what, expected = "nothing to measure", "the folder of a run, or --activations FILE"
        raise ConfigError(what, expected=expected)
    of_files = activations, judge, out, seed or None
    if run_dir is not None and (of_files != (None,) * 4 or parts != NLAOptions()):
        what = "a run is measured as its own settings say"
        expected = "no more than --max-rows beside its folder, or an NLA and --activations"
        raise ConfigError(what, expected=expected, found=str(run_dir))
    from gloss.report import summary_table

    if run_dir is not None:
        require_finished_run(run_dir)
        from gloss.pipeline.runner import evaluate_again

        results = evaluate_again(run_dir, max_rows=max_rows)
        return Answer(results, [summary_table(results)], f"gloss results report {run_dir}")
    assert activations is not None
    results = _evaluate_nla(parts, activations, judge, max_rows, seed, out)
    then = None if out is None else f"gloss results report {out}"
    return Answer(results, [summary_table(results)], then)


def _evaluate_nla(
    parts: NLAOptions,
    activations: Path,
    judge: str | None,
    max_rows: int | None,
    seed: int,
    out: Path | None,
) -> dict[str, Any]:
    from gloss import plugins
    from gloss.durable import write_json
    from gloss.evaluate import EvaluateConfig, evaluate_nla
    from gloss.nla.trust_score import TRUST_SCORE_NAME
    from gloss.store.run_files import RESULTS_NAME

    judge_class = None if judge is None else plugins.load("gloss.judges", judge)
    if out is not None:
        output_folder(out)
    nla = parts.open()
    config = EvaluateConfig(seed=seed, max_new_tokens=nla.max_new_tokens)
    if max_rows is not None:
        config = config.model_copy(update={"max_rows": max_rows})
    score = None if out is None else out / TRUST_SCORE_NAME
    knowing = None if judge_class is None else judge_class()
    results = evaluate_nla(config, nla, activations, judge=knowing, trust_score=score)
    target = str(nla.places.target or nla.sidecar.base_checkpoint)
    results |= {"nla": nla.name, "target": target, "seed": seed}
    if out is not None:
        write_json(out / RESULTS_NAME, results)
    return results


def _run(config: RunConfig, folder: Path, then: str) -> Answer:
    from gloss.pipeline.runner import run as run_pipeline
    from gloss.report import example_panels, summary_table

    results = run_pipeline(config, folder)
    written = [f"{name}: {folder / file}" for name, file in _WRITTEN.items()]
    return Answer(results, [summary_table(results), *example_panels(results), *written], then)


_WRITTEN = {"report": "report.html", "results": "results.json"}
