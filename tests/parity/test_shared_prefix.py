"""The shared prefix against whole sequences, padded batches against single items."""

import torch

from gloss.models import right_pad
from gloss.models.injection import inject

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
        torch.testing.assert_close(shared, _full_logprobs(av, _activations(), RESPONSES), atol=2e-5, rtol=1e-5)


def test_shared_prefix_gives_the_gradients_of_whole_sequences(av):
    ids, mask = av.encode_responses(RESPONSES)
    parameters = [p for p in av.model.parameters() if p.requires_grad]
    shared = torch.autograd.grad(av.response_logprobs(_activations(), ids, mask).sum(), parameters)
    full = torch.autograd.grad(_full_logprobs(av, _activations(), RESPONSES).sum(), parameters)
    for one, other in zip(shared, full, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=2e-4)


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
    from gloss.target import blocks_of

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
