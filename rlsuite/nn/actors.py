"""Actors: stacked networks from observations to actions in [-1, 1], deterministic or stochastic.

Shapes: K actors, B batch, D observation, A action.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

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
from rlsuite.nn.residual import ResidualMLP

BLOCKS = ("plain", "residual")
DISTRIBUTIONS = ("deterministic", "squashed_gaussian")
LOG_STD_MAX = 2.0  # of the Gaussian before tanh, as in Haarnoja et al. 2018


class Sample(NamedTuple):
    """Actions drawn from stochastic actors.

    Attributes:
        action: (K, B, A) in [-1, 1].
        log_prob: (K, B) log density of the action.
        pre_activation: (K, B, A) mean of the Gaussian, before tanh.
    """

    action: Tensor
    log_prob: Tensor
    pre_activation: Tensor


@dataclass(frozen=True, kw_only=True)
class ActorConfig:
    """The actor block.

    Attributes:
        hidden_sizes: width of each hidden layer; of block=residual, whose widths must be equal, the width and, one less
            than the number of entries but at least one, the number of residual blocks.
        block: "plain", or "residual": residual blocks with batch normalization, all weights of norm 1 (FlashSAC,
            arXiv:2604.04539). The present and the next observations of a minibatch are one joint batch, of which the
            first half has a loss; acting and bootstrapping use the running statistics.
        activation: a key of rlsuite.nn.ensemble.ACTIVATIONS.
        layer_norm: normalize each hidden layer before its activation.
        initialization: "uniform", "orthogonal", "normal" or "xavier".
        distribution: "deterministic", or "squashed_gaussian": tanh of a Gaussian whose mean and standard deviation
            depend on the observation (SAC).
        log_std: how the Gaussian's log standard deviation is kept within [log_std_min, 2]: "clamp" (SAC), or "tanh"
            (arXiv:2002.02089), which has a gradient everywhere.
        log_std_min: its lower bound (-20: SAC; -10: FlashSAC).
        output_limit: a deterministic actor's outputs before tanh are divided so that the mean of their absolute values,
            over the action's entries, is this at most; 0 leaves them alone. Actions then cannot all saturate, where
            they would have no gradient (Wang et al. 2020, arXiv:1910.02208, equation 5, with a limit of 1).
        bottleneck: a linear layer of A units stands between the last hidden layer and the Gaussian's mean and log
            standard deviation (a quirk of the code released with arXiv:2002.02089).
    """

    hidden_sizes: tuple[int, ...] = (256, 256)
    block: str = "plain"
    activation: str = "relu"
    layer_norm: bool = False
    initialization: str = "uniform"
    distribution: str = "deterministic"
    log_std: str = "clamp"
    log_std_min: float = -20.0
    output_limit: float = 0.0
    bottleneck: bool = False

    def __post_init__(self) -> None:
        check_sizes("agent.actor", self.hidden_sizes)
        require_choice("agent.actor.block", self.block, BLOCKS)
        if self.block == "residual":
            check_one_width("agent.actor", self.block, self.hidden_sizes)
            for name in ("layer_norm", "bottleneck"):
                require(
                    not getattr(self, name),
                    f"agent.actor.{name}=true: block=residual has none; use false, or block=plain",
                )
        require_choice("agent.actor.activation", self.activation, ACTIVATIONS)
        require_choice("agent.actor.initialization", self.initialization, INITIALIZATIONS)
        require_choice("agent.actor.distribution", self.distribution, DISTRIBUTIONS)
        require_choice("agent.actor.log_std", self.log_std, ("clamp", "tanh"))
        require_finite("agent.actor.output_limit", self.output_limit, low=0.0)
        require(
            not self.output_limit or self.distribution == "deterministic",
            f"agent.actor.output_limit={self.output_limit}: it is for agent.actor.distribution=deterministic; use 0",
        )
        require(
            self.log_std == "clamp" or self.distribution == "squashed_gaussian",
            f"agent.actor.log_std={self.log_std}: only agent.actor.distribution=squashed_gaussian has one; use clamp",
        )
        require_finite("agent.actor.log_std_min", self.log_std_min)
        require(
            self.log_std_min < LOG_STD_MAX, f"agent.actor.log_std_min={self.log_std_min}: use less than {LOG_STD_MAX:g}"
        )
        require(
            self.log_std_min == -20.0 or self.distribution == "squashed_gaussian",
            f"agent.actor.log_std_min={self.log_std_min}: only agent.actor.distribution=squashed_gaussian has a log "
            "standard deviation; use -20",
        )
        require(
            not self.bottleneck or self.distribution == "squashed_gaussian",
            "agent.actor.bottleneck=true: only agent.actor.distribution=squashed_gaussian has heads behind it",
        )


class Actors(nn.Module):
    """K stacked policies ``tanh(MLP_k(observation))``; stochastic ones act greedily by their Gaussian's mean."""

    def __init__(
        self,
        num_members: int,
        observation_size: int,
        action_size: int,
        config: ActorConfig,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.action_size = action_size
        self.output_limit = config.output_limit
        self.smooth_log_std, self.log_std_min = config.log_std == "tanh", config.log_std_min
        self.stochastic = config.distribution == "squashed_gaussian"
        self.joint_batches = config.block == "residual"
        doubled = self.stochastic and not config.bottleneck
        out_features = 2 * action_size if doubled else action_size
        self.network: EnsembleMLP | ResidualMLP
        if config.block == "residual":
            self.network = ResidualMLP(
                num_members,
                observation_size,
                *width_and_blocks(config.hidden_sizes),
                out_features,
                activation=config.activation,
                initialization=config.initialization,
                generator=generator,
            )
        else:
            self.network = EnsembleMLP(
                num_members,
                observation_size,
                config.hidden_sizes,
                out_features,
                activation=config.activation,
                normalization="layer" if config.layer_norm else "none",
                initialization=config.initialization,
                generator=generator,
            )
        self.heads = None
        if config.bottleneck:
            self.heads = EnsembleLinear(
                num_members, action_size, 2 * action_size, initialization=config.initialization, generator=generator
            )

    def outputs(self, observation: Tensor, members: slice | None = None) -> Tensor:
        """Map normalized observations (K, B, D) to (K, B, A), stochastic actors' to (K, B, 2 A): mean, raw log std."""
        output = self.network(observation, members)
        return output if self.heads is None else self.heads(output, members)

    def forward(self, observation: Tensor, members: slice | None = None) -> Tensor:
        """Map normalized observations (K, B, D) to actions (K, B, A) in [-1, 1]."""
        return torch.tanh(self.pre_activation(observation, members))

    def pre_activation(self, observation: Tensor, members: slice | None = None) -> Tensor:
        """Map normalized observations (K, B, D) to what tanh squashes into actions, (K, B, A)."""
        output = self.outputs(observation, members)[..., : self.action_size]
        if self.output_limit:
            output = output / (output.abs().mean(dim=-1, keepdim=True) / self.output_limit).clamp_min(1.0)
        return output

    def gaussian(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Return stochastic actors' mean and log standard deviation before tanh, (K, B, A) each."""
        mean, log_std = self.outputs(observation).chunk(2, dim=-1)
        if self.smooth_log_std:
            half_range = 0.5 * (LOG_STD_MAX - self.log_std_min)
            return mean, self.log_std_min + half_range * (torch.tanh(log_std) + 1.0)
        return mean, log_std.clamp(self.log_std_min, LOG_STD_MAX)

    def with_noise(self, observation: Tensor, noise: Tensor) -> Tensor:
        """Return actions (K, B, A) with noise (B, A) added before tanh, stochastic actors' in units of their deviation.

        So stochastic actors act by their own law where the noise is standard normal.
        """
        if self.stochastic:
            mean, log_std = self.gaussian(observation)
            return torch.tanh(mean + log_std.exp() * noise)
        return torch.tanh(self.pre_activation(observation) + noise)

    def learning_actions(
        self, observation: Tensor, next_observation: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return actions at a minibatch's observations (K, B, D) as its loss sees them, differentiably.

        Batch-normalized actors see both observations in one joint batch and use its statistics, as critics do
        (FlashSAC); others the present ones alone.

        Returns:
            Actions (K, B, A); their log densities (K, B), None of deterministic actors; what tanh squashed (K, B, A).
        """
        rows, count = observation, observation.shape[1]
        if self.joint_batches:
            rows = torch.cat([observation, next_observation], dim=1)
            self.train()
        if self.stochastic:
            action, log_prob, pre_activation = self.sample(rows, generator)
        else:
            pre_activation = self.pre_activation(rows)
            action, log_prob = torch.tanh(pre_activation), None
        self.eval()
        return action[:, :count], None if log_prob is None else log_prob[:, :count], pre_activation[:, :count]

    def after_step(self) -> None:
        """Keep weights and scales at their norms where the block asks for it; call after each optimizer step."""
        if isinstance(self.network, ResidualMLP):
            self.network.project_weights()

    def sample(self, observation: Tensor, generator: torch.Generator) -> Sample:
        """Draw actions of stochastic actors at normalized observations (K, B, D), differentiably."""
        mean, log_std = self.gaussian(observation)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        inner = torch.addcmul(mean, log_std.exp(), noise)
        # log N(inner) - log |d tanh / d inner|, the latter as 2 (log 2 - u - softplus(-2 u)), finite for any u.
        gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
        squashing = 2.0 * (math.log(2.0) - inner - functional.softplus(-2.0 * inner))
        return Sample(torch.tanh(inner), (gaussian - squashing).sum(dim=-1), mean)


class Temperature(nn.Module):
    """K weights alpha of the entropy, each learned so that its actor's entropy comes to a target (SAC v2, eq. 18).

    Args:
        num_members: K.
        initial: alpha at first.
        target_entropy: of a whole action, in nats.
        learned: else alpha stays as it was given, also where weights with another one are loaded.
    """

    def __init__(self, num_members: int, initial: float, target_entropy: float, *, learned: bool = True) -> None:
        super().__init__()
        self.target_entropy = target_entropy
        self.log_temperature = nn.Parameter(torch.full((num_members,), math.log(initial)))
        self.initial = initial
        if not learned:
            self.register_load_state_dict_post_hook(Temperature._put_back)

    def _put_back(self, _: object) -> None:
        self.log_temperature.data.fill_(math.log(self.initial))

    def forward(self) -> Tensor:
        """Return alpha (K,)."""
        return self.log_temperature.exp()

    def loss(self, log_prob: Tensor) -> Tensor:
        """Return each member's loss (K,) for the log densities (K, B) of actions drawn."""
        return -self.log_temperature * (log_prob.mean(dim=1) + self.target_entropy)
