"""From a box to a point, by hand."""

import torch

from envs.perception.tracking.goal_from_box import StandingCamera, point_in_box


def test_a_point_by_hand():
    # A camera two metres up that looks down; x stays x. One pixel is 0.1 of a metre at one metre's distance.
    steps = 0.1 * (torch.arange(10) - 4.5)
    rays = torch.stack([steps.expand(10, 10), -steps.view(10, 1).expand(10, 10), -torch.ones(10, 10)], dim=-1)
    camera = StandingCamera(torch.tensor([0.0, 0.0, 2.0]), torch.eye(3), rays)
    depth = torch.full((3, 1, 10, 10), 1.5)
    depth[0, 0, 2:4, 6:8] = 0.5
    depth[2] = 0.0
    boxes = torch.tensor([[5.0, 1.0, 9.0, 5.0], [4.0, 4.0, 6.0, 6.0], [4.0, 4.0, 6.0, 6.0]])
    points, there = point_in_box(boxes, depth, camera)
    assert there.tolist() == [True, True, False]
    torch.testing.assert_close(points[0], torch.tensor([0.1, 0.1, 1.5]))  # (0.2, 0.2) of the slope, half a metre away
    torch.testing.assert_close(points[1], torch.tensor([0.0, 0.0, 0.5]))
    behind, _ = point_in_box(boxes, depth, camera, inside=0.5)
    torch.testing.assert_close(behind[1], torch.tensor([0.0, 0.0, 0.0]))
