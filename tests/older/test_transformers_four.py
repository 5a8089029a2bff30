"""What Gloss writes computes the same in Transformers 4 as here, for every family: run by
``make test-older``, which installs it apart from Gloss.

θ, scaling and rotary share are none of the defaults, so that a lost one shows."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from family_models import D_MODEL, FAMILIES, LAYER, family_model, text_side
from safetensors.torch import save_file
from tiny_nla import AR_TEMPLATE, nla_sidecar

from gloss.contract import read_model_sidecar, write_model_sidecar
from gloss.lab.tokenizer import build_tokenizer
from gloss.models import (
    ActivationReconstructor,
    ActivationVerbalizer,
    load_ar,
    load_av,
    save_ar,
    save_av,
)
from gloss.release.convert import ConvertOptions, convert
from gloss.release.validate import validate

pytestmark = pytest.mark.older
HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-older/bin/python"
FOUR = "4.57.6"
THETA = {"rope_theta": 500_000.0, "rope_type": "default"}
ROPES = {
    "gpt_neox": THETA | {"partial_rotary_factor": 0.5},
    "phi": THETA | {"partial_rotary_factor": 0.75},
    "llama": THETA
    | {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "phi3": THETA
    | {
        "rope_type": "longrope",
        "short_factor": [1.5] * 4,
        "long_factor": [2.0] * 4,
        "partial_rotary_factor": 1.0,
    },
    "olmo3": {
        "full_attention": THETA | {"rope_type": "linear", "factor": 4.0},
        "sliding_attention": THETA,
    },
    "gemma3_text": {
        "full_attention": THETA | {"rope_type": "linear", "factor": 8.0},
        "sliding_attention": THETA | {"rope_theta": 20_000.0},
    },
    "gpt_oss": {
        "rope_type": "yarn",
        "rope_theta": 250_000.0,
        "factor": 32.0,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "truncate": False,
        "original_max_position_embeddings": 8,
    },
}
SETTINGS = {"phi3": {"original_max_position_embeddings": 64}}
EAGER = ("gemma2",)
"""Transformers 4 drops this family's attention soft cap in its default attention."""
TEXTS = ["The mood is calm.", "Ada is here <text> in {braces}.", "x"]
NAMES = [family.name for family in FAMILIES]


def _model(family, vocab_size):
    changes = dict(SETTINGS.get(family.name, {}))
    if family.name not in ("gpt2", "gemma3"):
        changes["rope_parameters"] = ROPES.get(family.name, THETA)
    return text_side(family_model(family, vocab_size, **json.loads(json.dumps(changes))))


def _expect(folder, name, tokenizer):
    """What the folder's two halves say here, for the reader to compare with."""
    av, ar = load_av(folder / "av"), load_ar(folder / "ar")
    top = min(500, av.embedding.num_embeddings)
    ids = torch.randint(10, top, (2, 20), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        tensors = {"ids": ids, "logits": av.model(ids).logits, "vectors": ar(TEXTS)}
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    save_file(tensors, folder / "expected.safetensors")
    chat = [{"role": "user", "content": "Say it."}]
    texts = {
        "eager": name in EAGER,
        "ids": [[text, tokenizer.encode(text)] for text in (*TEXTS, "a ㊗ b é\n\n")],
        "chat": "Say it.",
        "chat_ids": tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_dict=False
        ),
        "prompts": [ar.sidecar.ar_template.replace("{explanation}", text) for text in TEXTS],
    }
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")


def _saved(folder, family, tokenizer):
    model = _model(family, len(tokenizer))
    save_av(ActivationVerbalizer(model, tokenizer, nla_sidecar(tokenizer, "av")), folder / "av")
    sidecar = replace(nla_sidecar(tokenizer, "ar"), ar_template=AR_TEMPLATE)
    ar = ActivationReconstructor.from_target(model, LAYER, tokenizer, sidecar)
    torch.nn.init.normal_(
        ar.head.weight, std=D_MODEL**-0.5, generator=torch.Generator().manual_seed(3)
    )
    save_ar(ar, folder / "ar")
    _expect(folder, family.name, tokenizer)


def _converted(source, folder, name, tokenizer):
    """The same halves with the configs as Transformers 5 alone writes them, and then converted."""
    raw = folder.parent / f"{folder.name}-raw"
    for half, load in (("av", load_av), ("ar", load_ar)):
        loaded = load(source / half)
        (save_av if half == "av" else save_ar)(loaded, raw / half)
        config = loaded.model.config if half == "av" else loaded.backbone.config
        config.save_pretrained(raw / half)
        loaded.tokenizer.save_pretrained(raw / half)
    failed = [f.half for f in validate(raw).failed if f.check == "Transformers 4"]
    assert failed == ["av", "ar"]
    convert(raw, folder, ConvertOptions())
    _expect(folder, name, tokenizer)


def _golden(source, folder):
    for half, load, save in (("av", load_av, save_av), ("ar", load_ar, save_ar)):
        loaded = load(source / half)
        save(loaded, folder / half)
        write_model_sidecar(read_model_sidecar(source / half), folder / half)
    _expect(folder, "golden", loaded.tokenizer)


@pytest.fixture(scope="module")
def read(tmp_path_factory, golden):
    """What Transformers 4 found, by folder."""
    if not PYTHON.exists():
        pytest.fail("no environment of Transformers 4: run make test-older")
    root, tokenizer = tmp_path_factory.mktemp("older"), build_tokenizer()
    for family in FAMILIES:
        _saved(root / family.name, family, tokenizer)
        _converted(root / family.name, root / f"{family.name}-converted", family.name, tokenizer)
    for name in ("qwen2", "gemma3"):
        _golden(golden / name, root / f"golden-{name}")
    folders = [path for path in sorted(root.iterdir()) if (path / "texts.json").exists()]
    command = [PYTHON, HERE / "read_with_four.py", *folders]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("transformers") == FOUR
    return {Path(name).name: result for name, result in found.items()}


def _same(found):
    differences = {
        key: found.pop(key) for key in ("logits", "vectors") if found.get(key) is not None
    }
    assert found == {"missing": [], "unused": [], "tokenizers": ["PreTrainedTokenizerFast"] * 2}
    assert set(differences) == {"logits", "vectors"}
    assert max(differences.values()) < 1e-4, differences


@pytest.mark.invariant("older-1")
@pytest.mark.parametrize("name", NAMES)
def test_transformers_4_computes_what_save_av_and_save_ar_wrote(read, name):
    _same(read[name])


@pytest.mark.invariant("older-1")
@pytest.mark.parametrize("name", NAMES)
def test_transformers_4_computes_what_convert_wrote(read, name):
    _same(read[f"{name}-converted"])


@pytest.mark.invariant("older-1")
@pytest.mark.parametrize("name", ["qwen2", "gemma3"])
def test_transformers_4_computes_what_gloss_makes_of_the_references_own(read, name):
    _same(read[f"golden-{name}"])
