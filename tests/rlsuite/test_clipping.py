"""Gradient norms: each member's own, or one of all."""

import pytest
import torch

from rlsuite.optim.clipping import clip_members, clip_together


def test_each_member_has_a_norm_of_its_own():
    gradients = [torch.tensor([[3.0], [0.3]]), torch.tensor([[[4.0]], [[0.4]]])]  # norms 5 and 0.5
    clipped = clip_members(gradients, 1.0)
    assert clipped[0].flatten().tolist() == pytest.approx([0.6, 0.3])
    assert clipped[1].flatten().tolist() == pytest.approx([0.8, 0.4])


def test_one_norm_of_all_is_torchs():
    parameters = [torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(2, 1, 4))]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape)
    ours = clip_together([parameter.grad.clone() for parameter in parameters], 0.5)
    torch.nn.utils.clip_grad_norm_(parameters, 0.5)
    for mine, parameter in zip(ours, parameters, strict=True):
        torch.testing.assert_close(mine, parameter.grad)
    assert clip_together([torch.tensor([0.3, 0.4])], 1.0)[0].tolist() == pytest.approx([0.3, 0.4])  # small ones stay
