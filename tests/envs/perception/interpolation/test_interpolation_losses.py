"""RIFE's losses: by hand, and against a pyramid written as the paper's authors have it."""

import torch
from torch.nn import functional

from envs.perception.interpolation.ifnet import Stage
from envs.perception.interpolation.losses import distillation, flow_error, laplacian_difference

KERNEL = torch.outer(torch.tensor([1.0, 4, 6, 4, 1]), torch.tensor([1.0, 4, 6, 4, 1])) / 256


def blurred(pictures, kernel):
    padded = functional.pad(pictures, (2, 2, 2, 2), mode="reflect")
    return functional.conv2d(padded, kernel.expand(3, 1, 5, 5), groups=3)


def pyramid(pictures):
    levels, current = [], pictures
    for _ in range(5):
        down = blurred(current, KERNEL)[:, :, ::2, ::2]
        up = torch.zeros_like(current)
        up[:, :, ::2, ::2] = down
        levels.append(current - blurred(up, 4 * KERNEL))
        current = down
    return levels


def test_the_difference_of_pyramids(generator):
    one, other = torch.rand(2, 2, 3, 64, 96, generator=generator)
    expected = sum((a - b).abs().mean() for a, b in zip(pyramid(one), pyramid(other), strict=True))
    torch.testing.assert_close(laplacian_difference(one, other), expected)
    assert float(laplacian_difference(one, one + 0.1)) < 1e-5  # of no frequency


def stage(flow, blend, requires_grad=False):
    planes = torch.full((1, 4, 2, 2), flow, requires_grad=requires_grad)
    frame = torch.full((1, 3, 2, 2), blend)
    return Stage(planes, torch.zeros(1, 1, 2, 2), frame, frame)


def test_only_what_the_teacher_does_better_is_taught():
    truth, teacher = torch.full((1, 3, 2, 2), 0.5), stage(1.0, 0.55)
    torch.testing.assert_close(distillation([stage(3.0, 0.9)], teacher, truth), torch.tensor(2.0))
    assert float(distillation([stage(3.0, 0.555)], teacher, truth)) == 0.0  # better by 0.005 alone
    assert float(distillation([stage(3.0, 0.5)], teacher, truth)) == 0.0
    both = distillation([stage(3.0, 0.9), stage(0.0, 0.1)], teacher, truth)
    torch.testing.assert_close(both, torch.tensor(3.0))


def test_equal_flows_have_a_gradient_that_is_finite():
    student = stage(1.0, 0.9, requires_grad=True)
    distillation([student], stage(1.0, 0.5), torch.full((1, 3, 2, 2), 0.5)).backward()
    assert bool(torch.isfinite(student.flow.grad).all())


def test_distance_to_the_true_flow():
    truth = torch.zeros(1, 4, 1, 1)
    flow = torch.tensor([3.0, 4.0, 0.0, 1.0]).view(1, 4, 1, 1).expand(1, 4, 2, 2)
    found = Stage(flow, torch.zeros(1), torch.zeros(1), torch.zeros(1))
    torch.testing.assert_close(flow_error([found, found], truth), torch.tensor(6.0))  # two stages of (5 + 1) / 2
