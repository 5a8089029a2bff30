"""Rewards worked out by hand: what an explanation earns for its error, its failure, its length."""

import math

import pytest
import torch

from gloss.train.rewards import explanation_rewards, failed_reward

ERRORS = torch.tensor([0.5, 0.0, 1e-5, 2.0, math.nan])
EXTRACTED = torch.tensor([True, True, True, False, False])
TOKENS = torch.tensor([10, 0, 0, 0, 20])


@pytest.mark.parametrize(
    ("reward", "wanted"),
    [
        ("neg_mse", [-0.5 - 0.1, 0.0, -1e-5, -2.0, -2.0 - 0.2]),
        (
            "neg_log_mse",
            [math.log(2) - 0.1, math.log(1e4), math.log(1e4), -math.log(2), -math.log(2) - 0.2],
        ),
    ],
)
def test_a_reward_is_the_error_with_its_sign_turned_less_a_price_of_each_token(reward, wanted):
    """An orthogonal vector has the error 2, and so has what was not extracted; no error is taken
    as smaller than 1e-4, where a logarithm has no end."""
    found = explanation_rewards(ERRORS, EXTRACTED, TOKENS, reward=reward, length_penalty=0.01)
    assert found.tolist() == pytest.approx(wanted, rel=1e-5)
    assert failed_reward(reward) == pytest.approx(wanted[3])
