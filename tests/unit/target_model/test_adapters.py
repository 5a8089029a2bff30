"""Adapters: each weight of the file reaches its place, whatever wrapper named it, or is refused."""

import json
import shutil

import pytest
import torch
from family_models import FAMILIES, family_model
from safetensors.torch import load_file, save_file
from tiny_models import random_model
from tiny_nla import write_nla

from gloss.errors import CheckpointError
from gloss.models import load_ar
from gloss.target_model import backbone_of, load_target

pytest.importorskip("peft", reason="peft is not installed")
IDS = torch.arange(20, 36)[None]


def trained_adapter(model, folder, **settings):
    """Logits of a model with a LoRA adapter that changes them, written as peft writes it."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    config = LoraConfig(**{"r": 3, "target_modules": ["k_proj", "o_proj"], **settings})
    adapted = get_peft_model(model, config).eval()
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name or "magnitude" in name or "modules_to_save" in name:
                weight.add_(0.2 * torch.randn(weight.shape))
    adapted.save_pretrained(folder)
    return logits(adapted)


def logits(model):
    with torch.inference_mode():
        return model(IDS).logits


def rename(folder, change):
    file = folder / "adapter_model.safetensors"
    weights = {change(name): value for name, value in load_file(file).items()}
    save_file({name: value for name, value in weights.items() if name}, file, {"format": "pt"})


@pytest.fixture
def base(tmp_path, lab_tokenizer):
    random_model(vocab_size=len(lab_tokenizer)).save_pretrained(tmp_path / "base")
    lab_tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.invariant("loading-1")
@pytest.mark.parametrize(
    "change",
    [
        lambda name: name,
        lambda name: name.replace(".layers", "._orig_mod.layers"),
        lambda name: name.replace(".mlp", "._checkpoint_wrapped_module.mlp").replace(
            "layers.2.", "layers.2._fsdp_wrapped_module._checkpoint_wrapped_module."
        ),
        lambda name: name.replace("base_model.model.", "base_model.model.module."),
        lambda name: name.replace("model.model.model.", "model.model."),
        lambda name: name.replace("model.model.model.", "model.model.language_model.model."),
        lambda name: name.replace("model.model.model.", "model.model.model.language_model."),
    ],
    ids=["peft", "compile", "fsdp", "ddp", "backbone", "old wrapper", "new wrapper"],
)
def test_names_of_wrappers_lead_to_the_models_own_places(base, tmp_path, change):
    expected = trained_adapter(load_target(base).model, tmp_path / "lora")
    rename(tmp_path / "lora", change)
    assert (logits(load_target(base).model) - expected).abs().max() > 1e-2
    same(logits(load_target(base, adapter=tmp_path / "lora").model), expected)


@pytest.mark.invariant("loading-1")
@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True},
        {"use_rslora": True, "lora_alpha": 32},
        {"modules_to_save": ["lm_head", "norm"]},
        {"rank_pattern": {"k_proj": 5}, "alpha_pattern": {r"layers\.1\.self_attn\.o_proj": 40}},
        {"target_modules": r".*layers\.[02]\..*(gate|v)_proj", "lora_bias": True},
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"layers_to_transform": [1, 3]},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_every_kind_of_lora_gives_what_peft_gives(base, tmp_path, settings):
    expected = trained_adapter(load_target(base).model, tmp_path / "lora", **settings)
    same(logits(load_target(base, adapter=tmp_path / "lora").model), expected)


@pytest.mark.invariant("loading-1")
@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda name: "" if "layers.3" in name else name, "file lacks weights.*layers.3"),
        (lambda name: name.replace("layers.2", "layers.7"), "4 of 16 weights have no place"),
        (lambda name: name.replace("k_proj", "key"), "8 of 16 weights have no place"),
        (lambda name: f"other.{name}", "16 of 16 weights have no place"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(base, tmp_path, change, line):
    trained_adapter(load_target(base).model, tmp_path / "lora")
    rename(tmp_path / "lora", change)
    with pytest.raises(CheckpointError, match=line):
        load_target(base, adapter=tmp_path / "lora")


@pytest.mark.invariant("loading-1")
def test_an_adapter_of_another_width_kind_or_with_nan_is_refused(base, tmp_path, lab_tokenizer):
    wide = random_model(vocab_size=len(lab_tokenizer), d_model=48)
    trained_adapter(wide, tmp_path / "wide")
    with pytest.raises(CheckpointError, match="does not fit its base"):
        load_target(base, adapter=tmp_path / "wide")
    trained_adapter(load_target(base).model, tmp_path / "lora")
    file = tmp_path / "lora/adapter_model.safetensors"
    weights = load_file(file)
    next(iter(weights.values()))[0, 0] = float("nan")
    save_file(weights, file)
    with pytest.raises(CheckpointError, match="hold NaN or infinity"):
        load_target(base, adapter=tmp_path / "lora")
    config = tmp_path / "lora/adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"peft_type": "IA3"}))
    with pytest.raises(CheckpointError, match=r"not a LoRA adapter|cannot be read"):
        load_target(base, adapter=tmp_path / "lora")


@pytest.mark.invariant("loading-1")
@pytest.mark.parametrize("targets", [["q_proj", "up_proj"], r".*language_model.*(q|up)_proj"])
def test_a_gemma_adapter_trained_on_the_wrapper_reaches_its_text_model(
    tmp_path, lab_tokenizer, targets
):
    (family,) = (family for family in FAMILIES if family.name == "gemma3")
    wrapper = family_model(family, len(lab_tokenizer))
    wrapper.save_pretrained(tmp_path / "wrapper")
    lab_tokenizer.save_pretrained(tmp_path / "wrapper")
    plain = logits(wrapper)
    alpha = {"model.language_model.layers.1.self_attn.q_proj": 64}
    expected = trained_adapter(
        wrapper, tmp_path / "lora", target_modules=targets, alpha_pattern=alpha
    )
    assert (expected - plain).abs().max() > 1e-2
    same(logits(load_target(tmp_path / "wrapper", adapter=tmp_path / "lora").model), expected)
    config = tmp_path / "lora/adapter_config.json"
    base = {"base_model_name_or_path": str(tmp_path / "wrapper")}
    config.write_text(json.dumps(json.loads(config.read_text()) | base))
    same(logits(load_target(tmp_path / "lora").model), expected)


@pytest.mark.invariant("loading-1")
def test_an_ar_takes_an_adapter_of_the_whole_model_as_far_as_it_reaches(tmp_path, lab_tokenizer):
    nla_folder = write_nla(tmp_path / "nla", lab_tokenizer)
    whole = load_target(nla_folder / "target").model
    settings = {"target_modules": ["k_proj", "o_proj"], "modules_to_save": ["lm_head"]}
    trained_adapter(whole, tmp_path / "lora", **settings)
    ar = load_ar(nla_folder / "ar", adapter=tmp_path / "lora")
    for number, block in enumerate(backbone_of(ar.backbone).layers):
        taken = block.self_attn.k_proj.lora_B["default"].weight
        given = whole.model.layers[number].self_attn.k_proj.lora_B["default"].weight
        torch.testing.assert_close(taken, given)
    plain = load_ar(nla_folder / "ar").reconstruct(["It rains."])
    assert (ar.reconstruct(["It rains."]) - plain).abs().max() > 1e-3
    depth = len(backbone_of(ar.backbone).layers)
    rename(tmp_path / "lora", lambda n: n if f"layers.{depth}." in n or "lm_head" in n else "")
    with pytest.raises(CheckpointError, match="the adapter does not fit its base"):
        load_ar(nla_folder / "ar", adapter=tmp_path / "lora")


@pytest.mark.invariant("loading-1")
def test_pickled_adapter_weights_are_not_read(base, tmp_path):
    trained_adapter(load_target(base).model, tmp_path / "lora")
    file = tmp_path / "lora/adapter_model.safetensors"
    shutil.move(file, file.with_suffix(".bin"))
    with pytest.raises(CheckpointError, match="no adapter weights in safetensors"):
        load_target(base, adapter=tmp_path / "lora")
