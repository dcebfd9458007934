"""Mirrors: swapped columns, and swapped back."""

import pytest
import torch

from rlsuite.errors import UserError
from rlsuite.symmetry import Mirror


def test_columns_are_swapped_and_swapped_back():
    mirror = Mirror(observation=(0, 2, 1), action=(1, 0))
    observation, action = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[[4.0, 5.0]]])
    assert mirror.observations(observation).tolist() == [[1.0, 3.0, 2.0]]
    assert mirror.actions(action).tolist() == [[[5.0, 4.0]]]
    assert torch.equal(mirror.observations(mirror.observations(observation)), observation)


@pytest.mark.parametrize("places", [(1, 2, 0), (0, 3), (-1, 0)])
def test_what_is_not_its_own_inverse_is_refused(places):
    with pytest.raises(UserError, match="not its own inverse"):
        Mirror(observation=places, action=(0,))
