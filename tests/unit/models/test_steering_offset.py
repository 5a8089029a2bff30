import pytest
import torch

from gloss.errors import ActivationError
from gloss.models import steering_offset


def test_the_offset_is_alpha_times_the_activations_norm_along_the_direction():
    activation, direction = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 0.1])
    torch.testing.assert_close(
        steering_offset(activation, direction, 0.5), torch.tensor([0.0, 2.5])
    )
    torch.testing.assert_close(
        steering_offset(activation, direction * 1e4, -1.0), torch.tensor([0.0, -5.0])
    )


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_there_is_nothing_to_steer_along_without_a_direction(value):
    with pytest.raises(ActivationError, match="no direction to steer"):
        steering_offset(torch.ones(2), torch.full((2,), value), 1.0)
