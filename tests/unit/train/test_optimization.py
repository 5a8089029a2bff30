import pytest
import torch
from torch import nn

from gloss.errors import ResumeError, TrainingError
from gloss.train import OptimizerConfig
from gloss.train.batches import batch_rows, step_seed
from gloss.train.optimization import GuardedOptimizer, learning_rate
from gloss.train.state import TrainedPart, TrainingState


def test_rate_warms_up_and_falls_to_its_floor():
    config = OptimizerConfig(lr=1.0, warmup_steps=10, final_lr_fraction=0.1)
    assert learning_rate(config, 0, 110) == pytest.approx(0.1)
    assert learning_rate(config, 9, 110) == pytest.approx(1.0)
    assert learning_rate(config, 60, 110) == pytest.approx(0.55)
    assert learning_rate(config, 110, 110) == pytest.approx(0.1)


@pytest.mark.invariant("13")
def test_a_non_finite_gradient_changes_nothing_is_counted_and_ends_the_run_after_the_limit():
    layer = nn.Linear(3, 3)
    optimizer = GuardedOptimizer(layer, OptimizerConfig(lr=0.1, max_skipped_steps=2), 10)
    before = layer.weight.detach().clone()
    for step in range(2):
        layer.weight.grad = torch.full_like(layer.weight, float("nan"))
        optimizer.step(step)
    assert optimizer.skipped == 2
    torch.testing.assert_close(layer.weight.detach(), before)
    assert layer.weight.grad is None
    layer.weight.grad = torch.full_like(layer.weight, float("inf"))
    with pytest.raises(TrainingError, match="the last at step 2"):
        optimizer.step(2)


@pytest.mark.invariant("seeded-steps")
def test_batches_visit_every_row_once_an_epoch_and_depend_on_step_and_seed_only():
    rows = [batch_rows(10, 4, step, seed=3).tolist() for step in range(5)]
    assert sorted(row for batch in rows for row in batch) == sorted([*range(10)] * 2)
    assert batch_rows(10, 4, 3, seed=3).tolist() == rows[3]
    assert batch_rows(10, 4, 3, seed=4).tolist() != rows[3]
    assert len(batch_rows(3, 8, 5, seed=0)) == 8


def test_step_seeds_differ_between_steps_and_seeds():
    seeds = {step_seed(seed, step) for seed in range(20) for step in range(50)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)


def _train(part, steps, first=0):
    for step in range(first, steps):
        value = part.module(torch.full((1, 3), float(step + 1))).square().sum()
        value.backward()
        part.optimizer.step(step)


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.layers[1](self.layers[0](x).relu()))


def _part(algorithm="adamw"):
    torch.manual_seed(0)
    module = Blocks()
    config = OptimizerConfig(lr=0.1, warmup_steps=2, algorithm=algorithm)
    return TrainedPart(module, GuardedOptimizer(module, config, 10))


@pytest.mark.parametrize("algorithm", ["adamw", "muon"])
def test_a_resumed_run_ends_bit_for_bit_where_an_undisturbed_one_does(tmp_path, algorithm):
    whole = _part(algorithm)
    _train(whole, 10)
    stopped = _part(algorithm)
    state = TrainingState(tmp_path, {"x": stopped}, {"f": 1})
    _train(stopped, 6)
    state.save(6)
    resumed = _part(algorithm)
    state = TrainingState(tmp_path, {"x": resumed}, {"f": 1})
    assert state.load() == 6
    _train(resumed, 10, first=6)
    assert all(
        torch.equal(a, b)
        for a, b in zip(resumed.module.parameters(), whole.module.parameters(), strict=True)
    )


@pytest.mark.invariant("stale-labels")
def test_a_state_of_other_settings_is_refused(tmp_path):
    TrainingState(tmp_path, {"x": _part()}, {"lr": 1}).save(1)
    with pytest.raises(ResumeError, match="other settings"):
        TrainingState(tmp_path, {"x": _part()}, {"lr": 2}).load()


def test_muon_takes_the_blocks_matrices_and_adamw_the_rest():
    optimizer = _part("muon").optimizer
    adamw, muon = optimizer._parts
    assert [p.shape for group in muon.param_groups for p in group["params"]] == [(3, 3), (3, 3)]
    assert sorted(tuple(p.shape) for group in adamw.param_groups for p in group["params"]) == [
        (2,),
        (2, 3),
        (3,),
        (3,),
    ]


def test_every_epoch_has_its_own_order():
    epochs = {tuple(batch_rows(50, 50, step, seed=0).tolist()) for step in range(20)}
    assert len(epochs) == 20


@pytest.mark.invariant("13")
def test_a_loss_that_is_not_finite_is_skipped_even_if_its_gradient_is():
    layer = nn.Linear(3, 3)
    optimizer = GuardedOptimizer(layer, OptimizerConfig(lr=0.1), 10)
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.ones_like(layer.weight)
    optimizer.step(0, loss=float("nan"))
    assert optimizer.skipped == 1
    assert torch.equal(layer.weight.detach(), before)
    layer.weight.grad = torch.ones_like(layer.weight)
    optimizer.step(1, loss=1.0)
    assert not torch.equal(layer.weight.detach(), before)


@pytest.mark.invariant("runs-5")
def test_what_learned_nothing_is_not_to_be_saved():
    layer = nn.Linear(3, 3)
    optimizer = GuardedOptimizer(layer, OptimizerConfig(lr=0.1, max_skipped_steps=5), 2)
    for step in range(2):
        layer.weight.grad = torch.full_like(layer.weight, float("nan"))
        optimizer.step(step)
    with pytest.raises(TrainingError, match=r"nothing was learned: .*found all 2 skipped"):
        optimizer.check_learned()


@pytest.mark.invariant("runs-5")
def test_weights_that_are_not_finite_are_named():
    layer = nn.Linear(3, 3)
    optimizer = GuardedOptimizer(layer, OptimizerConfig(lr=0.1), 2)
    layer.weight.grad = torch.ones_like(layer.weight)
    optimizer.step(0)
    optimizer.check_learned()
    with torch.no_grad():
        layer.bias[1] = float("nan")
    with pytest.raises(TrainingError, match="cannot be used: bias: expected finite values"):
        optimizer.check_learned()
