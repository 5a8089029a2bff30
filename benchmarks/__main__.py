"""Runs the cases and prints a table: ``python -m benchmarks [--case NAME] [--quick] [--dtype both]
[--json FILE]``.

Each case is first checked to give the same result on both sides, then timed in turn. A machine on
which others work is refused with exit status 2; ``--allow-busy`` goes on and marks the numbers."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.case import Case, Dtype, NotEqualError
from benchmarks.cases import CASES
from benchmarks.cost import SideCost, count_flops, measure_side
from benchmarks.models import temporary_folders
from benchmarks.timing import BUSY_CORES, Comparison, OtherLoad, compare, matmul_rate, others_before
from gloss.target_model import torch_dtype

_STDERR = Console(stderr=True)


class BusyMachineError(Exception):
    """Others use the machine: no time measured now means anything."""


@dataclass(frozen=True)
class Row:
    """What was measured of one case in one dtype; ``work_ratio`` is the ratio of both sides'
    matrix-product FLOPs.
    """

    case: str
    dtype: Dtype
    target: float
    timing: Comparison
    tokens: int
    flops: float
    work_ratio: float
    matmul_share: float
    alternative_matmul_share: float
    peak_mb: float
    alternative_peak_mb: float
    memory_ratio: float
    memory_target: float | None
    other_cores: float | None

    @property
    def reached(self) -> bool:
        """Whether the median ratio, and that of the memory where one is promised, is at least its
        target.
        """
        enough = self.memory_target is None or not self.memory_ratio < self.memory_target
        return self.timing.ratio >= self.target and enough


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0, 1 if a result differs, 2 for bad input or a
    busy machine.
    """
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    dtypes: list[Dtype] = ["float32", "bfloat16"] if options.dtype == "both" else [options.dtype]
    rows: list[Row] = []
    try:
        load = others_before()
        _refuse_busy(load, options.allow_busy)
        with temporary_folders() as folder_of:
            for name in options.case or CASES:
                for dtype in (dtype for dtype in dtypes if dtype in CASES[name].target):
                    rows.append(_run(CASES[name], dtype, folder_of, options))
                    _refuse_busy(rows[-1].other_cores, options.allow_busy)
    except NotEqualError as error:
        _STDERR.print(f"results differ, nothing to time: {error}", markup=False)
        return 1
    except BusyMachineError as error:
        _STDERR.print(str(error), markup=False)
        return 2
    busy = any((row.other_cores or 0) > BUSY_CORES for row in rows) or (load or 0) > BUSY_CORES
    _print(rows, options, busy)
    if options.json:
        options.json.write_text(json.dumps(_record(rows, options, busy), indent=1) + "\n")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--case", action="append", choices=list(CASES), help="only this case; may be given again"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small models and few pairs: seconds, rough numbers"
    )
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "both"], default="both")
    parser.add_argument("--pairs", type=int, help="timed pairs of each case; 5, or 3 with --quick")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--no-memory", action="store_true", help="skip the processes that measure peak memory"
    )
    parser.add_argument(
        "--allow-busy", action="store_true", help="go on while others use the machine, and say so"
    )
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args(arguments)
    if options.pairs is None:
        options.pairs = 3 if options.quick else 5
    if options.pairs < 1 or options.threads < 1:
        parser.error("--pairs and --threads must be at least 1")
    return options


def _run(case: Case, dtype: Dtype, folder_of: Any, options: argparse.Namespace) -> Row:
    workload = case.quick if options.quick else case.full
    _STDERR.print(f"{case.name} {dtype}: same result?", style="dim")
    prepared = case.prepare(folder_of, workload, dtype)
    prepared.check()
    ours_flops, alternative_flops = count_flops(prepared.ours), count_flops(prepared.alternative)
    _STDERR.print(f"{case.name} {dtype}: {options.pairs} pairs", style="dim")
    load = OtherLoad()
    rate = matmul_rate(torch_dtype(dtype))
    timing = compare(prepared.ours, prepared.alternative, pairs=options.pairs)
    rate = max(rate, matmul_rate(torch_dtype(dtype)))
    others = load.cores
    nothing = SideCost(float("nan"), float("nan"), float("nan"), 0)
    mine, other = nothing, nothing
    if not options.no_memory:
        mine, other = (
            measure_side(case.name, side, workload, dtype, options.threads)
            for side in ("ours", "alternative")
        )
    return Row(
        case=case.name,
        dtype=dtype,
        target=case.target[dtype],
        timing=timing,
        tokens=prepared.tokens,
        flops=ours_flops,
        work_ratio=alternative_flops / ours_flops if ours_flops else float("nan"),
        matmul_share=ours_flops / timing.ours_s / rate,
        alternative_matmul_share=alternative_flops / timing.alternative_s / rate,
        peak_mb=mine.peak_mb,
        alternative_peak_mb=other.peak_mb,
        memory_ratio=other.added_mb / max(mine.added_mb, 1e-9),
        memory_target=case.memory_target,
        other_cores=others,
    )


def _refuse_busy(cores: float | None, allowed: bool) -> None:
    if cores is not None and cores > BUSY_CORES and not allowed:
        raise BusyMachineError(
            f"the machine is busy: others use {cores:.2f} cores, expected at most {BUSY_CORES}. "
            "Stop them, or measure anyway with --allow-busy."
        )


def _print(rows: Sequence[Row], options: argparse.Namespace, busy: bool) -> None:
    title = f"{options.threads} threads, torch {torch.__version__}" + (
        ", BUSY MACHINE: rough numbers" if busy else ""
    )
    table = Table(title=title)
    for name in (
        "case",
        "dtype",
        "ours s",
        "other s",
        "ratio (min–max)",
        "work",
        "target",
        "reached",
    ):
        table.add_column(name, no_wrap=True)
    for name in ("tokens/s", "of matmul", "peak MB"):
        table.add_column(name, no_wrap=True, justify="right")
    for row in rows:
        timing = row.timing
        table.add_row(
            row.case,
            row.dtype,
            f"{timing.ours_s:.3g}",
            f"{timing.alternative_s:.3g}",
            f"{timing.ratio:.2f} ({timing.lowest:.2f}–{timing.highest:.2f})",
            f"{row.work_ratio:.2f}",
            f"{row.target:.2f}"
            if row.memory_target is None
            else f"{row.target:.2f}, memory {row.memory_target:.2f}",
            "yes" if row.reached else "NO",
            f"{row.tokens / timing.ours_s:,.0f}",
            f"{row.matmul_share:.0%} / {row.alternative_matmul_share:.0%}",
            f"{row.peak_mb:.0f} / {row.alternative_peak_mb:.0f} ({row.memory_ratio:.2f}×)",
        )
    Console(width=160).print(table)


def _record(rows: Sequence[Row], options: argparse.Namespace, busy: bool) -> dict[str, Any]:
    return {
        "torch": torch.__version__,
        "threads": options.threads,
        "quick": options.quick,
        "busy": busy,
        "rows": [{**asdict(row), "reached": row.reached} for row in rows],
    }


if __name__ == "__main__":
    sys.exit(main())
