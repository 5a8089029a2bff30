"""Interleaved timing of two ways, and a machine that is too busy to be timed on."""

from __future__ import annotations

import gc
import os
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

BUSY_CORES = 0.15


@dataclass(frozen=True)
class Comparison:
    """Medians of both sides, and the ratios alternative / ours of runs that stood side by side.

    ``cpu_ratio`` compares CPU time instead of the clock's: less upset by other work on the machine.
    """

    ours_s: float
    alternative_s: float
    ratio: float
    lowest: float
    highest: float
    cpu_ratio: float
    pairs: int


@dataclass(frozen=True)
class _Sample:
    wall: float
    cpu: float


def compare(
    ours: Callable[[], object], alternative: Callable[[], object], *, pairs: int
) -> Comparison:
    """Runs both once to warm up, then ``pairs`` times in turn, the order changing each time."""
    ours()
    alternative()
    samples: list[tuple[_Sample, _Sample]] = []
    for index in range(pairs):
        if index % 2:
            second, first = _timed(alternative), _timed(ours)
        else:
            first, second = _timed(ours), _timed(alternative)
        samples.append((first, second))
    ratios = [other.wall / mine.wall for mine, other in samples]
    return Comparison(
        ours_s=statistics.median(mine.wall for mine, _ in samples),
        alternative_s=statistics.median(other.wall for _, other in samples),
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        cpu_ratio=statistics.median(other.cpu / mine.cpu for mine, other in samples),
        pairs=pairs,
    )


def _timed(run: Callable[[], object]) -> _Sample:
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return _Sample(time.perf_counter() - wall, time.process_time() - cpu)


class OtherLoad:
    """How many cores everything but this process and its children kept busy since the object was
    made.

    Reads /proc/stat; ``cores`` is None where there is none.
    """

    def __init__(self) -> None:
        self._start = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        stat = Path("/proc/stat")
        if not stat.exists():
            return None
        fields = [int(value) for value in stat.read_text().split("\n", 1)[0].split()[1:]]
        user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
        machine = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        own = sum(
            used.ru_utime + used.ru_stime
            for used in (
                resource.getrusage(resource.RUSAGE_SELF),
                resource.getrusage(resource.RUSAGE_CHILDREN),
            )
        )
        return time.monotonic(), machine, own

    @property
    def cores(self) -> float | None:
        """Mean number of cores that others used."""
        now = self._now()
        if now is None or self._start is None:
            return None
        wall, machine, own = (
            after - before for after, before in zip(now, self._start, strict=True)
        )
        return max(0.0, (machine - own) / wall)


def others_before(seconds: float = 1.0) -> float | None:
    """The cores that others use while this process waits."""
    load = OtherLoad()
    time.sleep(seconds)
    return load.cores


def matmul_rate(
    dtype: torch.dtype, shapes: tuple[tuple[int, int, int], ...] = ((2048, 512, 1536),)
) -> float:
    """FLOP/s of plain matrix products [m, k] · [n, k]ᵀ of the models' own size, the best of several
    runs.
    """
    best = 0.0
    for m, k, n in shapes:
        rows, weight = torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype)
        for _ in range(20):
            started = time.perf_counter()
            torch.nn.functional.linear(rows, weight)
            best = max(best, 2 * m * k * n / (time.perf_counter() - started))
    return best
