"""What is not finite is skipped and counted, and ends the run with the step and the rows."""

import json
import math

import pytest
import torch

from gloss.errors import TrainingError
from gloss.models import ActivationReconstructor
from gloss.train import train_ar, train_av, train_joint

LIMIT = {"max_skipped_steps": 2}


def changed(config, *, optimizers, **values):
    parts = {name: getattr(config, name).model_copy(update=LIMIT) for name in optimizers}
    return config.model_copy(update={"checkpoint_every": 1, **parts, **values})


def steps(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("half", ["ar", "av"])
def test_weights_that_blew_up_end_the_warm_start_with_step_and_rows(
    small_run, small_config, tmp_path, half
):
    train, name = (train_ar, "ar_sft") if half == "ar" else (train_av, "av_sft")
    config = changed(getattr(small_config, name), optimizers=["optimizer"], steps=8, batch_size=4)
    wild = config.optimizer.model_copy(update={"algorithm": "adamw", "lr": 1e30, "warmup_steps": 0})
    inputs = {
        "target": str(small_run / "target"),
        "dataset": small_run / f"datasets/{name}.parquet",
    }
    with pytest.raises(
        TrainingError, match=r"3 steps were skipped.*last at step 3.*NaN.*on dataset rows \d+, \d+"
    ):
        train(config.model_copy(update={"optimizer": wild}), **inputs, out_dir=tmp_path)
    assert [step["skipped_steps"] for step in steps(tmp_path)] == [0, 1, 2]
    assert steps(tmp_path)[1]["loss"] is None


def test_a_reward_that_is_not_finite_costs_its_step_and_no_more(
    small_run, small_config, tmp_path, monkeypatch
):
    calls, reconstruct = [], ActivationReconstructor.reconstruct_ids

    def once_broken(self, ids):
        vectors = reconstruct(self, ids)
        if self.head.weight.requires_grad and torch.is_grad_enabled():
            calls.append(len(ids))
            if len(calls) == 1:
                return vectors * math.nan
        return vectors

    monkeypatch.setattr(ActivationReconstructor, "reconstruct_ids", once_broken)
    config = changed(
        small_config.joint,
        optimizers=["av", "ar"],
        steps=2,
        prompts_per_step=4,
        group_size=2,
        evaluate_every=99,
    )
    result = train_joint(
        config,
        av=small_run / "av_sft/checkpoint",
        ar=small_run / "ar_sft/checkpoint",
        dataset=small_run / "datasets/rl.parquet",
        out_dir=tmp_path,
    )
    first, second = steps(tmp_path)
    assert result.skipped_steps == 2, "one step of each half"
    assert (first["reward_mean"], first["skipped_steps"]) == (None, 2)
    assert second["skipped_steps"] == 2
    assert math.isfinite(second["reward_mean"])


def test_another_seed_trains_other_steps(small_run, small_config, tmp_path):
    inputs = {"target": str(small_run / "target"), "dataset": small_run / "datasets/ar_sft.parquet"}
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        config = small_config.ar_sft.model_copy(update={"steps": 3, "batch_size": 8, "seed": seed})
        train_ar(config, **inputs, out_dir=tmp_path / name)
    one, same, other = (
        [step["loss"] for step in steps(tmp_path / name)] for name in ("one", "same", "other")
    )
    assert one == same
    assert one != other
