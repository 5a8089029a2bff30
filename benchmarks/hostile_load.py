"""``gloss serve`` under mixed load with bombs in it: ``python -m benchmarks.hostile_load --nla
PLACE``.

Clients ask what clients ask, and beside them some send what should not be sent: 80 000 messages,
ten million numbers, a Parquet of some kB that decodes to gigabytes, deep JSON, half a request,
answers that nobody reads, clients that leave. Exit status 1 if ``/healthz`` ever takes longer than
half a second, if memory grows beyond 1.3 times, or if a bomb is answered with 5xx."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle

import httpx2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.serve_load import Load, client, free_port, memory_mb, started
from gloss.lab import lab_documents

MOST_HEALTH_S, MOST_GROWTH = 0.5, 1.3
BOMBERS, WARM_UP_S = 4, 15.0


@dataclass
class Answers:
    """Statuses of bombs by kind, and how long the health check took each time."""

    statuses: Counter[str] = field(default_factory=Counter)
    health_s: list[float] = field(default_factory=list)


def parquet_bomb(d_model: int) -> bytes:
    """A small file that decodes to 2 GB of zeros."""
    rows = 2**31 // (4 * d_model)
    values = pa.array(np.zeros(rows * d_model, np.float32))
    column = pa.FixedSizeListArray.from_arrays(values, d_model)
    file = io.BytesIO()
    pq.write_table(pa.table({"activation_vector": column}), file, compression="zstd")
    return file.getvalue()


def bombs(d_model: int) -> dict[str, tuple[str, bytes, str]]:
    """Path, body and type of content by kind."""
    chat = json.dumps({"messages": [{"role": "user", "content": "x"}] * 80_000}).encode()
    numbers = b'{"activations": [[' + b",".join([b"0.123456"] * 10_000_000) + b"]]}"
    deep = b'{"text":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    plain = "application/json"
    return {
        "80 000 messages": ("/tokenize", chat, plain),
        "10 M numbers": ("/describe", numbers, plain),
        "Parquet bomb": ("/v1/vectors", parquet_bomb(d_model), "application/octet-stream"),
        "deep JSON": ("/tokenize", deep, plain),
        "huge text": ("/v1/explain", json.dumps({"text": "a" * 30_000_000}).encode(), plain),
    }


async def bomber(
    http: httpx2.AsyncClient,
    kinds: dict[str, tuple[str, bytes, str]],
    answers: Answers,
    until: float,
) -> None:
    """Sends one bomb after the other."""
    for kind, (path, body, form) in cycle(kinds.items()):
        if time.monotonic() > until:
            return
        try:
            response = await http.post(path, content=body, headers={"Content-Type": form})
            answers.statuses[f"{kind}: {response.status_code}"] += 1
        except httpx2.TransportError as error:
            answers.statuses[f"{kind}: {type(error).__name__}"] += 1
        await asyncio.sleep(0.5)


async def half_open(host: str, port: int, until: float) -> None:
    """Opens connections that never finish their request, and some that never read the answer."""
    held: list[asyncio.StreamWriter] = []
    while time.monotonic() < until:
        try:
            _, writer = await asyncio.open_connection(host, port)
            part = random.choice(
                [
                    b"",
                    b"GET /healthz HTTP/1.1\r\nHost: ",
                    b"POST /v1/explain HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n{",
                ]
            )
            writer.write(part)
            held.append(writer)
        except OSError:
            await asyncio.sleep(0.5)
        if len(held) > 200:
            held.pop(0).close()
        await asyncio.sleep(0.05)
    for writer in held:
        writer.close()


async def leaver(http: httpx2.AsyncClient, documents: list[str], until: float) -> None:
    """Asks and leaves before the answer."""
    while time.monotonic() < until:
        body = {"text": random.choice(documents)[:400], "positions": "all", "temperature": 1.0}
        try:
            await http.post("/v1/explain", json=body, timeout=random.uniform(0.05, 0.6))
        except httpx2.TransportError:
            continue


_WATCH = """
import sys, time, urllib.request
url, seconds = sys.argv[1], float(sys.argv[2])
until = time.monotonic() + seconds
while time.monotonic() < until:
    began = time.monotonic()
    assert urllib.request.urlopen(url + "/healthz", timeout=60).status == 200
    print(time.monotonic() - began, flush=True)
    time.sleep(0.2)
"""
"""Asks five times a second how the server is, in a process that does nothing else."""


async def health(url: str, seconds: float, answers: Answers) -> None:
    """How long ``/healthz`` took, each time."""
    asked = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WATCH, url, str(seconds), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await asked.communicate()
    assert asked.returncode == 0
    answers.health_s += map(float, printed.split())


async def attack(
    url: str, port: int, clients: int, seconds: float, d_model: int
) -> tuple[Answers, Load]:
    """All of it side by side."""
    documents = [document.text for document in lab_documents(400, 0) if document.text]
    load, answers, kinds = Load("gloss", seconds), Answers(), bombs(d_model)
    until = time.monotonic() + seconds
    open_client: Callable[[], httpx2.AsyncClient] = lambda: httpx2.AsyncClient(  # noqa: E731
        base_url=url,
        timeout=120,
        trust_env=False,
        limits=httpx2.Limits(max_connections=clients + 8, max_keepalive_connections=clients),
    )
    async with open_client() as http, open_client() as hostile:
        await asyncio.gather(
            *(client(i, http, documents, load, until) for i in range(clients)),
            *(bomber(hostile, kinds, answers, until) for _ in range(BOMBERS)),
            leaver(hostile, documents, until),
            half_open("127.0.0.1", port, until),
            health(url, seconds, answers),
        )
    return answers, load


def main() -> int:
    """Runs it and says whether the server held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nla", required=True)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--d-model", type=int, default=128)
    options = parser.parse_args()
    port = free_port()
    command = ["-m", "gloss.cli.main", "serve", "--nla", options.nla, "--port", str(port)]
    with started([*command, "--cache-mb", "8"], port) as (url, pid):
        asyncio.run(attack(url, port, options.clients, WARM_UP_S, options.d_model))
        before = memory_mb(pid)
        answers, load = asyncio.run(
            attack(url, port, options.clients, options.seconds, options.d_model)
        )
        growth = memory_mb(pid) / before
    slowest = sorted(answers.health_s)
    print(f"ordinary requests: {dict(load.statuses)}")
    for kind, count in sorted(answers.statuses.items()):
        print(f"  {count:5d} × {kind}")
    p99 = slowest[int(0.99 * (len(slowest) - 1))]
    print(f"/healthz: {len(slowest)} times, p99 {p99:.3f} s, slowest {slowest[-1]:.3f} s")
    print(f"memory: {before:.0f} MB, then {growth:.2f} times as much")
    failed = any(": 5" in kind for kind in answers.statuses)
    return int(slowest[-1] > MOST_HEALTH_S or growth > MOST_GROWTH or failed)


if __name__ == "__main__":
    sys.exit(main())
