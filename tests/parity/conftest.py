import pytest
from tiny_models import random_model

from gloss.contract import ModelSidecar, choose_marker
from gloss.models import ActivationReconstructor, ActivationVerbalizer

AV_TEMPLATE = "Explain the vector: <concept>{injection_char}</concept>"
AR_TEMPLATE = "<text>{explanation}</text> <activation>"


def sidecar(tokenizer, role, d_model=32, layer=2):
    return ModelSidecar(
        role=role,
        d_model=d_model,
        layer=layer,
        injection_scale=20.0 if role == "av" else None,
        mse_scale=d_model**0.5,
        marker=choose_marker(tokenizer, AV_TEMPLATE).marker,
        ar_suffix_ids=None,
        av_template=AV_TEMPLATE,
        ar_template=AR_TEMPLATE,
    )


@pytest.fixture(params=["qwen2", "llama"])
def av(request, lab_tokenizer):
    model = random_model(request.param, vocab_size=len(lab_tokenizer))
    return ActivationVerbalizer(model, lab_tokenizer, sidecar(lab_tokenizer, "av"))


@pytest.fixture(params=["qwen2", "llama"])
def ar(request, lab_tokenizer):
    model = random_model(request.param, vocab_size=len(lab_tokenizer))
    return ActivationReconstructor.from_target(
        model, 2, lab_tokenizer, sidecar(lab_tokenizer, "ar")
    )
