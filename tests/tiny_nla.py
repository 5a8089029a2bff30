"""A small AV and AR over a random Qwen2, and a tokenizer that adds a BOS."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

from tiny_models import random_model

from gloss.contract import ModelSidecar, choose_marker
from gloss.models import ActivationReconstructor, ActivationVerbalizer

D_MODEL, NUM_BLOCKS, LAYER, SCALE = 32, 4, 2, 20.0
AV_TEMPLATE = "Explain the vector: <concept>{injection_char}</concept>"
AR_TEMPLATE = "<text>{explanation}</text> <activation>"
BOS = "<|endoftext|>"


def nla_sidecar(tokenizer: Any, role: str, **changes: Any) -> ModelSidecar:
    sidecar = ModelSidecar(
        role=role,
        d_model=D_MODEL,
        layer=LAYER,
        injection_scale=SCALE if role == "av" else None,
        mse_scale=D_MODEL**0.5,
        marker=choose_marker(tokenizer, AV_TEMPLATE).marker,
        ar_suffix_ids=None,
        av_template=AV_TEMPLATE,
        ar_template=AR_TEMPLATE,
    )
    return replace(sidecar, **changes)


def make_av(tokenizer: Any, *, seed: int = 0, **changes: Any) -> ActivationVerbalizer:
    model = random_model(vocab_size=len(tokenizer), num_blocks=NUM_BLOCKS, seed=seed)
    return ActivationVerbalizer(model.requires_grad_(False), tokenizer, nla_sidecar(tokenizer, "av", **changes))


def make_ar(tokenizer: Any, *, layer: int = LAYER, **changes: Any) -> ActivationReconstructor:
    model = random_model(vocab_size=len(tokenizer), num_blocks=NUM_BLOCKS)
    sidecar = nla_sidecar(tokenizer, "ar", layer=layer, **changes)
    return ActivationReconstructor.from_target(model, layer, tokenizer, sidecar).requires_grad_(False)


def with_bos(tokenizer: Any) -> Any:
    """A copy that puts a BOS before every text, as Gemma's and Llama's do."""
    from tokenizers import processors

    copied = deepcopy(tokenizer)
    copied.bos_token = BOS
    copied.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, copied.convert_tokens_to_ids(BOS))]
    )
    return copied
