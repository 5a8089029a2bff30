"""A stage is finished as long as what it read and wrote is what it was."""

import json
import os

import pytest

from gloss.errors import ResumeError
from gloss.evaluate import EvaluateConfig
from gloss.pipeline.run_config import preset_path, read_config
from gloss.pipeline.runner import RunFolder
from gloss.store import digests
from gloss.store.digests import check_digests, digests_of


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("a boat")
    run = RunFolder(tmp_path / "run")
    run.open(read_config(preset_path("smoke")))

    def work():
        (run.path / "out").mkdir()
        (run.path / "out" / "weights.bin").write_bytes(bytes(range(200)))

    run.stage("ar_sft", work, inputs=[tmp_path / "corpus"], outputs=[run.path / "out"])
    return run


def opened(run):
    again = RunFolder(run.path)
    again.open(read_config(preset_path("smoke")))
    return again


@pytest.mark.invariant("runs-4")
def test_an_untouched_run_is_finished_and_a_copied_one_too(folder):
    opened(folder).check_finished()
    weights = folder.path / "out" / "weights.bin"
    os.utime(weights, (1, 1))
    opened(folder).check_finished()
    assert json.loads((folder.path / "stages.json").read_text())["ar_sft"]["outputs"]


@pytest.mark.invariant("runs-4")
def test_weights_that_have_gone_or_changed_are_named(folder):
    weights = folder.path / "out" / "weights.bin"
    weights.write_bytes(bytes(reversed(range(200))))
    with pytest.raises(ResumeError, match=r"weights.bin: .*changed since the stage ar_sft wrote"):
        opened(folder).check_finished()
    weights.unlink()
    with pytest.raises(ResumeError, match="a file of the finished stage ar_sft has gone"):
        opened(folder).check_finished()


@pytest.mark.invariant("runs-4")
def test_a_corpus_that_has_changed_is_named(folder):
    text = folder.path.parent / "corpus" / "a.txt"
    text.write_text("a goat")
    with pytest.raises(ResumeError, match=r"a.txt: .*changed since the stage ar_sft read it"):
        opened(folder).check_finished()


def test_a_large_file_is_told_from_another_by_blocks_over_all_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "_WHOLE_BYTES", 1000)
    monkeypatch.setattr(digests, "_BLOCK", 64)
    file = tmp_path / "w.bin"
    file.write_bytes(bytes(10_000))
    known = digests_of([file], tmp_path)
    for at in (0, 5_000, 9_999):
        data = bytearray(10_000)
        data[at] = 1
        file.write_bytes(data)
        os.utime(file, (2 + at, 2))
        if at != 5_000:
            with pytest.raises(ResumeError, match="other content"):
                check_digests(known, tmp_path, stage="s", use="wrote")


def test_a_run_from_before_a_setting_was_there_goes_on_with_its_default(folder):
    """And only with that: another value of the new setting is other settings."""
    record = folder.path / "config.json"
    values = json.loads(record.read_text())
    for table, name in (("joint", "series"), ("joint", "stop_when"), ("evaluate", "trust_rows")):
        del values[table][name]
    record.write_text(json.dumps(values))
    found = EvaluateConfig().trust_rows
    unlike = read_config(preset_path("smoke"), [f"evaluate.trust_rows={found + 1}"])
    with pytest.raises(ResumeError, match=f"evaluate.trust_rows = {found} there, {found + 1} here"):
        RunFolder(folder.path).open(unlike)
    RunFolder(folder.path).open(read_config(preset_path("smoke"), [f"evaluate.trust_rows={found}"]))
    values["joint"]["steps"] += 1
    record.write_text(json.dumps(values))
    with pytest.raises(ResumeError, match=r"joint\.steps"):
        opened(folder)
