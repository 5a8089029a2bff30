import math

import pytest
import torch

from gloss.train.grpo import group_advantages, k3_divergence, policy_loss
from gloss.train.rewards import explanation_rewards, failed_reward


def test_advantages_are_centred_per_group_and_scaled():
    rewards = torch.tensor([[1.0, 2.0, 3.0], [10.0, 10.0, 10.0]])
    plain = group_advantages(rewards, normalize=False)
    torch.testing.assert_close(plain, torch.tensor([[-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))
    scaled = group_advantages(rewards, normalize=True)
    assert scaled[0].std().item() == pytest.approx(1, rel=1e-3)
    assert scaled[1].abs().max() == 0


def test_policy_gradient_is_minus_advantage_times_grad_log_p():
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    tokens, advantages = torch.tensor([0, 3, 6, 1, 2]), torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0])
    logprobs = logits.log_softmax(-1)[range(5), tokens]
    loss = policy_loss(logprobs, logprobs.detach(), advantages, kl_weight=0.0).sum()
    (got,) = torch.autograd.grad(loss, logits)
    expected = -advantages.unsqueeze(1) * (
        torch.nn.functional.one_hot(tokens, 7) - logits.detach().softmax(-1)
    )
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)


def test_k3_estimates_the_divergence_without_bias_and_is_never_negative():
    generator = torch.Generator().manual_seed(1)
    policy, reference = torch.randn(2, 12, generator=generator).log_softmax(-1).unbind(0)
    exact = (policy.exp() * (policy - reference)).sum()
    tokens = torch.multinomial(policy.exp(), 200_000, replacement=True, generator=generator)
    estimates = k3_divergence(policy[tokens], reference[tokens])
    assert estimates.min() >= -1e-6
    assert estimates.mean().item() == pytest.approx(exact.item(), rel=0.03)


def test_kl_gradient_pulls_towards_the_reference():
    logprob = torch.tensor([-1.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(
        policy_loss(logprob, torch.tensor([-3.0]), torch.zeros(1), kl_weight=1.0).sum(), logprob
    )
    assert gradient.item() == pytest.approx(1 - math.exp(-2), rel=1e-5)


@pytest.mark.parametrize(("reward", "charged"), [("neg_mse", -2.0), ("neg_log_mse", -math.log(2))])
def test_failed_extraction_is_charged_like_an_orthogonal_vector_never_zero(reward, charged):
    errors = torch.tensor([0.5, float("nan")])
    got = explanation_rewards(
        errors,
        torch.tensor([True, False]),
        torch.tensor([10, 20]),
        reward=reward,
        length_penalty=0.0,
    )
    assert got[1].item() == pytest.approx(charged)
    assert failed_reward(reward) == pytest.approx(charged)
    assert got[0].item() == pytest.approx(-0.5 if reward == "neg_mse" else -math.log(0.5))


def test_length_penalty_is_per_token():
    got = explanation_rewards(
        torch.tensor([0.5, 0.5]),
        torch.tensor([True, True]),
        torch.tensor([10, 30]),
        reward="neg_mse",
        length_penalty=0.001,
    )
    assert (got[0] - got[1]).item() == pytest.approx(0.02)
