"""One small random model of every family that Gloss knows, each with what is special about it
switched on.

Sliding windows are shorter than the tests' prompts, d_model is not heads × head_dim where the
family allows it, and biases, soft caps and expert layers are on. ``FAMILIES`` is the table that the
compatibility list is made from."""

from dataclasses import dataclass
from typing import Any

import torch

D_MODEL, NUM_BLOCKS, LAYER, WINDOW = 32, 4, 2, 8
_COMMON = {
    "hidden_size": D_MODEL,
    "intermediate_size": 48,
    "num_hidden_layers": NUM_BLOCKS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
_MIXED = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 24, "num_experts": 4}


@dataclass(frozen=True)
class Family:
    """A family: its registry entry's ``model_type``, released models that belong to it, and how to
    build a small one.
    """

    name: str
    model_type: str
    models: str
    causal_lm: str
    settings: dict[str, Any]
    bare: frozenset[str] = frozenset()


def _family(name, models, causal_lm, *, model_type=None, bare=(), **settings):
    return Family(name, model_type or name, models, causal_lm, settings, frozenset(bare))


FAMILIES = (
    _family("llama", "Llama 2, 3", "LlamaForCausalLM"),
    _family(
        "qwen2",
        "Qwen2, Qwen2.5",
        "Qwen2ForCausalLM",
        use_sliding_window=True,
        sliding_window=WINDOW,
        max_window_layers=1,
    ),
    _family("qwen3", "Qwen3", "Qwen3ForCausalLM", head_dim=12),
    _family("gemma", "Gemma", "GemmaForCausalLM", head_dim=12),
    _family(
        "gemma2",
        "Gemma 2",
        "Gemma2ForCausalLM",
        head_dim=12,
        sliding_window=WINDOW,
        layer_types=_MIXED,
        final_logit_softcapping=3.0,
        attn_logit_softcapping=5.0,
        query_pre_attn_scalar=12,
    ),
    _family(
        "gemma3_text",
        "Gemma 3 (text)",
        "Gemma3ForCausalLM",
        head_dim=12,
        sliding_window=WINDOW,
        layer_types=_MIXED,
        query_pre_attn_scalar=12,
    ),
    _family("gemma3", "Gemma 3 (multimodal wrapper)", "Gemma3ForConditionalGeneration"),
    _family("mistral", "Mistral", "MistralForCausalLM", sliding_window=WINDOW, head_dim=12),
    _family("phi", "Phi-1.5, Phi-2", "PhiForCausalLM"),
    _family("phi3", "Phi-3, Phi-3.5, Phi-4", "Phi3ForCausalLM", sliding_window=WINDOW),
    _family(
        "gpt2",
        "GPT-2",
        "GPT2LMHeadModel",
        n_inner=48,
        n_positions=256,
        attn_pdrop=0.0,
        embd_pdrop=0.0,
        resid_pdrop=0.0,
        bare=("intermediate_size", "num_key_value_heads", "max_position_embeddings"),
    ),
    _family(
        "gpt_neox",
        "GPT-NeoX, Pythia",
        "GPTNeoXForCausalLM",
        rotary_pct=0.5,
        bare=("num_key_value_heads",),
    ),
    _family("olmo2", "OLMo 2", "Olmo2ForCausalLM"),
    _family("olmo3", "OLMo 3", "Olmo3ForCausalLM", sliding_window=WINDOW, layer_types=_MIXED),
    _family("mixtral", "Mixtral", "MixtralForCausalLM", num_local_experts=4, num_experts_per_tok=2),
    _family(
        "qwen3_moe",
        "Qwen3-MoE",
        "Qwen3MoeForCausalLM",
        head_dim=12,
        mlp_only_layers=[1, 3],
        **_EXPERTS,
    ),
    _family(
        "gpt_oss",
        "gpt-oss",
        "GptOssForCausalLM",
        head_dim=8,
        sliding_window=WINDOW,
        layer_types=_MIXED,
        num_local_experts=4,
        num_experts_per_tok=2,
    ),
)


def family_model(family: Family, vocab_size: int = 1024, *, seed: int = 0, **changes: Any) -> Any:
    """A random model of the family, in evaluation mode; ``changes`` override its settings."""
    import transformers

    torch.manual_seed(seed)
    model_class = getattr(transformers, family.causal_lm)
    settings = {
        key: value
        for key, value in (_COMMON | family.settings | changes).items()
        if key not in family.bare
    }
    settings["vocab_size"] = vocab_size
    if family.model_type == "gemma3":
        config = _wrapper_config(settings)
    else:
        config = model_class.config_class(**settings)
    model = model_class(config).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name or name.endswith("bias") or ".ln_" in name or "sinks" in name:
            torch.nn.init.normal_(parameter, mean=float(name.endswith("weight")), std=0.2)
    return model


def _wrapper_config(settings):
    from transformers import Gemma3Config

    text = FAMILIES[[family.name for family in FAMILIES].index("gemma3_text")].settings
    return Gemma3Config(
        text_config=settings | text,
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 8,
            "patch_size": 4,
        },
        mm_tokens_per_image=4,
        image_token_index=5,
        boi_token_index=6,
        eoi_token_index=7,
        initializer_range=0.2,
    )


def text_side(model: Any) -> Any:
    """The model itself; of a multimodal wrapper, a causal LM that shares its text model's
    weights.
    """
    if model.config.model_type != "gemma3":
        return model
    from transformers import Gemma3ForCausalLM

    text = Gemma3ForCausalLM(model.config.get_text_config())
    text.model, text.lm_head = model.model.language_model, model.lm_head
    return text.eval()
