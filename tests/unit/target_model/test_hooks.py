import pytest
import torch
from tiny_models import random_model

from gloss.errors import ArchitectureError
from gloss.target_model import (
    architecture_of,
    blocks_of,
    capture_activations,
    edit_residual,
    last_block_at,
    truncate_blocks,
)
from gloss.target_model.architectures import backbone_of


@pytest.mark.invariant("15")
@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_activation_k_is_hidden_state_k_plus_one(family):
    model = random_model(family)
    ids = torch.randint(0, 1024, (3, 11), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        hidden = model(ids, output_hidden_states=True).hidden_states
        for layer in range(3):
            torch.testing.assert_close(
                capture_activations(model, ids, None, layer), hidden[layer + 1]
            )


@pytest.mark.invariant("last-block")
def test_last_block_is_captured_before_the_final_norm():
    model = random_model()
    ids = torch.arange(8).unsqueeze(0)
    with torch.inference_mode():
        hidden = model(ids, output_hidden_states=True).hidden_states[-1]
        captured = capture_activations(model, ids, None, 3)
    torch.testing.assert_close(model.model.norm(captured), hidden)
    assert (captured - hidden).abs().max() > 1e-2


def test_capture_runs_exactly_k_plus_one_blocks():
    model, ran = random_model(), []
    for index, block in enumerate(blocks_of(model)):
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
    capture_activations(model, torch.arange(5).unsqueeze(0), None, 1)
    assert ran == [0, 1]
    assert not any(len(block._forward_hooks) > 1 for block in blocks_of(model))


@pytest.mark.invariant("8")
def test_right_padding_does_not_change_activations():
    model = random_model()
    ids = torch.randint(0, 1024, (1, 9), generator=torch.Generator().manual_seed(1))
    padded = torch.cat([ids, torch.zeros(1, 6, dtype=torch.long)], dim=1)
    mask = torch.tensor([[1] * 9 + [0] * 6])
    with torch.inference_mode():
        alone = capture_activations(model, ids, None, 2)
        torch.testing.assert_close(
            capture_activations(model, padded, mask, 2)[:, :9], alone, atol=1e-5, rtol=1e-5
        )


def test_edit_reaches_later_blocks_and_is_removed_afterwards():
    model = random_model()
    ids = torch.arange(6).unsqueeze(0)
    with torch.inference_mode():
        before = model(ids).logits
        with edit_residual(model, 1, lambda hidden: hidden + 1):
            during = model(ids).logits
        after = model(ids).logits
    assert (during - before).abs().max() > 1e-2
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_last_block_at_chosen_tokens_keeps_their_output_and_all_gradients(family):
    model = random_model(family).model
    parameters = list(model.parameters())
    ids = torch.randint(0, 1024, (3, 7), generator=torch.Generator().manual_seed(2))
    columns = torch.tensor([6, 2, 4])

    def read():
        return model(input_ids=ids, use_cache=False).last_hidden_state[torch.arange(3), columns]

    whole = read()
    ran = []
    handle = blocks_of(model)[-1].mlp.register_forward_hook(
        lambda _module, inputs, _output: ran.append(inputs[0].shape)
    )
    with last_block_at(model, columns):
        narrow = read()
    handle.remove()
    assert ran == [(3, 1, 32)]
    torch.testing.assert_close(narrow, whole)
    weights = torch.randn(whole.shape, generator=torch.Generator().manual_seed(3))
    expected = torch.autograd.grad((whole * weights).sum(), parameters)
    for one, other in zip(
        torch.autograd.grad((narrow * weights).sum(), parameters), expected, strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert torch.equal(read(), whole)


@pytest.mark.parametrize("layer", [-1, 4])
def test_a_layer_that_does_not_exist_is_refused(layer):
    with pytest.raises(ArchitectureError, match="no such layer"):
        capture_activations(random_model(), torch.arange(3).unsqueeze(0), None, layer)


def test_unknown_family_shows_the_entry_to_add():
    with pytest.raises(ArchitectureError, match=r"Architecture\('mamba'"):
        architecture_of("mamba")


def test_truncation_shortens_per_block_config_lists():
    model = random_model()
    truncate_blocks(backbone_of(model), 3)
    assert (
        len(blocks_of(model))
        == 3
        == model.config.num_hidden_layers
        == len(model.config.layer_types)
    )
