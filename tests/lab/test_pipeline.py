"""The whole pipeline on the lab: what it writes, that it resumes to the same result, that it splits
by document.
"""

import json

import pytest
import torch
from safetensors.torch import load_file

from gloss.contract import read_model_sidecar
from gloss.data import read_activations
from gloss.errors import ResumeError, TrainingError
from gloss.models import load_ar, load_av
from gloss.pipeline import stages
from gloss.pipeline.run_config import read_config
from gloss.pipeline.runner import run
from gloss.progress import Stage
from gloss.report.trust_sections import findings
from gloss.train import train_joint
from gloss.train.preflight import check_injection_reaches_forward, check_reward_path


def test_results_hold_every_promised_key(small_run):
    results = json.loads((small_run / "results.json").read_text())
    assert {"ar_on_labels", "sft", "rl", "rl_ci95", "sft_sampled", "rl_sampled"} <= set(
        results["fve"]
    )
    controls = {"mean_direction", "shuffled_activations", "empty_text", "random_activation"}
    assert controls == set(results["controls"])
    for scores in results["claims"].values():
        assert {"precision", "recall", "best_reader", "chance"} <= set(scores)
    for key in (
        "extraction_failure_rate",
        "mean_explanation_tokens",
        "n_heldout",
        "seed",
        "config_hash",
        "versions",
    ):
        assert key in results
    assert results["seconds"]["total"] == pytest.approx(
        sum(value for name, value in results["seconds"].items() if name != "total"), abs=0.1
    )
    low, high = results["fve"]["rl_ci95"]
    assert low <= results["fve"]["rl"] <= high


def test_controls_know_nothing_about_the_single_activation(small_run):
    controls = json.loads((small_run / "results.json").read_text())["controls"]
    assert all(value <= 0.05 for value in controls.values())


def test_explanations_learned_in_a_minute_beat_their_controls(small_run):
    results = json.loads((small_run / "results.json").read_text())
    assert results["fve"]["ar_on_labels"] > 0.3
    assert results["fve"]["ar_on_labels"] > max(results["controls"].values()) + 0.3


@pytest.mark.invariant("numbers-7")
def test_a_minute_of_rl_is_said_to_have_helped_only_as_far_as_twenty_documents_show(small_run):
    results = json.loads((small_run / "results.json").read_text())
    fve, gain = results["fve"], results["gains"]["rl_over_sft_sampled"]
    assert gain["fve"] == pytest.approx(fve["rl_sampled"] - fve["sft_sampled"])
    low, high = gain["ci95"]
    assert low <= gain["fve"] <= high
    titles = {finding.title for finding in findings(results)}
    assert ("RL helped" in titles) == (low > 0)
    assert ("RL did not help" in titles) == (high < 0)


@pytest.mark.invariant("2")
def test_no_document_stands_in_two_parts(small_run):
    parts = [
        set(read_activations(small_run / "splits" / f"{name}.parquet")["doc_id"].to_pylist())
        for name in ("av_sft", "ar_sft", "rl", "heldout")
    ]
    assert sum(map(len, parts)) == len(set().union(*parts))


def test_a_finished_run_is_not_run_again_and_another_config_is_refused(small_run, small_config):
    before = (small_run / "nla/av/model.safetensors").stat().st_mtime_ns
    run(small_config, small_run)
    assert (small_run / "nla/av/model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ResumeError, match="seed"):
        run(small_config.model_copy(update={"seed": 5}), small_run)


def test_a_stopped_joint_run_ends_bit_for_bit_where_an_undisturbed_one_does(
    small_run, small_config, tmp_path, monkeypatch
):
    inputs = {
        "av": small_run / "av_sft/checkpoint",
        "ar": small_run / "ar_sft/checkpoint",
        "dataset": small_run / "datasets/rl.parquet",
        "heldout": small_run / "datasets/heldout.parquet",
    }
    joint = small_config.joint.model_copy(update={"steps": 4, "checkpoint_every": 2})
    advance = Stage.advance

    def stop_at_three(self, count=1, *, note=None):
        advance(self, count, note=note)
        if self.done == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Stage, "advance", stop_at_three)
        with pytest.raises(KeyboardInterrupt):
            train_joint(joint, **inputs, out_dir=tmp_path / "stopped")
    train_joint(joint, **inputs, out_dir=tmp_path / "stopped")
    train_joint(joint, **inputs, out_dir=tmp_path / "whole")
    for half in ("av", "ar"):
        stopped, whole = (
            load_file(tmp_path / name / half / "model.safetensors") for name in ("stopped", "whole")
        )
        assert all(torch.equal(stopped[key], whole[key]) for key in whole)
    steps = [
        json.loads(line)["step"]
        for line in (tmp_path / "stopped/metrics.jsonl").read_text().splitlines()
    ]
    assert steps == [0, 1, 2, 3]


def test_checkpoints_carry_the_released_dialect_and_what_a_reader_needs(small_run):
    av, ar = read_model_sidecar(small_run / "nla/av"), read_model_sidecar(small_run / "nla/ar")
    assert (av.role, ar.role, av.stage) == ("av", "ar", "rl")
    assert av.layer == ar.layer == 2
    assert av.trust.direction_variance > 0
    assert (small_run / "nla/ar/value_head.safetensors").exists()
    assert load_ar(small_run / "nla/ar").backbone.config.num_hidden_layers == ar.layer + 1


def test_saved_halves_give_the_same_outputs_when_loaded(small_run, tmp_path):
    from gloss.models import save_ar, save_av

    av, ar = load_av(small_run / "nla/av"), load_ar(small_run / "nla/ar")
    save_av(av, tmp_path / "av")
    save_ar(ar, tmp_path / "ar")
    texts = ["The mood is calm.", "Ada is the hero."]
    assert torch.equal(load_ar(tmp_path / "ar").reconstruct(texts), ar.reconstruct(texts))
    ids, mask = av.encode_responses(texts)
    activations = torch.randn(2, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        again = load_av(tmp_path / "av").response_logprobs(activations, ids, mask)
        assert torch.equal(again, av.response_logprobs(activations, ids, mask))


def test_preflight_accepts_a_sound_pair_and_refuses_a_broken_one(small_run, monkeypatch):
    av, ar = load_av(small_run / "nla/av"), load_ar(small_run / "nla/ar")
    activations = torch.randn(2, 128, generator=torch.Generator().manual_seed(0))
    check_injection_reaches_forward(av, activations)
    check_reward_path(ar)
    with monkeypatch.context() as patch:
        plain = av.embedding(torch.tensor([av.tail_ids]))
        patch.setattr(
            type(av),
            "embed_after_prefix",
            lambda self, a, r=None: (
                plain.expand(len(a), -1, -1)
                if r is None
                else torch.cat([plain.expand(len(a), -1, -1), self.embedding(r)], 1)
            ),
        )
        with pytest.raises(TrainingError, match="does not depend on the injected activation"):
            check_injection_reaches_forward(av, activations)
    with monkeypatch.context() as patch:
        import gloss.models.ar as module

        def left_pad(rows, pad_id, device=None):
            width = max(map(len, rows))
            ids = torch.tensor([[*[pad_id] * (width - len(row)), *row] for row in rows])
            return ids, torch.tensor(
                [[False] * (width - len(row)) + [True] * len(row) for row in rows]
            )

        patch.setattr(module, "right_pad", left_pad)
        with pytest.raises(TrainingError, match="other vectors in a batch"):
            check_reward_path(ar)


def test_every_stage_is_planned_in_order(small_config, tmp_path):
    names = [name for name, _ in stages.plan(small_config, tmp_path)]
    assert names == [
        "target",
        "extract_activations",
        "split_documents",
        "write_labels",
        "build_datasets",
        "ar_sft",
        "av_sft",
        "joint",
        "evaluate",
    ]


def test_the_same_seed_gives_the_same_activations_and_another_seed_others(
    small_run, small_config, tmp_path
):
    config = read_config_with(small_config, seed=1)
    for name, settings in (("same", small_config), ("other", config)):
        stages.target(settings, tmp_path / name)
        stages.extract_activations(settings, tmp_path / name)
    first, same, other = (
        read_activations(folder / "activations").slice(0, 50)
        for folder in (small_run, tmp_path / "same", tmp_path / "other")
    )
    assert first.equals(same)
    assert not first.equals(other)


def read_config_with(config, *, seed):
    from gloss.pipeline.run_config import preset_path

    return read_config(
        preset_path("smoke"),
        [f"seed={seed}", f"corpus.max_documents={config.corpus.max_documents}"],
    )
