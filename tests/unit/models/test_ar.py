import pytest
import torch
from tiny_models import random_model
from tiny_nla import AR_TEMPLATE, D_MODEL, NUM_BLOCKS, make_ar, with_bos

from gloss.contract import fill
from gloss.errors import SidecarError, TemplateError
from gloss.target_model import blocks_of, capture_activations

TEXTS = [
    "The mood is calm.",
    "Ada is here, and it rains at the harbor.\nSet at dawn.",
    "x",
    "{explanation} {0}",
]


def _target(tokenizer):
    model = random_model(vocab_size=len(tokenizer), num_blocks=NUM_BLOCKS)
    with torch.no_grad():
        model.model.norm.weight.copy_(torch.linspace(0.5, 2, D_MODEL))
    return model


@pytest.mark.invariant("9")
@pytest.mark.parametrize("layer", range(NUM_BLOCKS))
def test_a_fresh_ar_of_layer_k_gives_the_output_of_block_k_at_the_prompts_last_token(
    layer, lab_tokenizer
):
    ar, target = make_ar(lab_tokenizer, layer=layer), _target(lab_tokenizer)
    assert len(blocks_of(ar.backbone)) == layer + 1
    for text in TEXTS:
        ids = torch.tensor(ar.encode([text]))
        with torch.inference_mode():
            expected = capture_activations(target, ids, None, layer)[:, -1]
        torch.testing.assert_close(ar([text]), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.invariant("last-block")
def test_an_ar_of_the_last_block_has_no_final_norm(lab_tokenizer):
    ar, target = make_ar(lab_tokenizer, layer=NUM_BLOCKS - 1), _target(lab_tokenizer)
    ids = torch.tensor(ar.encode([TEXTS[0]]))
    with torch.inference_mode():
        normed = target(ids, output_hidden_states=True).hidden_states[-1][:, -1]
        torch.testing.assert_close(target.model.norm(ar([TEXTS[0]])), normed, atol=1e-5, rtol=1e-5)
    root_mean_square = float(ar([TEXTS[0]]).square().mean().sqrt())
    assert abs(root_mean_square - 1) > 0.1


@pytest.mark.invariant("identity-head")
def test_a_fresh_head_is_the_identity_without_bias(lab_tokenizer):
    head = make_ar(lab_tokenizer).head
    assert torch.equal(head.weight, torch.eye(D_MODEL))
    assert head.bias is None


@pytest.mark.invariant("8")
def test_the_ar_reads_the_last_real_token_whatever_stands_in_the_padding(lab_tokenizer):
    ar = make_ar(lab_tokenizer)
    alone = torch.cat([ar([text]) for text in TEXTS])
    for pad_id in (0, 5, 300):
        ar.pad_id = pad_id
        torch.testing.assert_close(ar(TEXTS), alone, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ar.reconstruct(TEXTS, batch_size=2), alone, atol=1e-4, rtol=1e-4)


def test_reconstructions_come_back_in_the_order_of_their_texts(lab_tokenizer):
    ar = make_ar(lab_tokenizer)
    forwards = ar.reconstruct(TEXTS, batch_size=1)
    torch.testing.assert_close(ar.reconstruct(TEXTS[::-1], batch_size=1).flip(0), forwards)
    assert (forwards[0] - forwards[1]).norm() > 1e-2


@pytest.mark.invariant("6")
def test_an_ar_prompt_has_exactly_one_bos(lab_tokenizer):
    tokenizer = with_bos(lab_tokenizer)
    ar = make_ar(tokenizer)
    for row in (
        *ar.encode(TEXTS),
        *ar.encode_prompts([fill(AR_TEMPLATE, explanation=text) for text in TEXTS]),
    ):
        assert row[0] == tokenizer.bos_token_id
        assert row.count(tokenizer.bos_token_id) == 1
    assert lab_tokenizer.bos_token_id is None
    assert ar.encode([TEXTS[0]])[0][1:] == make_ar(lab_tokenizer).encode([TEXTS[0]])[0]


@pytest.mark.invariant("10")
def test_a_datasets_prompts_and_the_models_own_template_give_the_same_ids(lab_tokenizer):
    ar = make_ar(lab_tokenizer)
    assert ar.encode(TEXTS) == ar.encode_prompts(
        [fill(AR_TEMPLATE, explanation=text) for text in TEXTS]
    )


@pytest.mark.invariant("10")
def test_the_template_is_part_of_the_model(lab_tokenizer):
    other = make_ar(lab_tokenizer, ar_template="{explanation} <activation>")
    difference = (make_ar(lab_tokenizer)(TEXTS) - other(TEXTS)).norm(dim=1)
    assert difference.min() > 1e-2
    with pytest.raises(SidecarError, match="needs an AR template"):
        make_ar(lab_tokenizer, ar_template=None)


@pytest.mark.invariant("10")
@pytest.mark.parametrize(
    "prompt", ["The mood is calm.", "<text>The mood is calm.</text> then", "<text></text> <activ"]
)
def test_prompts_of_another_template_are_refused(prompt, lab_tokenizer):
    ar = make_ar(lab_tokenizer)
    with pytest.raises(TemplateError, match="of another template"):
        ar.encode_prompts([fill(AR_TEMPLATE, explanation="fine"), prompt])
    assert len(ar.encode_prompts([fill(AR_TEMPLATE, explanation="")])) == 1
