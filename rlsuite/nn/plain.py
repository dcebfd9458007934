"""A policy of plain layers, for whoever changes layers: quantizers, pruners, distillation.

    observation (B, D) -> normalizer -> [Linear -> LayerNorm, if any -> activation] x hidden -> Linear -> squash
        -> the environment's range -> (B, A)

Agents keep their actors stacked (rlsuite/nn/ensemble.py), which is fast, but of one member there is no `nn.Linear` to
be found. Here there is, and `plain_mlp` copies a member's weights into it.

Shapes: B batch, D observation, A action, K members of an ensemble.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlsuite.errors import require, require_choice
from rlsuite.nn.action_range import ActionRange
from rlsuite.nn.ensemble import EnsembleLayerNorm, EnsembleLinear, EnsembleMLP, NoNormalization, check_sizes
from rlsuite.nn.normalizer import NormalizerConfig, RunningNormalizer
from rlsuite.nn.weight_norm import EnsembleWeightNormLinear

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
}
SQUASHES: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "none": nn.Identity}


@dataclass(frozen=True, kw_only=True)
class PlainPolicyConfig:
    """What a plain policy is built from, all but its weights, statistics and bounds: plain data, for files.

    Attributes:
        observation_size: D.
        action_size: A.
        hidden_sizes: units of each hidden layer.
        activation: a key of ACTIVATIONS.
        layer_norm: layer normalization behind every hidden layer.
        squash: a key of SQUASHES.
        normalizer: of observations; null for none.
    """

    observation_size: int
    action_size: int
    hidden_sizes: tuple[int, ...] = (256, 256)
    activation: str = "relu"
    layer_norm: bool = False
    squash: str = "tanh"
    normalizer: NormalizerConfig | None = None

    def __post_init__(self) -> None:
        for name in ("observation_size", "action_size"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        check_sizes("policy", self.hidden_sizes)
        require_choice("activation", self.activation, ACTIVATIONS)
        require_choice("squash", self.squash, SQUASHES)


class PlainPolicy(nn.Module):
    """Observations to actions in the environment's units, greedily.

    Args:
        layers: from normalized observations (B, D) to numbers (B, A), such as `mlp` or `plain_mlp` returns.
        action_range: of the environment.
        normalizer: of observations; a copy of it is kept, which learns no more. None for none.
        squash: between the layers and the range, a key of SQUASHES.
    """

    def __init__(
        self,
        layers: nn.Sequential,
        action_range: ActionRange,
        normalizer: RunningNormalizer | None = None,
        squash: str = "tanh",
    ) -> None:
        super().__init__()
        require_choice("squash", squash, SQUASHES)
        self.normalizer = nn.Identity() if normalizer is None else copy.deepcopy(normalizer)
        self.layers = layers
        self.squash = SQUASHES[squash]()
        self.action_range = copy.deepcopy(action_range)

    def forward(self, observation: Tensor) -> Tensor:
        """Map observations (B, D) to actions (B, A) in the environment's units, within its bounds."""
        action = self.squash(self.layers(self.normalizer(observation))).clamp(-1.0, 1.0)
        return self.action_range.to_environment(action)


def build_plain_policy(config: PlainPolicyConfig, *, seed: int = 0) -> PlainPolicy:
    """Return a policy with fresh weights, empty statistics and bounds of -1 and 1: what a file's tensors go into."""
    layers = mlp(
        config.observation_size,
        config.hidden_sizes,
        config.action_size,
        activation=config.activation,
        layer_norm=config.layer_norm,
        seed=seed,
    )
    bound = torch.ones(config.action_size)
    normalizer = None
    if config.normalizer is not None:
        normalizer = RunningNormalizer(config.observation_size, config.normalizer)
    return PlainPolicy(layers, ActionRange(-bound, bound), normalizer, config.squash).eval()


def mlp(
    in_features: int,
    hidden_sizes: Sequence[int],
    out_features: int,
    *,
    activation: str = "relu",
    layer_norm: bool = False,
    seed: int,
) -> nn.Sequential:
    """Return Linear layers with activations between them, their weights drawn as torch draws them, from the seed.

    Raises:
        UserError: for sizes below 1 or an unknown activation.
    """
    check_sizes("policy", hidden_sizes)
    require_choice("activation", activation, ACTIVATIONS)
    generator = torch.Generator().manual_seed(seed)
    sizes = [in_features, *hidden_sizes, out_features]
    layers: list[nn.Module] = []
    for place, (size, wide) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        linear, bound = nn.Linear(size, wide), size**-0.5
        with torch.no_grad():
            linear.weight.uniform_(-bound, bound, generator=generator)
            linear.bias.uniform_(-bound, bound, generator=generator)
        layers.append(linear)
        if place < len(hidden_sizes):
            layers += [nn.LayerNorm(wide)] * layer_norm + [ACTIVATIONS[activation]()]
    return nn.Sequential(*layers)


@torch.no_grad()
def plain_mlp(network: EnsembleMLP, member: int, activation: str) -> nn.Sequential:
    """Return one member of a stacked network as plain layers with the same weights.

    Args:
        network: K members, with layer normalization, weight normalization or none.
        member: which, from 0.
        activation: the name that the network was made with.

    Raises:
        ValueError: for batch normalization, which is no plain layer between two Linear ones there.
    """
    layers: list[nn.Module] = []
    if not isinstance(network.input_normalization, NoNormalization):
        raise ValueError("a network with batch normalization has no plain layers; use normalization='layer' or 'none'")
    for place, stacked in enumerate(network.layers):
        assert isinstance(stacked, EnsembleLinear | EnsembleWeightNormLinear)
        weight = (stacked.weight() if isinstance(stacked, EnsembleWeightNormLinear) else stacked.weight)[member]
        linear = nn.Linear(weight.shape[0], weight.shape[1], device=weight.device)
        linear.weight.copy_(weight.T)
        linear.bias.copy_(stacked.bias[member, 0])
        layers.append(linear)
        if place == len(network.normalizations):
            break
        stacked_norm = network.normalizations[place]
        if isinstance(stacked_norm, EnsembleLayerNorm):
            norm = nn.LayerNorm(weight.shape[1], device=weight.device)
            norm.weight.copy_(stacked_norm.scale[member, 0])
            norm.bias.copy_(stacked_norm.shift[member, 0])
            layers.append(norm)
        layers.append(ACTIVATIONS[activation]())
    return nn.Sequential(*layers)
