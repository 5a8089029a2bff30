"""One small run that is stopped, killed, starved of disk and contested, and must end with an
undisturbed run's numbers.
"""

import json
import resource
import signal
import subprocess
import time

import pytest
from killed_runs import GLOSS, comparable

SETTINGS = {
    "corpus.max_documents": 160,
    "ar_sft.steps": 12,
    "ar_sft.checkpoint_every": 3,
    "av_sft.steps": 10,
    "av_sft.checkpoint_every": 3,
    "joint.steps": 4,
    "joint.prompts_per_step": 4,
    "joint.group_size": 2,
    "joint.checkpoint_every": 1,
    "evaluate.max_rows": 8,
    "evaluate.probe_rows": 0,
    "threads": 1,
}


@pytest.fixture(scope="module")
def command(pytestconfig):
    preset = pytestconfig.rootpath / "src/gloss/pipeline/presets/smoke.toml"
    settings = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    return [*GLOSS, "run", str(preset), *settings, "--out"]


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    subprocess.run([*command, str(folder)], check=True, capture_output=True, timeout=300)
    return folder


def start(command, folder, **options):
    return subprocess.Popen(
        [*command, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def wait_for(process, condition, timeout_s=120.0):
    """Waits until ``condition`` holds while the process is still at work."""
    limit = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.01)


def steps_in(folder):
    path = folder / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_run_stopped_and_killed_in_every_stage_ends_with_the_numbers_of_an_undisturbed_one(
    command, whole, tmp_path
):
    folder = tmp_path / "disturbed"
    moments = [
        (signal.SIGKILL, lambda: (folder / "activations").exists()),
        (signal.SIGINT, lambda: steps_in(folder / "ar_sft") >= 2),
        (signal.SIGKILL, lambda: steps_in(folder / "ar_sft") >= 8),
        (signal.SIGTERM, lambda: steps_in(folder / "av_sft") >= 2),
        (signal.SIGKILL, lambda: steps_in(folder / "av_sft") >= 7),
        (signal.SIGKILL, lambda: steps_in(folder / "nla") >= 2),
        (signal.SIGKILL, lambda: "joint" in (folder / "stages.json").read_text()),
    ]
    for number, reached in moments:
        process = start(command, folder)
        wait_for(process, reached)
        process.send_signal(number)
        asked = time.monotonic()
        _, err = process.communicate(timeout=60)
        if number == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL
            continue
        assert time.monotonic() - asked < 5
        assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
        assert "Traceback" not in err
        assert "Go on with: gloss run" in err
        assert list(folder.glob("a?_sft/state-*.safetensors")), (
            "a stop that was asked for saves the finished steps"
        )
    subprocess.run([*command, str(folder)], check=True, capture_output=True, timeout=300)
    assert comparable(folder) == comparable(whole)
    for name in ("activations/shard-00000.parquet", "labels/av_sft.parquet", "datasets/rl.parquet"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_the_data_stages_write_the_same_bytes_each_time_and_another_seed_writes_others(
    whole, command, tmp_path
):
    for name, seed in (("same", 0), ("other", 1)):
        process = start([*command[:-1], "--set", f"seed={seed}", "--out"], tmp_path / name)
        wait_for(process, (tmp_path / name / "ar_sft").exists)
        process.kill()
        process.communicate()
    stages = ("activations", "splits", "labels", "datasets")
    files = [f.relative_to(whole) for stage in stages for f in sorted((whole / stage).iterdir()) if not f.name.startswith(".")]  # fmt: skip  # noqa: E501
    assert len(files) > 20
    target = str(whole / "target").encode()
    for file in files:
        content = (whole / file).read_bytes()
        assert (tmp_path / "same" / file).read_bytes() == content.replace(
            target, str(tmp_path / "same/target").encode()
        )
    for name in (
        "activations/shard-00000.parquet",
        "splits/rl.parquet",
        "labels/av_sft.parquet",
        "datasets/rl.parquet",
    ):
        assert (tmp_path / "other" / name).read_bytes() != (whole / name).read_bytes()


def test_a_second_run_in_the_same_folder_is_refused_and_names_the_first(command, tmp_path):
    folder = tmp_path / "contested"
    first = start(command, folder)
    wait_for(first, (folder / ".gloss.owner").exists)
    second = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=60)
    first.kill()
    first.communicate()
    assert second.returncode == 2
    line = " ".join(second.stderr.split())
    assert "another process is writing this folder" in line
    assert f"process {first.pid} on " in line
    assert "Traceback" not in line


def test_a_changed_config_is_refused_with_the_difference(command, whole):
    out = subprocess.run(
        [*command[:-1], "--set", "joint.steps=9", "--out", str(whole)],
        capture_output=True,
        text=True,
    )
    assert out.returncode == 2
    assert "joint.steps = 4 there, 9 here" in " ".join(out.stderr.split())


@pytest.mark.parametrize("limit", [200_000, 2_500_000])
def test_a_full_disk_ends_with_one_line_and_nothing_is_lost(command, whole, tmp_path, limit):
    """A limit on the size of one file stands for the disk: writing beyond it fails in the middle of
    a file.
    """
    folder = tmp_path / "full"
    process = start(
        command,
        folder,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2, err
    last = err.strip().splitlines()[-1]
    assert last.startswith("gloss: ")
    assert "found File too large. Free some space" in " ".join(err.split())
    assert "Traceback" not in err
    subprocess.run([*command, str(folder)], check=True, capture_output=True, timeout=300)
    assert comparable(folder) == comparable(whole)


def test_a_corrupted_shard_is_named_by_its_file(command, whole, tmp_path):
    folder = tmp_path / "corrupted"
    process = start(command, folder)
    wait_for(process, (folder / "splits").exists)
    process.kill()
    process.communicate()
    shard = folder / "activations/shard-00000.parquet"
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 0xFF
    shard.write_bytes(content)
    (folder / "splits/split.json").unlink(missing_ok=True)
    ledger = json.loads((folder / "stages.json").read_text())
    ledger.pop("split_documents", None)
    (folder / "stages.json").write_text(json.dumps(ledger))
    out = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=300)
    assert out.returncode == 2
    assert "shard-00000.parquet" in " ".join(out.stderr.split())
    assert "Traceback" not in out.stderr
