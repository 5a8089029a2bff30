"""One self-contained ``report.html``: no script, no network, light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloss.durable import write_text
from gloss.report.claims_tables import (
    MARKS,
    VERDICT_MEANINGS,
    ClaimMark,
    Segment,
    claim_marks,
    kind_scores,
    pooled_precision,
    segments,
)
from gloss.report.figures import claims_figure, fve_figure, seconds_figure, text_figure
from gloss.report.formatting import count, decimal, duration, finite, percent, visible_token
from gloss.report.headline import best_control, fve_interval, headline
from gloss.report.run_files import RunFiles, read_run, section
from gloss.report.trust_sections import MIN_CLAIMS, findings, standing

REPORT_NAME = "report.html"
SAMPLES_SHOWN = 5


@dataclass(frozen=True)
class Tile:
    """One of the few numbers that stand large at the top."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class ExampleCard:
    """One explained activation; ``before`` and ``token`` together are the text up to and with the
    token.
    """

    doc_id: str
    position: str
    before: str
    token: str
    token_in_text: bool
    parts: tuple[Segment, ...]
    claims: tuple[ClaimMark, ...]
    facts: tuple[tuple[str, str], ...]
    fve: str
    cosine: str
    flags: tuple[str, ...]
    failed: bool


def write_report(run_dir: Path, out: Path | None = None) -> Path:
    """Writes the report of a run, by default to ``run_dir``/report.html, and returns its path.

    Raises: ConfigError if the folder holds no readable ``results.json``.
    """
    run = read_run(Path(run_dir))
    page = render_report(run)
    path = Path(out) if out is not None else Path(run_dir) / REPORT_NAME
    write_text(path, page)
    return path


def render_report(run: RunFiles) -> str:
    """The page as HTML; the same files always give the same bytes."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("gloss.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        decimal=decimal,
        percent=percent,
        count=count,
        duration=duration,
        visible=visible_token,
        standing=standing,
    )
    return environment.get_template("report.html.j2").render(_context(run))


def _context(run: RunFiles) -> dict[str, Any]:
    results = run.results
    scores = kind_scores(results)
    figures = {
        "fve": fve_figure(results, run.metrics),
        "claims": claims_figure(scores),
        "text": text_figure(run.metrics),
        "seconds": seconds_figure(results),
    }
    return {
        "title": f"{_model(results)} — Gloss report",
        "model": _model(results),
        "identity": _identity(run),
        "versions": [
            (str(name), str(version)) for name, version in section(results, "versions").items()
        ],
        "tiles": _tiles(results),
        "groups": headline(results),
        "findings": findings(results, run.metrics),
        "figures": figures,
        "scores": scores,
        "cards": [example_card(example) for example in results.get("examples") or []],
        "samples": _spread_samples(run.samples),
        "marks": [(verdict, mark, VERDICT_MEANINGS[verdict]) for verdict, mark in MARKS.items()],
        "notes": run.notes,
        "min_claims": MIN_CLAIMS,
    }


def example_card(example: Mapping[str, Any]) -> ExampleCard:
    """An entry of ``examples`` as it is shown."""
    text, token = str(example.get("text") or ""), str(example.get("token") or "")
    inside = bool(token) and text.endswith(token)
    flags = tuple(str(flag) for flag in example.get("flags") or [])
    return ExampleCard(
        doc_id=str(example.get("doc_id", "")),
        position=count(example.get("position")),
        before=text[: len(text) - len(token)] if inside else text,
        token=token,
        token_in_text=inside,
        parts=segments(example),
        claims=claim_marks(example),
        facts=tuple((kind, str(value)) for kind, value in section(example, "facts").items()),
        fve=decimal(example.get("fve")),
        cosine=decimal(example.get("cosine")),
        flags=flags,
        failed="failed" in flags,
    )


def _model(results: Mapping[str, Any]) -> str:
    target = str(results.get("target") or "unnamed target")
    return Path(target).name or target


def _identity(run: RunFiles) -> list[tuple[str, str]]:
    results = run.results
    layer, nla = results.get("layer"), results.get("nla")
    known: list[tuple[str, Any]] = [
        ("Target model", _model(results)),
        ("Layer", None if layer is None else f"{layer} (block output)"),
        ("NLA", Path(str(nla)).name if nla else run.name),
        ("Preset", results.get("preset")),
        ("Seed", results.get("seed")),
        ("Config hash", results.get("config_hash")),
        ("Total time", duration(section(results, "seconds").get("total"))),
    ]
    return [(name, str(value)) for name, value in known if value is not None]


def _tiles(results: Mapping[str, Any]) -> list[Tile]:
    fve = section(results, "fve")
    interval, best, precision = (
        fve_interval(results),
        best_control(results),
        pooled_precision(kind_scores(results)),
    )
    tiles = [
        Tile(
            "FVE, greedy",
            decimal(fve.get("rl")),
            f"95\u00a0% interval {interval}" if interval else "after joint RL",
        ),
        Tile(
            "FVE, sampled",
            decimal(fve.get("rl_sampled")),
            f"{decimal(fve.get('sft_sampled'))} before RL",
        ),
    ]
    if best is not None:
        tiles.append(Tile("Best control", decimal(best[1]), best[0]))
    if precision is None:
        tiles.append(Tile("Claims right", "—", "no known truth to judge by"))
    else:
        tiles.append(Tile("Claims right", percent(precision), "of all claims, against known truth"))
    return tiles


def _spread_samples(samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One sample each of a few steps, from the first to the last."""
    by_step: dict[int, Mapping[str, Any]] = {}
    for sample in samples:
        by_step.setdefault(int(sample["step"]), sample)
    steps = sorted(by_step)
    last = len(steps) - 1
    wanted = min(SAMPLES_SHOWN, len(steps))
    picked = sorted({round(i * last / max(wanted - 1, 1)) for i in range(wanted)})
    return [
        {
            "step": steps[i],
            "text_tail": str(by_step[steps[i]].get("text_tail") or ""),
            "explanation": str(by_step[steps[i]].get("explanation") or ""),
            "fve": finite(by_step[steps[i]].get("fve")),
            "failed": bool(by_step[steps[i]].get("failed")),
        }
        for i in picked
    ]
