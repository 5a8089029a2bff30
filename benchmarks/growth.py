"""Draws how time and memory grow with sequence length, batch and rows: ``python -m
benchmarks.growth [--case NAME] [--dtype …]``.

Every point is one side of one case in a process of its own, so that its peak memory is its own.
Writes one figure per Workload field into docs/figures/, and the numbers beside them as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.case import Case, Workload
from benchmarks.cases import CASES
from benchmarks.cost import measure_side
from benchmarks.timing import BUSY_CORES, others_before

FIGURES = Path(__file__).resolve().parents[1] / "docs" / "figures"
FACTORS = (0.5, 1.0, 2.0, 4.0)
LABELS = {"tokens": "tokens in a row", "batch": "rows side by side", "rows": "rows"}
COLOURS = {"ours": "#0b6e4f", "alternative": "#b4532a"}
_STDERR = Console(stderr=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status, 2 on a busy machine."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--field", action="append", choices=list(LABELS))
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--allow-busy", action="store_true")
    parser.add_argument("--out", type=Path, default=FIGURES)
    options = parser.parse_args(arguments)
    load = others_before()
    busy = load is not None and load > BUSY_CORES
    if busy and not options.allow_busy:
        _STDERR.print(
            f"the machine is busy: others use {load:.2f} cores. Stop them, or draw anyway with"
            " --allow-busy."
        )
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    cases = [CASES[name] for name in options.case or CASES]
    for field in options.field or LABELS:
        points = {
            case.name: _points(case, field, options) for case in cases if field in case.growth
        }
        stem = options.out / f"growth-{field}-{options.dtype}"
        stem.with_suffix(".json").write_text(
            json.dumps({"busy": busy, "points": points}, indent=1) + "\n"
        )
        _draw(points, field, stem.with_suffix(".png"), busy)
    return 0


def _points(case: Case, field: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    points = []
    for factor in FACTORS:
        workload = _scaled(case.quick, field, factor)
        for side in ("ours", "alternative"):
            _STDERR.print(
                f"{case.name} {field} {getattr(workload, field)} {side}", style="dim", markup=False
            )
            cost = measure_side(case.name, side, workload, options.dtype, options.threads)
            points.append({"value": getattr(workload, field), "side": side, **asdict(cost)})
    return points


def _scaled(workload: Workload, field: str, factor: float) -> Workload:
    """The workload with one field multiplied; rows grow with the batch, so that every batch is
    full.
    """
    value = max(1, round(getattr(workload, field) * factor))
    scaled = replace(workload, **{field: value})
    return replace(scaled, rows=round(workload.rows * max(FACTORS))) if field == "batch" else scaled


def _draw(points: dict[str, list[dict[str, Any]]], field: str, place: Path, busy: bool) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        2, len(points), figsize=(3.1 * len(points), 5.4), squeeze=False, layout="constrained"
    )
    for column, (name, measured) in enumerate(points.items()):
        for row, (key, label) in enumerate(
            (("seconds", "seconds"), ("peak_mb", "peak memory, MB"))
        ):
            axis = axes[row][column]
            for side, colour in COLOURS.items():
                line = [(point["value"], point[key]) for point in measured if point["side"] == side]
                axis.plot(*zip(*line, strict=True), marker="o", color=colour, label=side)
            values = sorted({point["value"] for point in measured})
            axis.set_xscale("log")
            axis.set_xlabel(LABELS[field])
            axis.set_xticks(values, labels=[str(value) for value in values])
            if key == "seconds":
                axis.set_yscale("log", base=2)
                axis.yaxis.set_major_formatter("{x:g}")
            axis.minorticks_off()
            axis.grid(alpha=0.3)
            if row == 0:
                axis.set_title(name)
            if column == 0:
                axis.set_ylabel(label)
    axes[0][0].legend(frameon=False)
    figure.suptitle(f"Growth with {LABELS[field]}" + (" (busy machine)" if busy else ""))
    figure.savefig(place, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
