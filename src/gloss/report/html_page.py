"""One self-contained ``report.html``: no script, no network, light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gloss.durable import write_text
from gloss.formatting import count, decimal, duration, percent, signed, visible_token
from gloss.report.claims_tables import VERDICTS, kind_scores, pooled, read_example
from gloss.report.figures import (
    calibration_figure,
    claims_figure,
    fve_figure,
    points_figure,
    seconds_figure,
    text_figure,
)
from gloss.report.measures import (
    above_blind,
    best_blind,
    best_control,
    fve_interval,
    measure_rows,
)
from gloss.report.trust_sections import BLIND_WARNING, MIN_CLAIMS, findings, standing
from gloss.store.run_files import RunFiles, read_run, section

REPORT_NAME = "report.html"
SAMPLES_SHOWN = 5


def write_report(run_dir: Path, out: Path | None = None) -> Path:
    """Writes the report of a run, by default to ``run_dir``/report.html, and returns its path; the
    same files always give the same bytes.

    Raises: ConfigError if the folder holds no readable ``results.json``.
    """
    path = Path(out) if out is not None else Path(run_dir) / REPORT_NAME
    write_text(path, _rendered(read_run(Path(run_dir))))
    return path


def _rendered(run: RunFiles) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("gloss.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (decimal, percent, count, visible_token, standing)
    environment.filters.update({form.__name__: form for form in filters})
    return environment.get_template("report.html.j2").render(_context(run))


def _context(run: RunFiles) -> dict[str, Any]:
    results = run.results
    scores = kind_scores(results)
    return {
        "model": _model(results),
        "identity": _identity(run),
        "versions": section(results, "versions"),
        "tiles": _tiles(results),
        "groups": measure_rows(results),
        "alarm": _alarm(results),
        "findings": findings(results, run.metrics),
        "figures": {
            "fve": fve_figure(results, run.metrics),
            "claims": claims_figure(scores),
            "calibration": calibration_figure(results),
            "text": text_figure(run.metrics),
            "points": points_figure(results),
            "seconds": seconds_figure(results),
        },
        "scores": scores,
        "examples": [read_example(example) for example in results.get("examples") or []],
        "samples": _spread_samples(run.samples),
        "verdicts": VERDICTS,
        "notes": run.notes,
        "series": section(results, "series"),
        "min_claims": MIN_CLAIMS,
    }


def _model(results: Mapping[str, Any]) -> str:
    target = str(results.get("target") or "unnamed target")
    return Path(target).name or target


def _identity(run: RunFiles) -> dict[str, Any]:
    results = run.results
    layer, nla = results.get("layer"), results.get("nla")
    known = {
        "Target model": _model(results),
        "Layer": None if layer is None else f"{layer} (block output)",
        "NLA": Path(str(nla)).name if nla else run.name,
        "Preset": results.get("preset"),
        "Seed": results.get("seed"),
        "Config hash": results.get("config_hash"),
        "Total time": duration(section(results, "seconds").get("total")),
    }
    return {name: value for name, value in known.items() if value is not None}


def _tiles(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value and a note of the few numbers that stand large at the top."""
    fve, interval, best = section(results, "fve"), fve_interval(results), best_control(results)
    precision = pooled(kind_scores(results), "precision")
    within = f"95\u00a0% interval {interval}" if interval else "after joint RL"
    before = f"{decimal(fve.get('sft_sampled'))} before RL"
    control = [("Best control", decimal(best[1]), best[0])] if best else []
    judged = (
        "no known truth to judge by" if precision is None else "of all claims, against known truth"
    )
    return [
        ("FVE, greedy", decimal(fve.get("rl")), within),
        ("FVE, sampled", decimal(fve.get("rl_sampled")), before),
        *([_against_blind(results)] if above_blind(results) else control),
        ("Claims right", percent(precision), judged),
    ]


def _against_blind(results: Mapping[str, Any]) -> tuple[str, str, str]:
    above, best = above_blind(results), best_blind(results)
    note = f"best without the activation: {best[0]}, {decimal(best[1])}" if best else ""
    return "Above a blind guess", signed(above[0]) if above else "—", note


def _alarm(results: Mapping[str, Any]) -> str:
    """The line that a report opens with where nothing shows that the activation was read."""
    warned = any(one.title == BLIND_WARNING for one in findings(results))
    shown = "a guess without the activation scores as high"
    return f"This run does not show that activations were read: {shown}." if warned else ""


def _spread_samples(samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One sample each of a few steps, from the first to the last."""
    by_step: dict[int, Mapping[str, Any]] = {}
    for sample in samples:
        by_step.setdefault(int(sample["step"]), sample)
    steps = sorted(by_step)
    wanted = min(SAMPLES_SHOWN, len(steps))
    picked = sorted({round(i * (len(steps) - 1) / max(wanted - 1, 1)) for i in range(wanted)})
    empty = {"text_tail": "", "explanation": "", "fve": None, "failed": False}
    return [{**empty, **by_step[steps[i]]} for i in picked]
