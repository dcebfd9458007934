"""Angles between normals, by hand."""

import math

import pytest
import torch

from rlsuite.metrics.normals import angles, angular_error


def test_angles_by_hand_small_ones_too():
    small = math.radians(0.01)
    first = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 0, 0], [2, 0, 0], [0, 0, 1]])
    second = torch.tensor([[0.0, 1, 0], [1, 1, 0], [-1, 0, 0], [3, 0, 0], [math.sin(small), 0, math.cos(small)]])
    assert angles(first, second).tolist() == pytest.approx([90.0, 45.0, 180.0, 0.0, 0.01], abs=1e-4)


def test_only_valid_pixels_count():
    truth = torch.zeros(2, 3, 1, 2)
    truth[:, 2] = 1.0
    found = truth.clone()
    found[0, :, 0, 0] = torch.tensor([1.0, 0.0, 0.0])
    valid = torch.tensor([[[True, True]], [[False, False]]])
    error = angular_error(found, truth, valid)
    assert float(error[0]) == pytest.approx(45.0)
    assert math.isnan(float(error[1]))
    assert angular_error(found, truth).tolist() == pytest.approx([45.0, 0.0])
