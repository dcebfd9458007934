"""take_step: the weights move along their own gradients, however those lie in memory."""

import pytest
import torch

from rlsuite.optim.state import adam
from rlsuite.optim.step import take_step

GRADIENT = torch.tensor([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]])


@pytest.mark.parametrize("gradient", [GRADIENT, GRADIENT.t().contiguous().t()], ids=["in order", "transposed"])
def test_adams_first_step_is_the_rate_against_each_gradients_sign(gradient):
    parameter = torch.nn.Parameter(torch.zeros(2, 3))
    take_step(adam([parameter], 0.1), [parameter], [gradient])
    torch.testing.assert_close(parameter.detach(), -0.1 * GRADIENT)


def test_every_parameter_needs_its_gradient():
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    with pytest.raises(ValueError, match="shorter"):
        take_step(adam(parameters, 0.1), parameters, [torch.ones(2)])


def test_gradients_are_scaled_down_to_a_norm_of_them_all():
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    gradients = [torch.tensor([3.0]), torch.tensor([4.0])]
    take_step(torch.optim.SGD(parameters, lr=1.0), parameters, gradients, 1.0)
    torch.testing.assert_close(torch.cat([p.detach() for p in parameters]), torch.tensor([-0.6, -0.8]))
    assert [gradient.item() for gradient in gradients] == [3.0, 4.0]
    take_step(torch.optim.SGD(parameters, lr=1.0), parameters, gradients, 100.0)
    torch.testing.assert_close(torch.cat([p.detach() for p in parameters]), torch.tensor([-3.6, -4.8]))
