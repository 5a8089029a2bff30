"""Short rows in bfloat16 on a CPU run with the eager attention; everything else keeps its kernel,
and results stay the same.
"""

import pytest
import torch
from family_models import FAMILIES, family_model
from tiny_models import random_model

from gloss.models import direction_mse
from gloss.target_model import backbone_of, capture_activations
from gloss.target_model.hooks import SHORT_ROW, kernel_for_short_rows


def model(dtype=torch.bfloat16, kernel="sdpa"):
    made = random_model(vocab_size=64, num_blocks=3, d_model=32).to(dtype)
    made.set_attn_implementation(kernel)
    return made


def used(backbone, num_tokens=8):
    """Whether the eager kernel is on inside the block, which must agree with what the block was
    told.
    """
    with kernel_for_short_rows(backbone, num_tokens) as told:
        assert told is (backbone.config._attn_implementation == "eager")
        return told


def test_only_short_rows_in_bfloat16_without_gradients_change_their_kernel():
    backbone = backbone_of(model())
    assert not used(backbone)  # gradients
    with torch.inference_mode():
        assert used(backbone)
        assert used(backbone, SHORT_ROW)
        assert not used(backbone, SHORT_ROW + 1)
        assert not used(backbone_of(model(torch.float32)))
        assert not used(backbone_of(model(torch.float16)))


def test_a_kernel_that_was_asked_for_stays():
    backbone = backbone_of(model(kernel="eager"))
    with torch.inference_mode(), kernel_for_short_rows(backbone, 8) as told:
        assert told is False
    assert backbone.config._attn_implementation == "eager"


def test_the_kernel_comes_back_after_an_error():
    backbone = backbone_of(model())
    with torch.inference_mode(), pytest.raises(RuntimeError), kernel_for_short_rows(backbone, 8):
        raise RuntimeError
    assert backbone.config._attn_implementation == "sdpa"


def test_activations_differ_by_rounding_only(monkeypatch):
    target = model()
    ids = torch.randint(2, 64, (3, 24), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        short = capture_activations(target, ids, None, 1)
        monkeypatch.setattr("gloss.target_model.hooks.SHORT_ROW", 0)
        whole = capture_activations(target, ids, None, 1)
        exact = capture_activations(target.float(), ids, None, 1)
    errors = [
        direction_mse(found.flatten(0, 1), exact.flatten(0, 1)).max() for found in (short, whole)
    ]
    assert errors[0] < 2 * errors[1]
    assert errors[0] < 1e-3


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_for_every_family_it_rounds_no_worse(family, monkeypatch):
    target = family_model(family).to(torch.bfloat16)
    ids = torch.randint(2, 900, (3, 24), generator=torch.Generator().manual_seed(0))

    def read():
        with torch.inference_mode():
            return capture_activations(target, ids, None, 2).flatten(0, 1).float()

    short = read()
    monkeypatch.setattr("gloss.target_model.hooks.SHORT_ROW", 0)
    whole = read()
    target = target.float()
    exact = read()
    errors = [float(direction_mse(found, exact).median()) for found in (short, whole)]
    assert errors[0] < 2 * errors[1] + 1e-5
    assert errors[0] < 1e-2
