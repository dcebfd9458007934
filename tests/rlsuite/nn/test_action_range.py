"""Bounds of actions by hand, both ways and through a checkpoint."""

import torch

from rlsuite.nn.action_range import ActionRange


def test_by_hand():
    span = ActionRange(torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 4.0]))
    assert span.size == 2
    assert [bound.tolist() for bound in span.bounds] == [[-1.0, 0.0], [1.0, 4.0]]
    action = torch.tensor([[-1.0, -1.0], [0.5, 0.25], [1.0, 1.5]])
    found = span.to_environment(action)
    assert found.tolist() == [[-1.0, 0.0], [0.5, 2.5], [1.0, 5.0]]  # beyond the bounds where the action is
    assert torch.equal(span.to_policy(found), action)


def test_it_is_part_of_the_state():
    span, other = (ActionRange(torch.tensor([low]), torch.tensor([3.0])) for low in (-3.0, 1.0))
    other.load_state_dict(span.state_dict())
    assert torch.equal(other.to_environment(torch.ones(1)), torch.tensor([3.0]))
    assert other.center.item() == 0.0
