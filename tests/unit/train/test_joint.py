"""One joint step on small random models, with scripted responses where the numbers must
be known.
"""

import math

import pytest
import torch
from safetensors.torch import load_file
from stand_ins import serving
from tiny_nla import D_MODEL, make_ar, make_av, write_rows

from gloss.contract import Explanation
from gloss.engines import LocalEngine, Rollout
from gloss.errors import ConfigError, EngineError, SidecarError
from gloss.models import direction_mse, load_av, save_ar, save_av
from gloss.train import JointConfig, train_joint
from gloss.train.joint import heldout_fve
from gloss.train.joint_step import Learner, joint_step

GOOD, CUT = "<explanation>\n{}\n</explanation>", "<explanation>\ncut off at the cap {}"
TEXTS = ["The mood is calm.", "Ada is here, and it rains.", "x", "cut", "the harbor {0}", "cut"]
VARIANCE = 0.5


class ScriptedEngine:
    def __init__(self, av, texts=TEXTS):
        self.rollouts = []
        for text in texts:
            written = (CUT if text == "cut" else GOOD).format(text)
            ids = av.tokenizer.encode(written, add_special_tokens=False)
            ids = ids if text == "cut" else [*ids, av.stop_id]
            self.rollouts.append(Rollout(tuple(ids), written, text != "cut"))

    def generate(self, activations, **options):
        assert len(activations) * options["num_samples"] == len(self.rollouts)
        return self.rollouts


def _config(**changes):
    optimizer = {"lr": 1e-3, "warmup_steps": 0}
    settings = {
        "steps": 5,
        "prompts_per_step": 2,
        "group_size": 3,
        "compute_dtype": "float32",
        "kl_weight": 0.1,
    }
    return JointConfig.model_validate({**settings, "av": optimizer, "ar": optimizer, **changes})


@pytest.fixture
def learner(lab_tokenizer):
    return _learner(lab_tokenizer)


def _learner(tokenizer, **changes):
    learner = Learner(_config(**changes), make_av(tokenizer), make_ar(tokenizer))
    learner.engine = ScriptedEngine(learner.av)
    return learner


def _activations(n=2):
    return torch.randn(n, D_MODEL, generator=torch.Generator().manual_seed(1)) * 50


def _frozen_step(learner):
    """A step whose gradients stay to be looked at: neither optimizer moves or clears them."""
    for optimizer in (learner.ar_optimizer, learner.av_optimizer):
        optimizer.step = lambda step, **_: 0.0
    return joint_step(learner, _activations(), VARIANCE, 0)


@pytest.mark.invariant("failed-extraction")
def test_a_failed_extraction_earns_what_an_orthogonal_vector_would_and_is_counted(learner):
    extracted = [i for i, text in enumerate(TEXTS) if text != "cut"]
    gold = _activations().repeat_interleave(3, dim=0)[extracted]
    expected = direction_mse(learner.ar([TEXTS[i] for i in extracted]), gold).detach()
    metrics, batch, errors = joint_step(learner, _activations(), VARIANCE, 0)
    torch.testing.assert_close(errors[extracted], expected, atol=1e-5, rtol=1e-4)
    assert errors.isnan().tolist() == [text == "cut" for text in TEXTS]
    mean_error = (float(expected.sum()) + 2 * 2.0) / 6
    assert metrics["reward_mean"] == pytest.approx(-mean_error, abs=1e-4)
    assert metrics["fve_sampled"] == pytest.approx(1 - mean_error / VARIANCE, abs=1e-4)
    assert metrics["failure_rate"] == pytest.approx(2 / 6)
    assert metrics["ar_loss"] == pytest.approx(float(expected.mean()), abs=1e-5)
    assert batch.texts[3] == ""


@pytest.mark.invariant("failed-extraction")
def test_the_ar_learns_from_extracted_explanations_only(learner):
    _frozen_step(learner)
    extracted = [i for i, text in enumerate(TEXTS) if text != "cut"]
    gold = _activations().repeat_interleave(3, dim=0)[extracted]
    loss = direction_mse(learner.ar([TEXTS[i] for i in extracted]), gold).mean()
    (expected,) = torch.autograd.grad(loss, [learner.ar.head.weight])
    torch.testing.assert_close(learner.ar.head.weight.grad, expected, atol=1e-6, rtol=1e-4)


def test_a_batch_without_any_explanation_trains_the_av_alone(learner):
    learner.engine = ScriptedEngine(learner.av, ["cut"] * 6)
    before = learner.ar.head.weight.detach().clone()
    metrics, _, _ = joint_step(learner, _activations(), VARIANCE, 0)
    assert metrics["reward_mean"] == -2.0
    assert metrics["failure_rate"] == 1.0
    assert metrics["skipped_steps"] == 0
    assert torch.equal(learner.ar.head.weight, before)


@pytest.mark.invariant("kl-to-start")
@pytest.mark.parametrize("micro_batch_size", [2, 6])
def test_the_avs_gradient_is_grpo_with_kl_to_its_sft_start(lab_tokenizer, micro_batch_size):
    """Against one whole response at a time, in plain formulas."""
    learner = _learner(lab_tokenizer, micro_batch_size=micro_batch_size)
    block = learner.av.model.model.layers[0].mlp.up_proj.weight
    with torch.no_grad():
        block += 0.02 * torch.randn(block.shape, generator=torch.Generator().manual_seed(5))
    metrics, batch, errors = _frozen_step(learner)
    rewards = torch.where(errors.isnan(), torch.tensor(-2.0), -errors).view(2, 3)
    advantages = (
        (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)
    ).flatten()
    loss, divergence, count = torch.zeros(()), 0.0, 0
    for activation, rollout, advantage in zip(
        batch.activations, batch.rollouts, advantages, strict=True
    ):
        ids = torch.tensor([rollout.token_ids])
        arguments = (activation.unsqueeze(0), ids, torch.ones_like(ids, dtype=torch.bool))
        logprobs = learner.av.response_logprobs(*arguments)
        with torch.no_grad():
            difference = learner.reference.response_logprobs(*arguments) - logprobs.detach()
        k3 = difference.exp() - difference - 1
        kl_slope = (1 - difference.exp()) * logprobs
        loss = loss + (-advantage * logprobs + 0.1 * kl_slope).sum()
        divergence, count = divergence + float(k3.sum()), count + ids.shape[1]
    assert count == sum(len(rollout.token_ids) for rollout in batch.rollouts)
    got = block.grad.clone()
    (expected,) = torch.autograd.grad(loss / count, [block])
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-3)
    assert metrics["kl"] == pytest.approx(divergence / count, rel=1e-3)
    assert metrics["kl"] > 1e-4


@pytest.mark.invariant("kl-to-start")
def test_the_reference_stays_the_sft_start_while_the_av_moves(learner):
    before = [parameter.detach().clone() for parameter in learner.reference.model.parameters()]
    for step in range(2):
        metrics, _, _ = joint_step(learner, _activations(), VARIANCE, step)
    assert all(
        torch.equal(a, b) for a, b in zip(learner.reference.model.parameters(), before, strict=True)
    )
    assert metrics["kl"] > 0


@pytest.mark.invariant("live-reward")
def test_no_gradient_flows_from_one_half_into_the_other(learner):
    batch = learner.sample(_activations(), 0)
    learner.ar_errors(batch)
    assert all(parameter.grad is None for parameter in learner.av.model.parameters())
    learner.ar.zero_grad(set_to_none=True)
    learner.av_gradients(batch, torch.ones(6))
    assert all(parameter.grad is None for parameter in learner.ar.parameters())


@pytest.mark.invariant("live-reward")
def test_the_reward_comes_from_the_live_ar(learner):
    rebuilt = learner.ar.reconstruct(["x"]).detach()
    activations = rebuilt + 0.01 * rebuilt.norm() * torch.randn(_activations().shape) / 6
    first, _, _ = joint_step(learner, activations, VARIANCE, 0)
    with torch.no_grad():
        learner.ar.head.weight.neg_()
    second, _, _ = joint_step(learner, activations, VARIANCE, 1)
    assert abs(second["reward_mean"] - first["reward_mean"]) > 0.1


@pytest.mark.invariant("13")
def test_an_ar_that_gives_nan_skips_both_steps_and_changes_nothing(learner):
    with torch.no_grad():
        learner.ar.head.weight[0, 0] = torch.nan
    before = [
        p.detach().clone() for p in (*learner.av.model.parameters(), *learner.ar.parameters())
    ]
    metrics, _, _ = joint_step(learner, _activations(), VARIANCE, 0)
    assert metrics["skipped_steps"] == 2
    assert math.isnan(metrics["reward_mean"])
    after = [*learner.av.model.parameters(), *learner.ar.parameters()]
    assert all(
        torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(after, before, strict=True)
    )


@pytest.mark.invariant("seeded-steps")
def test_a_steps_samples_depend_on_seed_and_step_alone(learner):
    learner.engine = LocalEngine(learner.av)
    learner.config = _config(max_new_tokens=6)
    learner.sample(_activations(), 0)
    samples = [
        [r.token_ids for r in learner.sample(_activations(), step).rollouts] for step in (3, 3, 4)
    ]
    assert samples[0] == samples[1]
    assert samples[0] != samples[2]
    learner.config = _config(max_new_tokens=6, seed=1)
    assert [r.token_ids for r in learner.sample(_activations(), 3).rollouts] != samples[0]


@pytest.mark.invariant("failed-extraction")
def test_the_heldout_fve_charges_failed_extractions_as_orthogonal(learner):
    from types import SimpleNamespace

    learner.engine = ScriptedEngine(learner.av, ["x", "cut"])
    learner.engine.generate = lambda activations, **_: learner.engine.rollouts
    rows = SimpleNamespace(vectors=_activations().numpy(), variance=VARIANCE)
    error = float(direction_mse(learner.ar(["x"]), _activations()[:1]).detach())
    expected = 1 - (error + 2.0) / 2 / VARIANCE
    assert heldout_fve(learner, rows, learner.config) == pytest.approx(expected, abs=1e-4)


class OtherEngine:
    """Samples with an AV of its own, which knows nothing but what it loads; forgets the loading of
    ``deaf_from`` on.
    """

    def __init__(self, folder, deaf_from=100):
        self.local, self.loaded, self.deaf_from = LocalEngine(load_av(folder)), 0, deaf_from

    def generate(self, activations, **options):
        with torch.autocast("cpu", enabled=False):
            return self.local.generate(activations, **options)

    def load_weights(self, folder):
        self.loaded += 1
        if self.loaded < self.deaf_from:
            self.local.load_weights(folder)


@pytest.fixture
def inputs(lab_tokenizer, tmp_path, monkeypatch):
    """Halves, rows, and an untrained AV whose every response counts as an explanation."""
    monkeypatch.setattr(Rollout, "explanation", property(lambda self: Explanation(self.text)))
    save_av(make_av(lab_tokenizer), tmp_path / "av")
    save_ar(make_ar(lab_tokenizer), tmp_path / "ar")
    rows = write_rows(tmp_path / "rl.parquet", lab_tokenizer, _activations(12).numpy(), layer=2)
    return {"av": tmp_path / "av", "ar": tmp_path / "ar", "dataset": rows, "heldout": rows}


SHORT = {"steps": 4, "max_new_tokens": 6, "evaluate_every": 2, "evaluate_rows": 4}


def _weights(result):
    return [load_file(path / "model.safetensors") for path in (result.av, result.ar)]


def _same(one, other):
    return all(torch.equal(a[name], b[name]) for a, b in zip(one, other, strict=True) for name in a)


def test_an_engine_of_its_own_trains_to_the_same_weights_as_the_live_av(inputs, tmp_path):
    """The same responses give the same weights; an engine that misses one update gives others."""
    live = train_joint(_config(**SHORT), **inputs, out_dir=tmp_path / "live")
    engines = [OtherEngine(inputs["av"]), OtherEngine(inputs["av"], deaf_from=3)]
    followed, deaf = (
        train_joint(_config(**SHORT), **inputs, out_dir=tmp_path / str(i), engine=engine)
        for i, engine in enumerate(engines)
    )
    assert engines[0].loaded == 5, "before each step, and before the last measurement"
    assert _same(_weights(followed), _weights(live))
    assert not _same(_weights(deaf), _weights(live))
    assert not (tmp_path / "0/engine_av").exists()


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_the_config_names_a_server_that_follows_every_step(kind, inputs, tmp_path):
    stand_in = {"vllm": serving.VLLM, "sglang": serving.SGLang}[kind]
    with stand_in(load_av(inputs["av"])) as server:
        config = _config(**SHORT, engine=f"{kind}+{server.url}")
        result = train_joint(config, **inputs, out_dir=tmp_path / "out")
        assert len(server.loaded) == 5
        served = server.av.model.state_dict()
    trained = load_file(result.av / "model.safetensors")
    assert all(torch.equal(served[name], trained[name]) for name in trained)
    assert not torch.equal(
        trained["model.layers.0.mlp.up_proj.weight"],
        load_file(inputs["av"] / "model.safetensors")["model.layers.0.mlp.up_proj.weight"],
    )
    again = train_joint(config, **inputs, out_dir=tmp_path / "out")
    assert again == result, "finished: the server, which has gone, is not asked for"


def test_a_server_that_does_not_follow_ends_the_run_and_a_mistyped_one_does_not_begin(
    inputs, tmp_path
):
    fast = {"av": {"lr": 0.3, "warmup_steps": 0}, **SHORT}
    with serving.VLLM(load_av(inputs["av"]), serving.Faults(keeps_head=True)) as server:
        config = _config(**fast, engine=f"vllm+{server.url}")
        with pytest.raises(EngineError, match="an update was not taken over whole"):
            train_joint(config, **inputs, out_dir=tmp_path / "out")
    with pytest.raises(ConfigError, match="unknown engine"):
        train_joint(_config(engine="tgi+http://host"), **inputs, out_dir=tmp_path / "other")


@pytest.mark.invariant("5")
@pytest.mark.parametrize("wrong", ["ar", "dataset"])
def test_joint_rl_refuses_halves_and_datasets_of_different_layers(wrong, lab_tokenizer, tmp_path):
    layers = {"ar": 2, "dataset": 2, wrong: 1}
    save_av(make_av(lab_tokenizer), tmp_path / "av")
    save_ar(make_ar(lab_tokenizer, layer=layers["ar"]), tmp_path / "ar")
    rows = write_rows(
        tmp_path / "rl.parquet", lab_tokenizer, _activations(4).numpy(), layer=layers["dataset"]
    )
    with pytest.raises(SidecarError, match="different activations: layer: expected 2, found 1"):
        train_joint(
            _config(),
            av=tmp_path / "av",
            ar=tmp_path / "ar",
            dataset=rows,
            out_dir=tmp_path / "out",
        )
