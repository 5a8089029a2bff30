"""What passes through loading, what is refused, and what needs a package that is not installed."""

import importlib.util
import json

import pytest
import torch
from family_models import FAMILIES, family_model
from tiny_models import random_model
from transformers import BloomConfig, MambaConfig

from gloss.contract import ModelSidecar, choose_marker
from gloss.engines import LocalEngine
from gloss.errors import (
    ArchitectureError,
    CheckpointError,
    ConfigError,
    CorpusError,
    MissingExtraError,
    SidecarError,
)
from gloss.models import (
    ActivationReconstructor,
    ActivationVerbalizer,
    load_ar,
    load_av,
    save_ar,
    save_av,
)
from gloss.target_model import (
    architecture_of,
    backbone_of,
    blocks_of,
    capture_activations,
    load_target,
)

AV_TEMPLATE, AR_TEMPLATE = (
    "Explain: <concept>{injection_char}</concept>",
    "<text>{explanation}</text> <activation>",
)
IDS = torch.arange(10, 30).unsqueeze(0)


def _sidecar(tokenizer, role, d_model=32):
    return ModelSidecar(
        role=role,
        d_model=d_model,
        layer=2,
        injection_scale=20.0 if role == "av" else None,
        mse_scale=d_model**0.5,
        marker=choose_marker(tokenizer, AV_TEMPLATE).marker,
        ar_suffix_ids=None,
        av_template=AV_TEMPLATE,
        ar_template=AR_TEMPLATE,
    )


@pytest.fixture
def folder(tmp_path, lab_tokenizer):
    """A folder with ``target``, ``av`` and ``ar`` of one random Qwen2."""
    model = random_model(vocab_size=len(lab_tokenizer), d_model=64)
    model.save_pretrained(tmp_path / "target")
    lab_tokenizer.save_pretrained(tmp_path / "target")
    save_av(
        ActivationVerbalizer(model, lab_tokenizer, _sidecar(lab_tokenizer, "av", 64)),
        tmp_path / "av",
    )
    ar = ActivationReconstructor.from_target(
        model, 2, lab_tokenizer, _sidecar(lab_tokenizer, "ar", 64)
    )
    save_ar(ar, tmp_path / "ar")
    return tmp_path


def _loaders():
    return {
        "target": lambda folder, **options: load_target(folder / "target", **options).model,
        "av": lambda folder, **options: load_av(folder / "av", **options).model,
        "ar": lambda folder, **options: load_ar(folder / "ar", **options).backbone,
    }


@pytest.fixture(params=["target", "av", "ar"])
def load(request):
    return _loaders()[request.param]


def test_dtype_and_attention_kernel_pass_through(load, folder):
    model = load(folder, dtype="bfloat16", attn_implementation="eager")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.config._attn_implementation == "eager"
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training


@pytest.mark.filterwarnings("ignore:for weight")
def test_a_device_map_passes_through(load, folder):
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    model = load(folder, device_map={"": "meta"})
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def test_an_ar_takes_its_heads_number_format_from_the_option(folder):
    ar = load_ar(folder / "ar", dtype="bfloat16")
    assert ar.head.weight.dtype == torch.bfloat16
    assert torch.isfinite(ar.reconstruct(["The mood is calm."])).all()


@pytest.mark.parametrize(
    ("options", "package", "extra"),
    [
        ({"device_map": "auto"}, "accelerate", "accelerate"),
        ({"quantization": "bitsandbytes-4bit"}, "bitsandbytes", "bitsandbytes"),
        ({"quantization": "torchao-int8"}, "torchao", "torchao"),
        ({"adapter": "some/adapter"}, "peft", "lora"),
    ],
)
def test_a_missing_package_names_the_command_that_installs_it(
    load, folder, monkeypatch, options, package, extra
):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "gloss.target_model.loading.find_spec",
        lambda name, *rest: None if name == package else found(name, *rest),
    )
    with pytest.raises(
        MissingExtraError, match=rf"{package} is not installed.*pip install 'gloss-nla\[{extra}\]'"
    ):
        load(folder, **options)


def test_an_unknown_quantization_is_refused(load, folder):
    with pytest.raises(ConfigError, match=r"unknown quantization.*torchao-int8"):
        load(folder, quantization="3bit")


def _quantised_by_transformers(folder, quantization):
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TorchAoConfig

    if quantization == "torchao-int8":
        from torchao.quantization import Int8WeightOnlyConfig

        config = TorchAoConfig(Int8WeightOnlyConfig())
    else:
        config = BitsAndBytesConfig(
            load_in_8bit=quantization.endswith("8bit"), load_in_4bit=quantization.endswith("4bit")
        )
    return AutoModelForCausalLM.from_pretrained(
        folder / "target", dtype=torch.float32, quantization_config=config, device_map="cpu"
    )


@pytest.mark.parametrize("quantization", ["bitsandbytes-8bit", "bitsandbytes-4bit", "torchao-int8"])
def test_quantised_weights_give_what_transformers_gives(load, folder, quantization):
    pytest.importorskip(
        quantization.split("-")[0], reason=f"{quantization.split('-')[0]} is not installed"
    )
    models = (
        load(folder, quantization=quantization),
        _quantised_by_transformers(folder, quantization),
        load(folder),
    )
    with torch.inference_mode():
        found, expected, plain = (capture_activations(model, IDS, None, 2) for model in models)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (found - plain).abs().max() > 1e-2


def test_a_quantization_config_of_transformers_passes_through(load, folder):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    from transformers import BitsAndBytesConfig

    model = load(
        folder,
        quantization=BitsAndBytesConfig(
            load_in_8bit=True, llm_int8_skip_modules=["q_proj", "lm_head"]
        ),
    )
    kinds = {
        name: type(module).__name__
        for name, module in blocks_of(model)[0].self_attn.named_modules()
    }
    assert (kinds["q_proj"], kinds["k_proj"]) == ("Linear", "Linear8bitLt")


def test_a_quantised_pair_explains_and_reconstructs(folder):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    av, ar = (
        load(folder / half, quantization="bitsandbytes-8bit")
        for load, half in ((load_av, "av"), (load_ar, "ar"))
    )
    rollouts = LocalEngine(av).generate(torch.randn(2, 64), temperature=0, max_new_tokens=4, seed=0)
    assert torch.isfinite(ar.reconstruct([rollout.text or "x" for rollout in rollouts])).all()


def _adapter(model, path):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = get_peft_model(model, config).eval()
    adapted.save_pretrained(path)
    return adapted


def test_a_lora_adapter_passes_through(load, folder):
    pytest.importorskip("peft", reason="peft is not installed")
    plain, adapted = load(folder), _adapter(load(folder), folder / "adapter")
    loaded = load(folder, adapter=folder / "adapter")
    assert blocks_of(adapted) is blocks_of(adapted.get_base_model())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    with torch.inference_mode():
        expected = capture_activations(adapted, IDS, None, 2)
        assert (capture_activations(plain, IDS, None, 2) - expected).abs().max() > 1e-2
        torch.testing.assert_close(capture_activations(loaded, IDS, None, 2), expected)


def test_an_av_with_an_adapter_writes_saves_and_loads_as_an_adapter(folder, lab_tokenizer):
    pytest.importorskip("peft", reason="peft is not installed")
    _adapter(load_target(folder / "target").model, folder / "adapter")
    target = load_target(folder / "target", adapter=folder / "adapter")
    av = ActivationVerbalizer(target.model, lab_tokenizer, _sidecar(lab_tokenizer, "av", 64))
    save_av(av, folder / "lora-av")
    assert not (folder / "lora-av/model.safetensors").exists()
    activations = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    one, other = (
        LocalEngine(half).generate(activations, temperature=0, max_new_tokens=8, seed=0)
        for half in (av, load_av(folder / "lora-av"))
    )
    assert [r.token_ids for r in one] == [r.token_ids for r in other]


def test_an_ar_with_an_adapter_is_not_saved_in_pieces(folder):
    pytest.importorskip("peft", reason="peft is not installed")
    _adapter(load_ar(folder / "ar").backbone, folder / "adapter")
    with pytest.raises(CheckpointError, match="Merge the adapter"):
        save_ar(load_ar(folder / "ar", adapter=folder / "adapter"), folder / "again")


def test_weights_that_are_not_safetensors_are_refused(load, folder):
    for half in ("target", "av", "ar"):
        (folder / half / "model.safetensors").unlink()
        torch.save({}, folder / half / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="safetensors only"):
        load(folder)


def test_missing_weights_are_refused_and_not_made_up(load, folder):
    from safetensors.torch import load_file, save_file

    for half in ("target", "av", "ar"):
        file = folder / half / "model.safetensors"
        weights = {
            name: value
            for name, value in load_file(file).items()
            if "layers.1.mlp.up_proj" not in name
        }
        save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"weights are missing.*layers\.1\.mlp\.up_proj"):
        load(folder)


def test_a_models_own_code_does_not_run_unless_it_is_asked_for(load, folder, lab_tokenizer):
    for half in ("target", "av", "ar"):
        config = json.loads((folder / half / "config.json").read_text())
        config |= {
            "model_type": "own",
            "auto_map": {
                "AutoConfig": "own.C",
                "AutoModel": "own.M",
                "AutoModelForCausalLM": "own.M",
            },
        }
        (folder / half / "config.json").write_text(json.dumps(config))
        (folder / half / "own.py").write_text(
            f"open({str(folder / 'ran')!r}, 'w')\nraise OSError('it ran')"
        )
    with pytest.raises(CheckpointError, match="trust_remote_code=True if you trust it"):
        load(folder)
    assert not (folder / "ran").exists()
    with pytest.raises(CheckpointError, match="it ran"):
        load(folder, trust_remote_code=True)
    assert (folder / "ran").exists()


def test_unknown_family_shows_the_entry_to_add():
    with pytest.raises(ArchitectureError, match=r"Add `Architecture\('mamba', backbone=…"):
        architecture_of("mamba")
    with pytest.raises(
        ArchitectureError,
        match=r"Architecture\('bloom', backbone='transformer', blocks='h', final_norm='ln_f'\)",
    ):
        architecture_of("bloom", config=BloomConfig(n_layer=3, hidden_size=16, n_head=2))
    with pytest.raises(
        ArchitectureError,
        match=r"Architecture\('mamba', backbone='backbone', final_norm='norm_f'\)",
    ):
        architecture_of("mamba", config=MambaConfig(num_hidden_layers=3, hidden_size=16))


def test_the_shown_entry_is_the_registrys_own_for_families_it_knows(monkeypatch):
    """The guess is right wherever it can be checked, so it is worth printing."""
    import gloss.target_model.architectures as architectures

    known = dict(architectures._REGISTRY)
    monkeypatch.setattr(architectures, "_REGISTRY", {})
    for family in FAMILIES:
        config = family_model(family).config
        with pytest.raises(ArchitectureError) as caught:
            architectures.architecture_of(family.model_type, config=config)
        entry = eval(str(caught.value).split("`")[1], {"Architecture": architectures.Architecture})
        places = [
            (each.backbone, each.blocks, each.final_norm)
            for each in (entry, known[family.model_type])
        ]
        assert places[0] == places[1]


def test_an_unknown_family_on_disk_is_refused_before_its_weights_are_read(tmp_path):
    BloomConfig(n_layer=3, hidden_size=16, n_head=2).save_pretrained(tmp_path)
    with pytest.raises(ArchitectureError, match=r"Architecture\('bloom', backbone='transformer'"):
        load_target(tmp_path)


def _gpt2(lab_tokenizer, positions):
    (family,) = (family for family in FAMILIES if family.name == "gpt2")
    return family_model(family, len(lab_tokenizer), n_positions=positions)


def test_a_learned_table_of_positions_is_never_overrun(lab_tokenizer):
    av = ActivationVerbalizer(
        _gpt2(lab_tokenizer, 64), lab_tokenizer, _sidecar(lab_tokenizer, "av")
    )
    prompt, activation = len(av.prefix_ids) + len(av.tail_ids), torch.ones(1, 32)
    assert (
        len(LocalEngine(av).generate(activation, temperature=0, max_new_tokens=64 - prompt, seed=0))
        == 1
    )
    with pytest.raises(
        ArchitectureError, match=f"table of positions: expected at most 64, found {prompt + 100}"
    ):
        LocalEngine(av).generate(activation, temperature=0, max_new_tokens=100, seed=0)
    with pytest.raises(ArchitectureError, match="table of positions"):
        capture_activations(av.model, torch.zeros(1, 65, dtype=torch.long), None, 1)
    ar = ActivationReconstructor.from_target(
        av.model, 2, lab_tokenizer, _sidecar(lab_tokenizer, "ar")
    )
    with pytest.raises(CorpusError, match="explanation 0: too long for the AR"):
        ar.reconstruct(["The mood is calm. " * 40])


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "llama"])
def test_base_models_without_chat_template_bos_or_pad_token_explain_and_reconstruct(
    name, lab_tokenizer, tmp_path
):
    lab_tokenizer.save_pretrained(tmp_path)
    tokenizer = type(lab_tokenizer).from_pretrained(tmp_path)
    tokenizer.chat_template, tokenizer.pad_token = None, None
    (family,) = (family for family in FAMILIES if family.name == name)
    model = family_model(family, len(tokenizer))
    av = ActivationVerbalizer(model, tokenizer, _sidecar(tokenizer, "av"))
    assert tokenizer.decode(av.prefix_ids + av.tail_ids) == AV_TEMPLATE.replace(
        "{injection_char}", av.marker.char
    )
    rollouts = LocalEngine(av).generate(torch.randn(4, 32), temperature=0, max_new_tokens=6, seed=0)
    assert len(rollouts) == 4
    ar = ActivationReconstructor.from_target(model, 2, tokenizer, _sidecar(tokenizer, "ar"))
    texts = ["x", "The mood is calm, and it rains."]
    torch.testing.assert_close(
        ar.reconstruct(texts), torch.cat([ar.reconstruct([text]) for text in texts])
    )


def test_an_av_without_a_stop_token_is_refused(lab_tokenizer, tmp_path):
    lab_tokenizer.save_pretrained(tmp_path)
    tokenizer = type(lab_tokenizer).from_pretrained(tmp_path)
    sidecar = _sidecar(tokenizer, "av")
    tokenizer.eos_token = None
    with pytest.raises(SidecarError, match="no end-of-text token"):
        ActivationVerbalizer(random_model(vocab_size=len(tokenizer)), tokenizer, sidecar)


def test_generation_also_stops_where_the_models_generation_config_says(lab_tokenizer):
    model = random_model(vocab_size=len(lab_tokenizer))
    turn_end = lab_tokenizer.convert_tokens_to_ids("<|endoftext|>")
    av = ActivationVerbalizer(model, lab_tokenizer, _sidecar(lab_tokenizer, "av"))
    model.generation_config.eos_token_id = [turn_end, 500]
    assert av.stop_ids == (av.stop_id, turn_end), (
        "a token that is no special token does not end a response"
    )
    bias = torch.zeros(len(lab_tokenizer))
    bias[turn_end] = 100.0
    model.lm_head.bias = torch.nn.Parameter(bias)
    rollout = LocalEngine(av).generate(torch.ones(1, 32), temperature=0, max_new_tokens=8, seed=0)[
        0
    ]
    assert (rollout.token_ids, rollout.text, rollout.finished) == ((turn_end,), "", True)


def test_the_backbone_of_a_backbone_is_itself():
    backbone = backbone_of(random_model())
    assert backbone_of(backbone) is backbone
