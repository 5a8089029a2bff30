"""Kills one run again and again and compares its end with an undisturbed one: ``make kills``.

    reference   = results of an undisturbed run
    repeat      : start the same command, wait a random time, kill -9
    at the end  : let it finish, compare every number

The times are drawn so that the kills fall on every stage. Exit code 1 if a number differs.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GLOSS = [sys.executable, "-m", "gloss.cli.main"]
NOT_COMPARED = {"seconds", "cpu_seconds", "peak_memory_mb"}
"""Differ between any two runs; everything else must not."""


def comparable(run_dir: Path) -> dict[str, object]:
    """The numbers of a finished run that another run must repeat."""
    results = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
    return {key: value for key, value in results.items() if key not in NOT_COMPARED}


def stage_now(run_dir: Path) -> str:
    """The stage that a run was in, from its ledger of finished ones."""
    order = ["target", "extract_activations", "split_documents", "write_labels", "build_datasets", "ar_sft", "av_sft", "joint", "evaluate"]  # fmt: skip  # noqa: E501
    ledger = run_dir / "stages.json"
    finished = json.loads(ledger.read_text(encoding="utf-8")) if ledger.exists() else {}
    return next((name for name in order if name not in finished), "report")


def kill_repeatedly(
    command: list[str], run_dir: Path, *, kills: int, longest_s: float, seed: int
) -> dict[str, int]:
    """Starts ``command`` and kills it after random times; how many kills fell on each stage."""
    generator, fallen = random.Random(seed), dict[str, int]()
    while sum(fallen.values()) < kills:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(generator.uniform(1.0, longest_s))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        else:
            print(
                f"  finished after {sum(fallen.values())} kills, starting over in a new folder",
                flush=True,
            )
            run_dir.rename(run_dir.with_name(f"{run_dir.name}-finished-{sum(fallen.values())}"))
            continue
        stage = stage_now(run_dir)
        fallen[stage] = fallen.get(stage, 0) + 1
        print(f"  kill {sum(fallen.values())} in {stage}", flush=True)
    return fallen


def main() -> int:
    """Runs the script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--preset", default="smoke")
    parser.add_argument(
        "--longest-s", type=float, default=22.0, help="longest time from start to kill"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", type=Path, help="where the runs are put; a temporary folder if not given"
    )
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="gloss-kills-"))
    whole, killed = folder / "whole", folder / "killed"
    command = [*GLOSS, "quickstart", "--preset", options.preset, "--out"]
    started = time.monotonic()
    print("undisturbed run", flush=True)
    subprocess.run(
        [*command, str(whole)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    print(f"  {time.monotonic() - started:.0f} s; now {options.kills} kills", flush=True)
    fallen = kill_repeatedly(
        [*command, str(killed)],
        killed,
        kills=options.kills,
        longest_s=options.longest_s,
        seed=options.seed,
    )
    subprocess.run(
        [*command, str(killed)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    runs = [killed, *folder.glob("killed-finished-*")]
    same = all(comparable(run) == comparable(whole) for run in runs)
    print(
        f"{sum(fallen.values())} kills:"
        f" {', '.join(f'{name} {count}' for name, count in fallen.items())}"
    )
    print(
        f"{len(runs)} finished runs: {'every number equal' if same else 'NUMBERS DIFFER'}; {folder}"
    )
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
