"""A policy over pictures, built from a network of the vision catalogue: what a file's tensors go into.

    pictures (B, C, H, W) -> network -> tanh -> the environment's range -> (B, A)

Shapes: B batch, C channels, H and W sides of a picture, A action.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rlsuite.config.build import build
from rlsuite.errors import UserError, near_matches, require
from rlsuite.methods import find_class
from rlsuite.nn.action_range import ActionRange
from rlsuite.nn.vision import NETWORKS


@dataclass(frozen=True, kw_only=True)
class PicturePolicyConfig:
    """What a policy over pictures is built from, all but weights and bounds: plain data, for files.

    Attributes:
        network: a name of the vision catalogue, of a network that ends in numbers.
        channels: C.
        size: H and W.
        action_size: A.
        numbers: the network's own.
    """

    network: str
    channels: int
    size: int
    action_size: int
    numbers: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("channels", "size", "action_size"):
            value = getattr(self, name)
            require(1 <= value <= 65536, f"{name}={value}: use 1 to 65536")
        if self.network not in NETWORKS:
            raise UserError(f"unknown network '{self.network}'{near_matches(self.network, NETWORKS)}")


class PicturePolicy(nn.Module):
    """Pictures to actions in the environment's units, greedily.

    Args:
        network: pictures (B, C, H, W), bytes or floats in [0, 1], to numbers (B, A).
        action_range: of the environment.
    """

    def __init__(self, network: nn.Module, action_range: ActionRange) -> None:
        super().__init__()
        self.network, self.action_range = network, action_range

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, C, H, W) to actions (B, A) within the environment's bounds."""
        return self.action_range.to_environment(torch.tanh(self.network(pictures)))


def build_picture_policy(config: PicturePolicyConfig, *, seed: int = 0) -> PicturePolicy:
    """Return a policy with fresh weights and bounds of -1 and 1.

    Raises:
        UserError: if the network's numbers are not its own, or it does not end in numbers.
    """
    kind = find_class(NETWORKS[config.network])
    numbers = build(kind.Config, config.numbers, f"{config.network}.")
    bound = torch.ones(config.action_size)
    network = kind(config.channels, config.size, config.action_size, numbers, seed)
    policy = PicturePolicy(network, ActionRange(-bound, bound)).eval()
    example = torch.zeros(1, config.channels, config.size, config.size)
    with torch.no_grad():
        shape = tuple(policy.network(example.to(next(network.parameters()).device)).shape)
    require(shape == (1, config.action_size), f"network={config.network} ends in {shape}, no action; use conv")
    return policy
