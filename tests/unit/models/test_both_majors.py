"""What Gloss saves says in Transformers 4's words too what Transformers 5 says in its own."""

import json

import pytest
from family_models import FAMILIES, family_model, text_side
from tiny_nla import make_ar, make_av

from gloss.models import save_ar, save_av
from gloss.models.both_majors import config_for_both, lost_in_4, tokenizer_config_for_both
from gloss.release.validate import validate
from gloss.target_model import load_tokenizer

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
WORDS = {
    "llama": (
        {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0},
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    ),
    "qwen2": (
        {"rope_theta": 1e6, "rope_type": "default"},
        {"rope_theta": 1e6, "rope_scaling": None},
    ),
    "gpt_oss": (
        {"rope_theta": 3e5, "rope_type": "default"},
        {"rope_theta": 3e5, "rope_scaling": None},
    ),
    "qwen3": ({"rope_theta": 7e5, **YARN}, {"rope_theta": 7e5, "rope_scaling": YARN}),
    "phi": (
        {"rope_theta": 3e4, "rope_type": "default", "partial_rotary_factor": 0.75},
        {"rope_theta": 3e4, "partial_rotary_factor": 0.75, "rope_scaling": None},
    ),
    "gpt_neox": (
        {"rope_theta": 3e4, "rope_type": "default", "partial_rotary_factor": 0.5},
        {"rotary_emb_base": 3e4, "rotary_pct": 0.5, "rope_scaling": None},
    ),
    "gemma3_text": (
        {
            "full_attention": {"rope_theta": 2e6, "rope_type": "linear", "factor": 8.0},
            "sliding_attention": {"rope_theta": 3e4, "rope_type": "default"},
        },
        {
            "rope_theta": 2e6,
            "rope_local_base_freq": 3e4,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    ),
    "phi3": (
        {
            "rope_theta": 5e4,
            "rope_type": "longrope",
            "short_factor": [1.5] * 4,
            "long_factor": [2.0] * 4,
        },
        {
            "rope_theta": 5e4,
            "rope_scaling": {
                "type": "longrope",
                "short_factor": [1.5] * 4,
                "long_factor": [2.0] * 4,
            },
        },
    ),
}


def _config(name, **changes):
    family = next(family for family in FAMILIES if family.name == name)
    return text_side(family_model(family, 64, **changes)).config


@pytest.mark.invariant("older-1")
@pytest.mark.parametrize("name", WORDS)
def test_rope_is_said_in_both_words(name):
    rope, words = WORDS[name]
    config = _config(name, rope_parameters=json.loads(json.dumps(rope)))
    both = config_for_both(config.to_dict())
    assert {key: both[key] for key in words} == words
    assert both["torch_dtype"] == both["dtype"]


@pytest.mark.parametrize("name", [family.name for family in FAMILIES])
def test_transformers_5_reads_the_same_config_from_both_words(name, tmp_path):
    from transformers import AutoConfig

    rope = {"rope_parameters": json.loads(json.dumps(WORDS[name][0]))} if name in WORDS else {}
    config = _config(name, **rope)
    config.save_pretrained(tmp_path)
    plain = AutoConfig.from_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config_for_both(json.loads(file.read_text()))))
    both = AutoConfig.from_pretrained(tmp_path)
    assert both.dtype == plain.dtype
    expected, found = plain.to_dict(), both.to_dict()
    if name == "phi3":
        assert found["rope_parameters"].pop("type") == found["rope_parameters"]["rope_type"]
    assert {key: found[key] for key in expected} == expected


def test_the_number_of_experts_has_the_older_name_too():
    both = config_for_both(_config("qwen3_moe").to_dict())
    assert both["num_experts"] == both["num_local_experts"] == 4


def test_the_text_model_of_a_wrapper_has_both_words():
    inner = {"model_type": "gemma3_text", "rope_parameters": WORDS["gemma3_text"][0]}
    both = config_for_both({"model_type": "gemma3", "text_config": inner})
    assert both["text_config"]["rope_local_base_freq"] == 3e4
    assert "rope_theta" not in both


def test_a_tokenizer_is_named_in_words_of_both():
    both = tokenizer_config_for_both(
        {
            "tokenizer_class": "TokenizersBackend",
            "backend": "tokenizers",
            "extra_special_tokens": ["<a>"],
            "model_specific_special_tokens": {"image_token": "<i>"},
            "eos_token": "<e>",
        }
    )
    assert both == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "additional_special_tokens": ["<a>"],
        "extra_special_tokens": {"image_token": "<i>"},
        "model_specific_special_tokens": {"image_token": "<i>"},
        "model_input_names": ["input_ids", "attention_mask"],
        "eos_token": "<e>",
    }
    assert tokenizer_config_for_both({"tokenizer_class": "GemmaTokenizer"})["tokenizer_class"] == (
        "GemmaTokenizer"
    )


@pytest.mark.invariant("older-1")
def test_what_is_saved_has_both_forms_and_the_same_tokens(lab_tokenizer, tmp_path):
    save_av(make_av(lab_tokenizer), tmp_path / "av")
    save_ar(make_ar(lab_tokenizer), tmp_path / "ar")
    for half in ("av", "ar"):
        assert lost_in_4(tmp_path / half) == []
        config = json.loads((tmp_path / half / "tokenizer_config.json").read_text("utf-8"))
        assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
        assert "extra_special_tokens" not in config
        loaded = load_tokenizer(tmp_path / half)
        assert loaded.extra_special_tokens == lab_tokenizer.extra_special_tokens
        text = "<|im_start|>user\nThe mood is calm. ㊗<|im_end|>"
        assert loaded.encode(text) == lab_tokenizer.encode(text)


LOSSES = {
    "config.json: rope_theta": ("config.json", {"rope_theta": 10_000.5}),
    "config.json: rope_scaling": ("config.json", {"rope_scaling": {"rope_type": "yarn"}}),
    "tokenizer_class TokenizersBackend": (
        "tokenizer_config.json",
        {"tokenizer_class": "TokenizersBackend"},
    ),
    "a list of extra_special_tokens": (
        "tokenizer_config.json",
        {"extra_special_tokens": ["<|im_start|>"]},
    ),
}


@pytest.mark.invariant("older-1")
@pytest.mark.parametrize("said", LOSSES)
def test_validate_names_what_transformers_4_would_lose(said, lab_tokenizer, tmp_path):
    save_av(make_av(lab_tokenizer), tmp_path)
    name, changes = LOSSES[said]
    file = tmp_path / name
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | changes), encoding="utf-8")
    (found,) = (f for f in validate(tmp_path).findings if f.check == "Transformers 4")
    assert found.status == "fail"
    assert said in found.says
    assert "gloss nla convert" in found.remedy
