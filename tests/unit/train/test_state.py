"""States that a run resumes from: which is used, which is recognised as torn, which is refused."""

import json

import pytest
import torch
from torch import nn

from gloss.errors import ResumeError
from gloss.stopping import StopRequest
from gloss.train import OptimizerConfig
from gloss.train.metrics import MetricsLog
from gloss.train.optimization import GuardedOptimizer
from gloss.train.state import TrainedPart, TrainingState


def new_state(folder, **settings):
    torch.manual_seed(0)
    module = nn.Linear(8, 8)
    part = TrainedPart(
        module, GuardedOptimizer(module, OptimizerConfig(lr=0.1, warmup_steps=0), 10)
    )
    return TrainingState(folder, {"x": part}, {"lr": 1, **settings})


def run(state, total, every=1):
    part = state.parts["x"]
    for step in state.steps(total, every, StopRequest()):
        part.module(torch.full((1, 8), float(step + 1))).square().sum().backward()
        part.optimizer.step(step)
    return part.module.weight.detach().clone()


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file):
    content = bytearray(file.read_bytes())
    content[-5] ^= 0x10
    file.write_bytes(content)


def empty(file):
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, flip, empty])
def test_a_torn_state_is_recognised_and_the_one_before_it_used(tmp_path, capsys, damage):
    expected = run(new_state(tmp_path / "whole"), 6)
    run(new_state(tmp_path), 4)
    damage(tmp_path / "state-00000004.safetensors")
    state = new_state(tmp_path)
    assert state.load() == 3
    assert "state-00000004.safetensors: damaged" in capsys.readouterr().err
    assert torch.equal(run(state, 6), expected)


def test_two_states_are_kept_and_none_when_finished(tmp_path):
    state = new_state(tmp_path)
    run(state, 5)
    assert [file.name for file in state.files] == [
        "state-00000005.safetensors",
        "state-00000004.safetensors",
    ]
    state.finish({"loss": 0.5})
    assert state.files == []
    assert new_state(tmp_path).finished() == {"loss": 0.5}
    assert new_state(tmp_path).finished(tmp_path) == {"loss": 0.5}
    assert new_state(tmp_path).finished(tmp_path / "checkpoint that somebody removed") is None


def test_where_every_state_is_torn_training_begins_again(tmp_path):
    run(new_state(tmp_path), 3)
    for file in tmp_path.glob("state-*"):
        cut(file)
    assert new_state(tmp_path).load() == 0


def test_other_settings_and_other_starting_weights_are_refused_with_the_difference(tmp_path):
    run(new_state(tmp_path), 2)
    with pytest.raises(ResumeError, match="lr = 1 there, 2 here"):
        new_state(tmp_path, lr=2).load()
    other = new_state(tmp_path)
    with torch.no_grad():
        other.parts["x"].module.weight.mul_(2)
    with pytest.raises(ResumeError, match=r"start\.x"):
        TrainingState(tmp_path, other.parts, {"lr": 1}).load()
    new_state(tmp_path).finish({})
    with pytest.raises(ResumeError, match="lr = 1 there, 2 here"):
        new_state(tmp_path, lr=2).finished()


def test_a_stop_that_was_asked_for_saves_the_finished_step(tmp_path):
    state, stop, done = new_state(tmp_path), StopRequest(), []

    def loop():
        for step in state.steps(10, 100, stop):
            done.append(step)
            if step == 6:
                stop.kind = KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop()
    assert done[-1] == 6
    assert new_state(tmp_path).load() == 7


def test_metrics_keep_the_lines_before_the_resumed_step_and_drop_an_unfinished_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [{"step": 0, "text": "line\u2028separator"}, {"step": 1}, {"step": 2}]
    path.write_text(
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines) + '{"step": 1, "lo'
    )
    with MetricsLog(tmp_path, "ar_sft", first_step=2) as log:
        log.metrics(2, {"loss": float("nan"), "fve": 0.5})
    written = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    assert written == [*lines[:2], {"stage": "ar_sft", "step": 2, "loss": None, "fve": 0.5}]
