"""Actors."""

import pytest
import torch

from rlsuite.errors import UserError
from rlsuite.nn.actors import ActorConfig, Actors


def test_output_limit_bounds_the_mean_size_before_tanh_and_no_more():
    """By hand: outputs (4, -2) have the mean size 3; a limit of 1.5 halves them. Outputs within it stay."""
    config = ActorConfig(hidden_sizes=(4,), output_limit=1.5)
    actors = Actors(1, 3, 2, config)
    rows = iter([torch.tensor([[[4.0, -2.0]]]), torch.tensor([[[1.0, -2.0]]])])
    actors.network.forward = lambda observation, members=None: next(rows)  # type: ignore[method-assign]
    assert actors.pre_activation(torch.zeros(1, 1, 3)).tolist() == [[[2.0, -1.0]]]
    assert actors.pre_activation(torch.zeros(1, 1, 3)).tolist() == [[[1.0, -2.0]]]
    with pytest.raises(UserError, match="deterministic"):
        ActorConfig(distribution="squashed_gaussian", output_limit=1.0)
