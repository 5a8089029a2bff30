"""How PyTorch's CPU threads wait for each other: actively on an idle machine, asleep on a busy
one."""

from __future__ import annotations

import os
import time
from pathlib import Path

IDLE_SPINS, BUSY_SPINS = "10000", "0"
"""Turns that an OpenMP thread waits before it sleeps; see docs/decisions/0013-threads.md."""
SAMPLES, INTERVAL_S = 5, 0.01
_RUNNABLE = Path("/proc/loadavg")


def choose_waiting() -> None:
    """Sets GNU OpenMP's ``GOMP_SPINCOUNT`` unless it is set; must come before PyTorch is loaded.
    Results do not depend on it."""
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = BUSY_SPINS if machine_is_busy() else IDLE_SPINS


def machine_is_busy() -> bool:
    """Whether others keep a core busy right now, as far as the system says (Linux); this process
    itself does not count."""
    seen = []
    for _ in range(SAMPLES):
        try:
            runnable = int(_RUNNABLE.read_text().split()[3].split("/")[0])
        except (OSError, ValueError, IndexError):
            return False
        seen.append(runnable - 1)
        time.sleep(INTERVAL_S)
    return sorted(seen)[SAMPLES // 2] >= 1
