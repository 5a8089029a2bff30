import ctypes
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from gloss.durable import (
    folder_lock,
    read_json,
    replaced_file,
    replaced_folder,
    write_json,
    write_text,
)
from gloss.errors import LockError, ResumeError, StorageError

HOLD = """
import pathlib, sys, time
from gloss.durable import folder_lock
with folder_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    with pytest.raises(TypeError), replaced_file(path) as temporary:
        temporary.write_bytes("half")
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "av"
    with replaced_folder(folder) as temporary:
        (temporary / "a").write_text("old")
    with pytest.raises(TypeError), replaced_folder(folder) as temporary:
        (temporary / "a").write_bytes("new")
    assert (folder / "a").read_text() == "old"
    (tmp_path / ".av.tmp").mkdir()
    (tmp_path / ".av.tmp" / "left by a killed process").touch()
    with replaced_folder(folder) as temporary:
        (temporary / "b").write_text("new")
    assert [p.name for p in folder.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["av"]


def test_a_damaged_json_file_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(ResumeError, match=r"config\.json: not a JSON file"):
        read_json(tmp_path / "config.json")


def test_the_lock_names_its_holder_and_dies_with_it(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(LockError, match=f"process {holder.pid} on .* since .*: -c"),
        folder_lock(tmp_path),
    ):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    for _ in range(2):
        with folder_lock(tmp_path):
            assert json.loads((tmp_path / ".gloss.owner").read_text())["pid"] == os.getpid()
    assert not (tmp_path / ".gloss.owner").exists()


def as_ordinary_user():
    """Gives up root's right to ignore file permissions, so that the test means the same
    for root.
    """
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)


WRITE = """
import pathlib, sys
from gloss.durable import write_text
from gloss.errors import GlossError
try:
    write_text(pathlib.Path(sys.argv[1]), "x")
except GlossError as error:
    print(error)
"""


def test_a_read_only_folder_is_one_clear_line(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    out = subprocess.run(
        [sys.executable, "-c", WRITE, str(folder / "x")],
        capture_output=True,
        text=True,
        preexec_fn=as_ordinary_user,
    )
    folder.chmod(0o755)
    assert (
        out.stdout
        == f"{folder / 'x'}: cannot be written: found Permission denied. Choose a folder that you"
        " may write.\n"
    )


def test_a_file_in_the_place_of_a_folder_is_one_clear_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        StorageError, match=r"file/x: cannot be written: found (Not a directory|File exists)"
    ):
        write_text(tmp_path / "file" / "x", "")


def test_a_disk_that_fills_up_inside_safetensors_is_a_storage_error(tmp_path):
    code = (
        "import sys, pathlib, resource, torch\nfrom safetensors.torch import save_file\nfrom"
        " gloss.durable import replaced_file\nfrom gloss.errors import"
        " StorageError\nresource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\ntry:\n  with"
        " replaced_file(pathlib.Path(sys.argv[1])) as t: save_file({'x': torch.zeros(100_000)},"
        " t)\nexcept StorageError as error: print(error)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x")], capture_output=True, text=True
    )
    assert "cannot be written: found File too large. Free some space" in out.stdout, out.stderr
    assert list(tmp_path.iterdir()) == []


STOP = (
    "import sys, time\nfrom gloss.stopping import Terminated, deferred_stop,"
    " stop_on_sigterm\nstop_on_sigterm()\ntry:\n  with deferred_stop() as stop:\n    print('ready',"
    " flush=True)\n    while not (stop.requested and sys.argv[1] == 'obedient'): time.sleep(0.01)\n"
    "    print('saved', flush=True)\n    stop.obey()\nexcept Terminated:"
    " print('terminated')\nexcept KeyboardInterrupt: print('interrupted')"
)


@pytest.mark.parametrize(
    ("kind", "signals", "said", "most_s"),
    [
        ("obedient", [signal.SIGINT], ["saved", "interrupted"], 2),
        ("obedient", [signal.SIGTERM], ["saved", "terminated"], 2),
        ("deaf", [signal.SIGINT, signal.SIGINT], ["interrupted"], 2),
        ("deaf", [signal.SIGTERM], ["terminated"], 5),
    ],
)
def test_a_loop_may_save_first_but_never_for_longer_than_a_few_seconds(kind, signals, said, most_s):
    process = subprocess.Popen(
        [sys.executable, "-c", STOP, kind], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    started = time.monotonic()
    for number in signals:
        process.send_signal(number)
        time.sleep(0.1)
    out, _ = process.communicate(timeout=20)
    assert out.split() == said
    assert time.monotonic() - started < most_s
