"""Critics: stacked action-value networks with a choice of block, layout and loss.

Shapes: K critics, B batch, D observation, A action, V atoms of a categorical value.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsuite.errors import require, require_choice, require_finite
from rlsuite.nn.ensemble import (
    ACTIVATIONS,
    INITIALIZATIONS,
    EnsembleLinear,
    EnsembleMLP,
    check_one_width,
    check_sizes,
    width_and_blocks,
)
from rlsuite.nn.hyperspherical import HypersphericalMLP
from rlsuite.nn.residual import ResidualMLP

NORMALIZATION_OF_BLOCK = {"plain": "none", "layer_norm": "layer", "batch_norm": "batch"}
TRUNKS = {"hyperspherical": HypersphericalMLP, "residual": ResidualMLP}
BLOCKS = (*NORMALIZATION_OF_BLOCK, *TRUNKS)
BATCH_NORMALIZED = ("batch_norm", "residual")
PROJECTIONS = ("hidden", "everything")
LAYOUTS = ("concatenate", "branches")
LOSSES = ("squared_error", "categorical")


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """The critic block.

    Attributes:
        hidden_sizes: width of each hidden layer; of block=hyperspherical and residual, whose widths must be equal, the
            width and, one less than the number of entries but at least one, the number of residual blocks.
        activation: a key of rlsuite.nn.ensemble.ACTIVATIONS.
        block: "plain", "layer_norm", "batch_norm" (batch normalization of input and hidden layers, weights
            projected to norm 1, current and next state-actions in one joint batch),
            "hyperspherical" (weights and hidden features of norm 1; SimbaV2, arXiv:2502.15280, whose critic also
            has initialization=orthogonal, loss=categorical and agent.reward_scaling=returns), or "residual"
            (residual blocks with batch normalization, joint batches, all weights of norm 1; FlashSAC,
            arXiv:2604.04539, whose critic also has slow_copies and what SimbaV2's has).
        slow_copies: batch-normalized critics (batch_norm, residual) bootstrap from slow copies, which see the same
            joint batch (FlashSAC); without, from themselves (CrossQ). Other critics always have slow copies.
        projection: what block=batch_norm projects after each step: the incoming weights of "hidden" units, or
            "everything": the last layer's, too, and each normalization's scale and shift together, to norm
            sqrt(width). Of block=residual it is always everything.
        layout: "concatenate" (observation and action enter together) or "branches" (each has its own first
            layers, joined before the last hidden layer; arXiv:1712.08987).
        initialization: "uniform", "orthogonal", "normal" or "xavier".
        loss: "squared_error" or "categorical" (distribution over atoms, cross entropy; Bellemare et al. 2017).
        huber_delta: with squared_error, errors beyond this count in proportion to their size: the square e^2 becomes
            2 delta |e| - delta^2 there (twice Huber's loss); 0 for squares everywhere.
        num_atoms: V, of the categorical loss.
        value_min: lowest atom, in units of scaled rewards.
        value_max: highest atom; the support must hold every discounted return, which agent.reward_scaling=returns
            sees to.
    """

    hidden_sizes: tuple[int, ...] = (256, 256)
    activation: str = "relu"
    block: str = "plain"
    slow_copies: bool = False
    projection: str = "hidden"
    layout: str = "concatenate"
    initialization: str = "uniform"
    loss: str = "squared_error"
    huber_delta: float = 0.0
    num_atoms: int = 101
    value_min: float = -5.0
    value_max: float = 5.0

    def __post_init__(self) -> None:
        check_sizes("agent.critic", self.hidden_sizes)
        require_choice("agent.critic.activation", self.activation, ACTIVATIONS)
        require_choice("agent.critic.block", self.block, BLOCKS)
        require_choice("agent.critic.projection", self.projection, PROJECTIONS)
        require_choice("agent.critic.layout", self.layout, LAYOUTS)
        require_choice("agent.critic.initialization", self.initialization, INITIALIZATIONS)
        require_choice("agent.critic.loss", self.loss, LOSSES)
        require(self.num_atoms >= 2, f"agent.critic.num_atoms={self.num_atoms}: use 2 or more")
        require_finite("agent.critic.huber_delta", self.huber_delta, low=0.0)
        require(
            self.huber_delta == 0.0 or self.loss == "squared_error",
            f"agent.critic.huber_delta={self.huber_delta}: it is for agent.critic.loss=squared_error; use 0",
        )
        require_finite("agent.critic.value_min", self.value_min)
        require_finite("agent.critic.value_max", self.value_max, above=self.value_min)
        require(
            self.layout == "concatenate" or self.block == "plain",
            f"agent.critic.block={self.block}: layout=branches has no normalization; use block=plain",
        )
        require(
            not self.slow_copies or self.block in BATCH_NORMALIZED,
            f"agent.critic.slow_copies=true: block={self.block} always has slow copies; use false, or block=residual",
        )
        require(
            self.projection == "hidden" or self.block in BATCH_NORMALIZED,
            f"agent.critic.projection={self.projection}: block={self.block} is not batch-normalized; use hidden, or "
            "block=batch_norm",
        )
        if self.block in TRUNKS:
            check_one_width("agent.critic", self.block, self.hidden_sizes)


class BranchedCritic(nn.Module):
    """The critic of arXiv:1712.08987: observation and action pass layers of their own before they meet.

    ::

        observation -> FC 800 -> FC 400 --+
                                          +-- concatenate -> FC 400 -> FC 1
        action ------> FC 400 ------------+
    """

    def __init__(
        self,
        num_members: int,
        observation_size: int,
        action_size: int,
        out_features: int,
        config: CriticConfig,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.observation_size = observation_size
        joined = config.hidden_sizes[-1]

        def linear(size: int, next_size: int) -> EnsembleLinear:
            return EnsembleLinear(
                num_members, size, next_size, initialization=config.initialization, generator=generator
            )

        sizes = [observation_size, *config.hidden_sizes]
        self.observation_layers = nn.ModuleList(linear(*pair) for pair in zip(sizes[:-1], sizes[1:], strict=True))
        self.action_layer = linear(action_size, joined)
        self.joint_layer = linear(2 * joined, joined)
        self.output_layer = linear(joined, out_features)

    def forward(self, inputs: Tensor, members: slice | None = None) -> Tensor:
        """Map observation and action side by side, (K, B, D + A), to (K, B, outputs)."""
        hidden = inputs[..., : self.observation_size]
        for layer in self.observation_layers:
            hidden = self.activation(layer(hidden, members))
        action = self.activation(self.action_layer(inputs[..., self.observation_size :], members))
        hidden = self.activation(self.joint_layer(torch.cat([hidden, action], dim=-1), members))
        return self.output_layer(hidden.float(), members)  # values keep their digits


class Critics(nn.Module):
    """K stacked critics Q_k(observation, action)."""

    def __init__(
        self,
        num_members: int,
        observation_size: int,
        action_size: int,
        config: CriticConfig,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.categorical = config.loss == "categorical"
        self.joint_batches = config.block in BATCH_NORMALIZED
        self.slow_copies = config.slow_copies or not self.joint_batches
        out_features = config.num_atoms if self.categorical else 1
        if config.layout == "branches":
            self.network: nn.Module = BranchedCritic(
                num_members, observation_size, action_size, out_features, config, generator
            )
        elif config.block in TRUNKS:
            self.network = TRUNKS[config.block](
                num_members,
                observation_size + action_size,
                *width_and_blocks(config.hidden_sizes),
                out_features,
                activation=config.activation,
                initialization=config.initialization,
                generator=generator,
            )
        else:
            self.network = EnsembleMLP(
                num_members,
                observation_size + action_size,
                config.hidden_sizes,
                out_features,
                activation=config.activation,
                normalization=NORMALIZATION_OF_BLOCK[config.block],
                initialization=config.initialization,
                generator=generator,
            )
        self.atoms: Tensor
        if self.categorical:
            self.register_buffer(
                "atoms",
                torch.linspace(config.value_min, config.value_max, config.num_atoms),
                persistent=False,
            )
        if config.projection == "everything":
            self.after_step()

    def forward(self, inputs: Tensor, members: slice | None = None) -> Tensor:
        """Map observation and action side by side, (K, B, D + A), to raw outputs (K, B, 1 or V).

        `members` runs only those critics, and K counts only them.
        """
        return self.network(inputs, members)

    def by_batch(self, inputs: Tensor) -> Tensor:
        """Return raw outputs where batch normalization uses the batch's own statistics, and moves the running ones."""
        self.train()
        output = self(inputs)
        self.eval()
        return output

    def value(self, output: Tensor) -> Tensor:
        """Turn raw outputs (K, B, 1 or V) into expected values (K, B)."""
        if self.categorical:
            return functional.softmax(output, dim=-1) @ self.atoms
        return output.squeeze(-1)

    def smallest(self, output: Tensor) -> Tensor:
        """Of groups of raw outputs (G, C, B, 1 or V) keep, row by row, the one of smallest value, for all C."""
        if self.categorical:
            place = self.value(output).argmin(dim=1, keepdim=True)[..., None]
            smallest = output.gather(1, place.expand(-1, -1, -1, output.shape[-1]))
        else:
            smallest = output.amin(dim=1, keepdim=True)
        return smallest.expand_as(output)

    def loss(
        self,
        output: Tensor,
        reward: Tensor,
        discount: Tensor,
        next_output: Tensor,
        target_range: tuple[float, float] | None = None,
    ) -> Tensor:
        """Loss of raw outputs against the bootstrapped target, for each sample apart.

        Args:
            output: (K, B, 1 or V) raw outputs at the replayed state-actions.
            reward: (K, B) rewards (n-step sums where n-step).
            discount: (K, B) what the next value is multiplied by; 0 where the episode terminated.
            next_output: (K, B, 1 or V) raw outputs at the next state-actions, without gradient.
            target_range: what targets are clipped to, with squared errors.

        Returns:
            (K, B): squared error, or the projected target distribution's divergence from the output's: the cross
            entropy without the target's own entropy, which has no gradient but would pass for error where sampling is
            prioritized (Hessel et al. 2018).
        """
        if not self.categorical:
            target = torch.addcmul(reward, discount, next_output.squeeze(-1))
            if target_range is not None:
                target = target.clamp(*target_range)
            error = output.squeeze(-1) - target
            if delta := self.config.huber_delta:
                return torch.where(error.abs() <= delta, error.square(), 2.0 * delta * error.abs() - delta**2)
            return error.square()
        target = project_distribution(functional.softmax(next_output, dim=-1), reward, discount, self.atoms)
        cross_entropy = -(target * functional.log_softmax(output, dim=-1)).sum(dim=-1)
        return (cross_entropy - torch.special.entr(target).sum(dim=-1)).clamp_min(0.0)

    def after_step(self) -> None:
        """Keep the weights on their sphere where the block asks for it; call after each optimizer step."""
        network = self.network
        if isinstance(network, HypersphericalMLP | ResidualMLP):
            network.project_weights()
        elif self.joint_batches and isinstance(network, EnsembleMLP):
            network.project_weights(everything=self.config.projection == "everything")


def project_distribution(probabilities: Tensor, reward: Tensor, discount: Tensor, atoms: Tensor) -> Tensor:
    """Project the distribution of ``reward + discount * z`` back onto the atoms (Bellemare et al. 2017, eq. 7).

    Args:
        probabilities: (..., V) of the next value.
        reward: (...,) rewards.
        discount: (...,) discounts.
        atoms: (V,) evenly spaced, ascending.

    Returns:
        (..., V) probabilities, none below 0, each row summing to 1; mass beyond the support lies on the outer atoms.
    """
    # Of the whole support: the difference of two float32 atoms is off by so much that a position could lie beyond the
    # last atom, and a probability below 0.
    last = atoms.numel() - 1
    spacing = (atoms[-1] - atoms[0]) / last
    moved = reward.unsqueeze(-1) + discount.unsqueeze(-1) * atoms
    position = ((moved.clamp(atoms[0], atoms[-1]) - atoms[0]) / spacing).clamp_(0.0, last)
    lower = position.floor().clamp_(max=last - 1)
    upper_share = position - lower
    index = lower.long()
    projected = torch.zeros_like(probabilities)
    projected.scatter_add_(-1, index, probabilities * (1.0 - upper_share))
    return projected.scatter_add_(-1, index + 1, probabilities * upper_share)
