"""On a CUDA device an NLA reads, rebuilds, steers and trains as on the CPU: run with ``pytest -m
gpu``.
"""

import pytest
import torch
from tiny_models import random_model
from tiny_nla import D_MODEL, make_ar, make_av

import gloss
from gloss.models import load_ar, load_av, save_ar, save_av
from gloss.train import JointConfig
from gloss.train.joint_step import Learner, joint_step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
TEXT = "The mood is calm and Ada is here while it rains at the harbor and the gulls sleep"


@pytest.fixture
def folder(tmp_path, lab_tokenizer):
    random_model(vocab_size=len(lab_tokenizer), num_blocks=4).save_pretrained(tmp_path / "target")
    lab_tokenizer.save_pretrained(tmp_path / "target")
    save_av(make_av(lab_tokenizer), tmp_path / "av")
    save_ar(make_ar(lab_tokenizer), tmp_path / "ar")
    return tmp_path


def test_the_gpu_is_taken_where_there_is_one_and_gives_the_cpus_results(folder):
    on_gpu, on_cpu = (
        gloss.load(folder, max_new_tokens=8),
        gloss.load(folder, max_new_tokens=8, device="cpu"),
    )
    assert on_gpu.target.model.device.type == on_gpu.av.model.device.type == "cuda"
    torch.testing.assert_close(
        on_gpu.activations(TEXT), on_cpu.activations(TEXT), rtol=1e-3, atol=1e-4
    )
    texts = ["a calm mood", "a much longer explanation with more words in it"]
    torch.testing.assert_close(
        on_gpu.reconstruct(texts), on_cpu.reconstruct(texts), rtol=1e-3, atol=1e-3
    )
    found, expected = (nla.explain(TEXT, positions="10-16") for nla in (on_gpu, on_cpu))
    assert [item.response for item in found] == [item.response for item in expected]


def test_a_joint_step_gives_the_cpus_metrics(folder):
    optimizer = {"lr": 1e-3, "warmup_steps": 0}
    settings = {
        "steps": 2,
        "prompts_per_step": 2,
        "group_size": 3,
        "compute_dtype": "float32",
        "max_new_tokens": 8,
    }
    config = JointConfig.model_validate(
        {**settings, "temperature": 0.01, "av": optimizer, "ar": optimizer}
    )
    activations = torch.randn(2, D_MODEL, generator=torch.Generator().manual_seed(1)) * 50
    metrics = []
    for device in ("cuda", "cpu"):
        learner = Learner(
            config, load_av(folder / "av", device=device), load_ar(folder / "ar", device=device)
        )
        metrics.append(joint_step(learner, activations, 0.5, 0)[0])
    for name, value in metrics[1].items():
        assert metrics[0][name] == pytest.approx(value, rel=1e-2, abs=1e-3, nan_ok=True), name
