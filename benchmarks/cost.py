"""What one side of a case costs beside time: matrix-product FLOPs, and peak memory in a process of
its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.case import Dtype, Workload
from benchmarks.models import ModelShape, temporary_folders

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class SideCost:
    """One side alone: its peak resident memory (torch and weights included) and what of it the runs
    added, the seconds of its second run, its tokens."""

    peak_mb: float
    added_mb: float
    seconds: float
    tokens: int


def count_flops(run: Callable[[], object]) -> float:
    """FLOPs of all matrix products in ``run``, attention included (causal attention counted in
    full).
    """
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    formulas = {flash: _attention_flops, backward: _attention_backward_flops}
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        run()
    return float(counter.get_total_flops())


def _attention_flops(query: Any, key: Any, *_: Any, **__: Any) -> int:
    batch, heads, queries, width = query
    return int(4 * batch * heads * queries * key[2] * width)


def _attention_backward_flops(_grad: Any, query: Any, key: Any, *_: Any, **__: Any) -> int:
    return _attention_flops(query, key) * 5 // 2


def measure_side(case: str, side: str, workload: Workload, dtype: Dtype, threads: int) -> SideCost:
    """Runs one side twice in a new process and measures it there."""
    request = {
        "case": case,
        "side": side,
        "workload": asdict(workload),
        "dtype": dtype,
        "threads": threads,
    }
    command = [sys.executable, "-m", "benchmarks.cost", json.dumps(request)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return SideCost(**json.loads(answer.splitlines()[-1]))


def _measure_here(request: dict[str, Any]) -> SideCost:
    from benchmarks.cases import CASES

    torch.set_num_threads(request["threads"])
    fields = request["workload"]
    workload = Workload(**{**fields, "model": ModelShape(**fields["model"])})
    with temporary_folders() as folder_of:
        prepared = CASES[request["case"]].prepare(folder_of, workload, request["dtype"])
        run = prepared.side(request["side"])
        _reset_peak()
        before = _status_mb("VmRSS")
        run()
        started = time.perf_counter()
        run()
        peak = _peak_mb()
        return SideCost(peak, peak - before, time.perf_counter() - started, prepared.tokens)


def _reset_peak() -> None:
    """Forgets the peak of building the models; where the system cannot, the peak includes it."""
    place = Path("/proc/self/clear_refs")
    if place.exists():
        place.write_text("5")


def _status_mb(name: str) -> float:
    """A value of the process's status; 0 where the system has none."""
    lines = _STATUS.read_text().splitlines() if _STATUS.exists() else []
    return sum(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{name}:"))


def _peak_mb() -> float:
    if _STATUS.exists():
        return _status_mb("VmHWM")
    return (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024)
        / 1e6
    )


if __name__ == "__main__":
    print(json.dumps(asdict(_measure_here(json.loads(sys.argv[1])))))
