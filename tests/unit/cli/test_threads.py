import os
import subprocess
import sys

import pytest

from gloss.cli import threads


@pytest.mark.parametrize(("runnable", "busy"), [(1, False), (2, True), (5, True)])
def test_a_machine_is_busy_when_another_process_wants_a_core(tmp_path, monkeypatch, runnable, busy):
    (tmp_path / "loadavg").write_text(f"0.10 0.20 0.30 {runnable}/117 4242\n")
    monkeypatch.setattr(threads, "_RUNNABLE", tmp_path / "loadavg")
    assert threads.machine_is_busy() is busy


def test_where_the_system_does_not_say_the_machine_counts_as_idle(tmp_path, monkeypatch):
    monkeypatch.setattr(threads, "_RUNNABLE", tmp_path / "nothing")
    assert threads.machine_is_busy() is False


def test_the_command_line_chooses_before_pytorch_is_loaded_and_respects_a_choice_made_already():
    code = (
        "import os, sys\nfrom gloss.cli.main import main\nsys.argv = ['gloss', '--version']\ntry:\n"
        "    main()\nfinally:\n    print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    )
    plain = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    for extra, expected in (
        ({}, {threads.IDLE_SPINS, threads.BUSY_SPINS}),
        ({"GOMP_SPINCOUNT": "77"}, {"77"}),
    ):
        out = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            env=plain | extra,
        )
        chosen, loaded = out.stdout.split()[-2:]
        assert chosen in expected
        assert loaded == "False"
