"""The local engine against Transformers' own generate with embeddings."""

from collections import Counter

import pytest
import torch

from gloss.engines import LocalEngine
from gloss.models.injection import inject


def _activations(n):
    return torch.randn(n, 32, generator=torch.Generator().manual_seed(1))


def test_greedy_tokens_equal_generate_with_embeddings(av):
    activations = _activations(6)
    prompt = torch.tensor([av.prefix_ids + av.tail_ids]).expand(6, -1)
    embedded = inject(
        av.embedding(prompt),
        prompt,
        activations,
        marker=av.marker,
        injection_scale=av.sidecar.injection_scale,
    )
    expected = av.model.generate(
        inputs_embeds=embedded,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=12,
        do_sample=False,
        eos_token_id=av.stop_id,
        pad_token_id=av.pad_id,
    )
    rollouts = LocalEngine(av).generate(activations, temperature=0, max_new_tokens=12, seed=0)
    for row, rollout in zip(expected.tolist(), rollouts, strict=True):
        assert list(rollout.token_ids) == row[: len(rollout.token_ids)]


def test_batches_and_single_rows_give_the_same_greedy_tokens(av):
    activations = _activations(5)
    together = LocalEngine(av).generate(activations, temperature=0, max_new_tokens=10, seed=0)
    small = LocalEngine(av, batch_size=2).generate(
        activations, temperature=0, max_new_tokens=10, seed=0
    )
    assert [r.token_ids for r in together] == [r.token_ids for r in small]


def test_the_same_seed_gives_the_same_samples_and_another_seed_others(av):
    engine, activations = LocalEngine(av), _activations(4)
    first, again, other = (
        engine.generate(activations, temperature=1.0, max_new_tokens=8, seed=seed, num_samples=2)
        for seed in (1, 1, 2)
    )
    assert [r.token_ids for r in first] == [r.token_ids for r in again]
    assert [r.token_ids for r in first] != [r.token_ids for r in other]
    assert len(first) == 8


def test_samples_follow_the_models_distribution(av):
    activation = _activations(1)
    ids = torch.zeros(1, 1, dtype=torch.long)
    with torch.no_grad():
        expected = av.response_logits(activation, ids, torch.ones_like(ids, dtype=torch.bool))[
            0
        ].softmax(-1)
    rollouts = LocalEngine(av, batch_size=4000).generate(
        activation, temperature=1.0, max_new_tokens=1, seed=3, num_samples=4000
    )
    counts = (
        torch.bincount(torch.tensor([r.token_ids[0] for r in rollouts]), minlength=len(expected))
        / 4000
    )
    assert float((counts - expected).abs().max()) < 0.03


@pytest.mark.invariant("16")
def test_generation_ends_at_the_stop_token_and_rows_leave_the_batch(av):
    endless = LocalEngine(av).generate(_activations(64), temperature=1.5, max_new_tokens=40, seed=0)
    av.stop_id = Counter(token for r in endless for token in r.token_ids).most_common(1)[0][0]
    rollouts = LocalEngine(av).generate(
        _activations(64), temperature=1.5, max_new_tokens=40, seed=0
    )
    for rollout in rollouts:
        assert rollout.finished == (rollout.token_ids[-1] in av.stop_ids)
        assert av.stop_id not in rollout.token_ids[:-1]
    assert len({len(r.token_ids) for r in rollouts}) > 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_length_cap_holds(av, temperature):
    rollouts = LocalEngine(av).generate(
        _activations(3), temperature=temperature, max_new_tokens=5, seed=0
    )
    assert all(len(r.token_ids) <= 5 for r in rollouts)
