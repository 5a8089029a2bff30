"""The shared prefix against whole sequences, padded batches against single items."""

import pytest
import torch

from gloss.models import (
    GatheringPrefix,
    autocast,
    fitted_chunks,
    linear_weights_cast_once,
    right_pad,
)
from gloss.models.injection import inject
from gloss.train.grpo import policy_loss
from gloss.train.sft import av_sft_loss

RESPONSES = ["The mood is calm.", "Ada is here, and it rains at the harbor.\nSet at dawn.", "x"]


def _activations(n=3):
    return torch.randn(n, 32, generator=torch.Generator().manual_seed(0))


def _full_logprobs(av, activations, responses):
    """One whole sequence at a time: prompt, injected, then the response; no prefix, no padding."""
    rows = []
    for activation, response in zip(activations, responses, strict=True):
        prompt = torch.tensor([av.prefix_ids + av.tail_ids])
        embedded = inject(
            av.embedding(prompt),
            prompt,
            activation.unsqueeze(0),
            marker=av.marker,
            injection_scale=av.sidecar.injection_scale,
        )
        ids = torch.tensor([[*av.tokenizer.encode(response, add_special_tokens=False), av.stop_id]])
        logits = av.model(inputs_embeds=torch.cat([embedded, av.embedding(ids)], dim=1)).logits
        predicted = logits[0, prompt.shape[1] - 1 : -1].log_softmax(-1)
        rows.append(predicted[torch.arange(ids.shape[1]), ids[0]])
    return torch.cat(rows)


def test_shared_prefix_gives_the_log_probabilities_of_whole_sequences(av):
    ids, mask = av.encode_responses(RESPONSES)
    with torch.no_grad():
        shared = av.response_logprobs(_activations(), ids, mask)
        torch.testing.assert_close(
            shared, _full_logprobs(av, _activations(), RESPONSES), atol=2e-5, rtol=1e-5
        )


def test_shared_prefix_gives_the_gradients_of_whole_sequences(av):
    ids, mask = av.encode_responses(RESPONSES)
    parameters = [p for p in av.model.parameters() if p.requires_grad]
    shared = torch.autograd.grad(av.response_logprobs(_activations(), ids, mask).sum(), parameters)
    full = torch.autograd.grad(_full_logprobs(av, _activations(), RESPONSES).sum(), parameters)
    for one, other in zip(shared, full, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=2e-4)


def _assert_gradients_close(ours, full):
    for one, other in zip(ours, full, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=2e-4)


def test_av_step_of_mixed_lengths_has_the_gradients_of_whole_sequences(av):
    parameters = list(av.model.parameters())
    rows = [
        [*av.tokenizer.encode(text, add_special_tokens=False), av.stop_id] for text in RESPONSES
    ]
    total = sum(map(len, rows))
    shared = torch.autograd.grad(av_sft_loss(av, _activations(), rows, total), parameters)
    full = torch.autograd.grad(
        -_full_logprobs(av, _activations(), RESPONSES).sum() / total, parameters
    )
    _assert_gradients_close(shared, full)


def test_grpo_update_of_mixed_lengths_in_chunks_has_the_gradients_of_whole_sequences(av):
    parameters = list(av.model.parameters())
    advantages = torch.tensor([1.0, -0.5, 2.0])

    def loss(logprobs, lengths, picked):
        return policy_loss(
            logprobs,
            logprobs.detach() - 0.3,
            advantages[picked].repeat_interleave(lengths),
            kl_weight=0.5,
        ).sum()

    ids, mask = av.encode_responses(RESPONSES)
    lengths = mask.sum(dim=1)
    prefix = GatheringPrefix(av.backbone, av.prefix_ids)
    for chunk in ([2], [0, 1]):
        width = int(lengths[chunk].max())
        logprobs = av.response_logprobs(
            _activations()[chunk], ids[chunk, :width], mask[chunk, :width], prefix
        )
        loss(logprobs, lengths[chunk], chunk).backward()
    prefix.pass_on()
    shared = [parameter.grad for parameter in parameters]
    full = torch.autograd.grad(
        loss(_full_logprobs(av, _activations(), RESPONSES), lengths, [0, 1, 2]), parameters
    )
    _assert_gradients_close(shared, full)


def test_weights_cast_once_give_what_autocast_gives_and_come_back(av):
    ids, mask = av.encode_responses(RESPONSES)
    before = dict(av.model.named_parameters())
    with torch.no_grad(), autocast("bfloat16"):
        expected = av.response_logprobs(_activations(), ids, mask)
        with linear_weights_cast_once(av.model):
            assert av.backbone.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
            assert av.embedding.weight.dtype == torch.float32
            assert torch.equal(av.response_logprobs(_activations(), ids, mask), expected)
    after = dict(av.model.named_parameters())
    assert all(after[name] is parameter for name, parameter in before.items())


@pytest.mark.parametrize(("max_rows", "max_tokens"), [(3, None), (100, 5000), (100, None)])
def test_chunks_hold_every_row_once_in_order_of_length_within_limits(max_rows, max_tokens):
    lengths = torch.randint(1, 900, (101,), generator=torch.Generator().manual_seed(0)).tolist()
    chunks = fitted_chunks(lengths, max_rows, max_tokens=max_tokens)
    flat = [row for chunk in chunks for row in chunk]
    assert sorted(flat) == list(range(101))
    assert [lengths[row] for row in flat] == sorted(lengths)
    for chunk in chunks:
        assert len(chunk) <= max_rows
        assert max_tokens is None or len(chunk) * max(lengths[row] for row in chunk) <= max_tokens


def test_rows_of_one_length_stay_together_and_unlike_ones_part():
    assert fitted_chunks([80] * 64, 64) == [list(range(64))]
    assert fitted_chunks([50] * 40 + [400] * 10, 64) == [list(range(40)), list(range(40, 50))]
    assert fitted_chunks([], 4) == []


def test_another_activation_changes_the_log_probabilities(av):
    ids, mask = av.encode_responses(RESPONSES)
    with torch.no_grad():
        one = av.response_logprobs(_activations(), ids, mask)
        other = av.response_logprobs(-_activations(), ids, mask)
    assert (one - other).abs().max() > 1e-2


def test_the_stop_token_belongs_to_the_training_target(av):
    ids, mask = av.encode_responses(["a"])
    assert ids[0, int(mask.sum()) - 1] == av.stop_id


def test_reconstructions_do_not_depend_on_their_batch(ar):
    texts = [*RESPONSES, "The {brace} </text> inside", "日本"]
    with torch.no_grad():
        together = ar(texts)
        alone = torch.cat([ar([text]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ar.reconstruct(texts, batch_size=2), alone, atol=1e-4, rtol=1e-4)


def test_the_ar_reads_the_last_real_token_of_its_own_blocks(ar):
    from gloss.target_model import blocks_of

    assert len(blocks_of(ar.backbone)) == 3
    row = ar.encode(["The mood is calm."])[0]
    with torch.no_grad():
        hidden = ar.backbone(input_ids=torch.tensor([row])).last_hidden_state[0, -1]
        torch.testing.assert_close(ar([("The mood is calm.")])[0], hidden, atol=1e-5, rtol=1e-5)


def test_a_fresh_head_is_the_identity(ar):
    assert torch.equal(ar.head.weight, torch.eye(32))


def test_right_pad_marks_real_tokens():
    ids, mask = right_pad([[5, 6, 7], [8]], pad_id=0)
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert mask.tolist() == [[True, True, True], [True, False, False]]
