"""The target that reads must be the one that was trained on; force says what differs."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from tiny_nla import write_nla

import gloss
from gloss.contract import TargetRecord, read_model_sidecar, write_model_sidecar
from gloss.errors import CheckpointError
from gloss.target_model import identity_of, load_target


@pytest.fixture
def recorded(tmp_path, lab_tokenizer):
    """An NLA with its target's record, and the target."""
    folder = write_nla(tmp_path / "nla", lab_tokenizer)
    target = load_target(folder / "target")
    record = TargetRecord(**identity_of(target.model, target.tokenizer))
    sidecar = read_model_sidecar(folder / "av")
    trust = sidecar.trust.model_copy(update={"target": record})
    write_model_sidecar(replace(sidecar, trust=trust), folder / "av")
    return folder, target


@pytest.mark.invariant("loading-8")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_recorded_target_is_taken_in_every_type(recorded, dtype):
    assert gloss.load(recorded[0], dtype=dtype).target.d_model > 0


@pytest.mark.invariant("loading-8")
def test_other_weights_are_refused_and_force_says_what_differs(recorded):
    folder, target = recorded
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in target.model.parameters():
            weight.mul_(1 + 0.01 * torch.rand(weight.shape))
    target.model.save_pretrained(folder / "target")
    with pytest.raises(CheckpointError, match=r"not the target of this NLA.*was recorded"):
        _ = gloss.load(folder).target
    with pytest.warns(UserWarning, match="not the target of this NLA: embedding holds"):
        assert gloss.load(folder, force=True).target.d_model == target.d_model


@pytest.mark.invariant("loading-8")
@pytest.mark.parametrize("force", [False, True])
def test_the_command_line_refuses_another_target_unless_forced(recorded, force):
    folder, target = recorded
    with torch.no_grad():
        for weight in target.model.parameters():
            weight.mul_(1.01)
    target.model.save_pretrained(folder / "target")
    more = ["--positions", "2", "--max-new-tokens", "4", *(["--force"] if force else [])]
    command = [
        sys.executable,
        "-m",
        "gloss.cli.main",
        "explain",
        "The gulls rest.",
        "--nla",
        folder,
        *more,
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == (0 if force else 2), ended.stderr
    (said,) = [line for line in ended.stderr.splitlines() if "not the target of this NLA" in line]
    assert ".py:" not in said


@pytest.mark.invariant("loading-8")
def test_permuted_ids_are_refused(recorded):
    folder, _ = recorded
    file = folder / "target" / "tokenizer.json"
    rules = json.loads(file.read_text())
    vocab = rules["model"]["vocab"]
    vocab[20], vocab[21] = vocab[21], vocab[20]
    file.write_text(json.dumps(rules))
    with pytest.raises(CheckpointError, match="tokenizer gives other ids"):
        _ = gloss.load(folder).target
