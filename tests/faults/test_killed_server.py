"""``gloss serve`` killed with SIGKILL under load and started again: its clients go on with the
answers that would have been.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from served_nla import TEXT
from speaking_nla import save_speaking_nla

import gloss
from gloss.nla import NLA

CLIENTS, TEXTS_EACH, LONGEST_S = 8, 25, 90


def start(nla, port, log):
    command = [
        sys.executable,
        "-m",
        "gloss.cli.main",
        "serve",
        "--nla",
        str(nla),
        "--port",
        str(port),
    ]
    return subprocess.Popen(command, stderr=log, env={**os.environ, "GOMP_SPINCOUNT": "0"})


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition):
    until = time.monotonic() + LONGEST_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def text_of(client, turn):
    return f"{client} {turn} {TEXT}"


def test_clients_outlive_a_server_that_is_killed(tmp_path, lab_tokenizer):
    folder = save_speaking_nla(tmp_path / "nla", lab_tokenizer)
    port, written, lock = free_port(), [], threading.Lock()

    def client(number):
        with gloss.connect(f"http://127.0.0.1:{port}") as remote:
            wait_until(lambda: _answers(remote))
            for turn in range(TEXTS_EACH):
                explained = remote.explain(text_of(number, turn), positions=(4, 9))
                with lock:
                    written.append((number, turn, [one.text for one in explained]))

    with (tmp_path / "log").open("ab") as log, ThreadPoolExecutor(CLIENTS) as pool:
        server = start(folder, port, log)
        try:
            clients = [pool.submit(client, number) for number in range(CLIENTS)]
            wait_until(lambda: len(written) >= CLIENTS or any(one.done() for one in clients))
            server.kill()
            server.wait()
            before = len(written)
            server = start(folder, port, log)
            for one in clients:
                one.result(timeout=LONGEST_S)
        finally:
            server.kill()
            server.wait()
    assert CLIENTS <= before < CLIENTS * TEXTS_EACH
    assert sorted((number, turn) for number, turn, _ in written) == [
        (number, turn) for number in range(CLIENTS) for turn in range(TEXTS_EACH)
    ]
    local = NLA(folder)
    for number, turn, texts in written[:: len(written) // 10]:
        assert texts == [one.text for one in local.explain(text_of(number, turn), positions=(4, 9))]


def _answers(remote):
    try:
        return bool(remote.nlas())
    except gloss.GlossError:
        return False
