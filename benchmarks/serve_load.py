"""Many clients at once against ``gloss serve`` and against a naive server: ``python -m
benchmarks.serve_load --nla PLACE``.

Mixed calls (explain 70 %, score 20 %, tokens 10 %) on texts that never repeat, so that no cache
helps. Reports latency, explanations per second, errors, and the server's memory before and after.
Exit status 1 if there is an error but 429, if the ratio stays below its target, or if memory grew
beyond 1.1 times."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from rich.console import Console
from rich.table import Table

from gloss.lab import lab_documents

TARGET_RATIO, MOST_GROWTH = 4.0, 1.1
WARM_UP_S, START_S = 3.0, 120.0


@dataclass
class Load:
    """What came of one run: seconds of each answer, statuses, explanations, resident memory in MB
    before and after.
    """

    server: str
    seconds: float
    latencies_s: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    explanations: int = 0
    memory_before_mb: float = 0.0
    memory_after_mb: float = 0.0

    def summary(self) -> dict[str, Any]:
        """The numbers worth reporting."""
        ordered = sorted(self.latencies_s) or [0.0]
        return {
            "server": self.server,
            "requests_per_s": len(self.latencies_s) / self.seconds,
            "explanations_per_s": self.explanations / self.seconds,
            "p50_s": ordered[len(ordered) // 2],
            "p95_s": ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))],
            "statuses": dict(self.statuses),
            "memory_before_mb": self.memory_before_mb,
            "memory_after_mb": self.memory_after_mb,
        }


def next_text(generator: random.Random, documents: Sequence[str]) -> str:
    """A text of the lab's world that was not asked for before, in practice."""
    words = generator.choice(documents).split()[:40]
    return f"{generator.randrange(10**6)} {' '.join(words)}"


def next_call(
    generator: random.Random, documents: Sequence[str]
) -> tuple[str, dict[str, Any], int]:
    """Path, body and the number of explanations it asks for."""
    text, kind = next_text(generator, documents), generator.random()
    if kind < 0.7:
        positions = generator.sample(range(2, 16), generator.randint(1, 4))
        body = {
            "text": text,
            "positions": positions,
            "temperature": generator.choice([0.0, 1.0]),
            "seed": 1,
        }
        return "/v1/explain", body, len(positions)
    if kind < 0.9:
        return (
            "/v1/score",
            {
                "text": text,
                "position": 5,
                "explanations": [f"It ends with {text[-20:]}.", "A verb."],
            },
            0,
        )
    return "/v1/tokens", {"text": text}, 0


async def client(
    number: int, http: httpx2.AsyncClient, documents: Sequence[str], load: Load, until: float
) -> None:
    """One client that asks again as soon as it is answered; a busy server is waited for."""
    generator = random.Random(f"{number} {load.server} {load.seconds}")
    while time.monotonic() < until:
        path, body, explanations = next_call(generator, documents)
        started = time.monotonic()
        try:
            response = await http.post(path, json=body)
        except httpx2.TransportError as error:
            load.statuses[type(error).__name__] += 1
            continue
        load.statuses[str(response.status_code)] += 1
        if response.status_code == 429:
            await asyncio.sleep(float(response.headers.get("Retry-After", 1)))
        elif time.monotonic() < until:
            load.latencies_s.append(time.monotonic() - started)
            load.explanations += explanations


async def run_clients(url: str, documents: Sequence[str], load: Load, count: int) -> None:
    """All clients for the run's time; answers that come later are not counted."""
    pool = httpx2.Limits(max_connections=count, max_keepalive_connections=count)
    async with httpx2.AsyncClient(base_url=url, timeout=120, limits=pool, trust_env=False) as http:
        until = time.monotonic() + load.seconds
        await asyncio.gather(*(client(i, http, documents, load, until) for i in range(count)))


@contextmanager
def started(command: Sequence[str], port: int) -> Iterator[tuple[str, int]]:
    """A server in a process of its own: its address and process id once it answers."""
    process = subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                if httpx2.get(f"{url}/readyz", trust_env=False).status_code == 200:
                    break
            except httpx2.TransportError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{' '.join(command)} does not start")
            time.sleep(0.2)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)


def memory_mb(pid: int) -> float:
    """Resident memory of a process (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def measured(name: str, command: Sequence[str], port: int, *, clients: int, seconds: float) -> Load:
    """Starts a server, warms it up with the same kind of load, and measures."""
    documents = [document.text for document in lab_documents(400, 0) if document.text]
    with started(command, port) as (url, pid):
        asyncio.run(run_clients(url, documents, Load(name, WARM_UP_S), clients))
        load = Load(name, seconds, memory_before_mb=memory_mb(pid))
        asyncio.run(run_clients(url, documents, load, clients))
        load.memory_after_mb = memory_mb(pid)
    return load


def main() -> int:
    """Measures both servers, prints a table, and says whether the targets are reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--nla", required=True, help="folder of an NLA whose target stands beside it"
    )
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ports = free_port(), free_port()
    settings = {"clients": options.clients, "seconds": options.seconds}
    # Little is kept from the start, so that memory growing with the cache does not look like a
    # leak.
    ours = [
        "-m",
        "gloss.cli.main",
        "serve",
        "--nla",
        options.nla,
        "--port",
        str(ports[0]),
        "--cache-mb",
        "8",
    ]
    naive = ["-m", "benchmarks.naive_server", options.nla, str(ports[1])]
    loads = [
        measured("gloss", ours, ports[0], **settings),
        measured("naive", naive, ports[1], **settings),
    ]
    summaries = [load.summary() for load in loads]
    ratio = summaries[0]["explanations_per_s"] / max(summaries[1]["explanations_per_s"], 1e-9)
    growth = loads[0].memory_after_mb / max(loads[0].memory_before_mb, 1e-9)
    show(summaries, ratio, growth)
    if options.json is not None:
        options.json.write_text(
            json.dumps({"loads": summaries, "ratio": ratio, "growth": growth}, indent=1) + "\n"
        )
    clean = set(loads[0].statuses) <= {"200", "429"}
    return 0 if clean and ratio >= TARGET_RATIO and growth <= MOST_GROWTH else 1


def show(summaries: Sequence[dict[str, Any]], ratio: float, growth: float) -> None:
    """The table and the two numbers that are promised."""
    table = Table(
        "server", "requests/s", "explanations/s", "p50 s", "p95 s", "memory MB", "statuses"
    )
    for one in summaries:
        numbers = [
            f"{one[key]:.2f}" for key in ("requests_per_s", "explanations_per_s", "p50_s", "p95_s")
        ]
        memory = f"{one['memory_before_mb']:.0f} → {one['memory_after_mb']:.0f}"
        table.add_row(
            one["server"],
            *numbers,
            memory,
            ", ".join(f"{k}: {n}" for k, n in one["statuses"].items()),
        )
    console = Console()
    console.print(table)
    console.print(
        f"explanations/s: {ratio:.1f} times the naive server's (promised {TARGET_RATIO:g})"
    )
    console.print(f"memory: {growth:.2f} times what it was (promised at most {MOST_GROWTH:g})")


if __name__ == "__main__":
    sys.exit(main())
