"""Exploring episodes whose actor has noise on its weights instead of on its actions.

reason8.ai's solution of "Learning to Run" (arXiv:1804.00361): at the start of an episode, with some probability, normal
noise is added to every weight of the actor but those of normalization, whose gains and shifts it would wreck; the
actor so changed acts, with no other noise, until the episode ends. Its scale is found by bisection, so that actions
change by as much as the noise on actions would have them: their root mean square over states is its present sigma
(the measure of Plappert et al. 2018, arXiv:1706.01905). Here each scale is tried with one and the same direction of
noise, where the source draws anew at each trial, and the states are the newest that the agent has acted in, where the
source draws them from its replay.

Shapes: N environments, K actors, S states, D observation, F what actors see of it, A action.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rlsuite.nn.actors import Actors
from rlsuite.nn.ensemble import EnsembleBatchNorm, EnsembleLayerNorm
from rlsuite.nn.exploration import RandomStream

STATES = 256  # S
HIGHEST = 100.0  # scale of the noise, as in the source
HALVINGS = 30
See = Callable[[Tensor], Tensor]  # (rows, D) -> (rows, F)


class NoParameterNoise(nn.Module):
    """Stands where no episode has noise on weights."""

    def forward(self, action: Tensor, observation: Tensor, see: See, actors: Actors, pair: Tensor, std: See) -> Tensor:
        """Return the actions as they are."""
        return action

    def advance(self, ended: Tensor) -> None:
        """Do nothing."""

    def interrupt(self) -> None:
        """Do nothing."""


class ParameterNoise(nn.Module):
    """The changed actors of N environments, one each; all of their state is parameters, buffers and extra state.

    Args:
        perturbed: N actors of the sizes of those that learn; their weights do not matter.
        observation_size: D.
        probability: of an episode to have noise on weights.
        seed: of the random stream.
        device: where everything lies.
    """

    def __init__(
        self,
        perturbed: Actors,
        num_envs: int,
        observation_size: int,
        probability: float,
        *,
        seed: int,
        device: torch.device | str,
    ) -> None:
        super().__init__()
        self.probability = probability
        self.perturbed = perturbed.requires_grad_(False).eval()
        self.stream = RandomStream(seed, device)
        self.fresh: Tensor
        self.active: Tensor
        self.seen: Tensor
        self.seen_count: Tensor
        self.register_buffer("fresh", torch.ones(num_envs, dtype=torch.bool))  # an episode begins
        self.register_buffer("active", torch.zeros(num_envs, dtype=torch.bool))  # it has noise on weights
        self.register_buffer("seen", torch.zeros(STATES, observation_size))
        self.register_buffer("seen_count", torch.tensor(0))
        self.to(device)

    @torch.no_grad()
    def forward(
        self, action: Tensor, observation: Tensor, see: See, actors: Actors, pair: Tensor, std: Callable[[], Tensor]
    ) -> Tensor:
        """Return actions (N, A) in [-1, 1], those of episodes with noise on weights replaced by theirs.

        Args:
            action: (N, A), with noise of their own.
            observation: (N, D).
            see: what actors see of observations.
            actors: the K that learn.
            pair: (N,) which of them each environment follows.
            std: returns the sigma of each environment (N,) that noise on actions would have.
        """
        self._remember(observation)
        if bool(self.fresh.any()):
            self._begin(see, actors, pair, std())
        changed = self.perturbed(see(observation).unsqueeze(1))[:, 0]
        return torch.where(self.active.unsqueeze(1), changed, action)

    def _remember(self, observation: Tensor) -> None:
        newest = observation[:STATES, : self.seen.shape[1]].to(self.seen)
        place = (self.seen_count + torch.arange(len(newest), device=self.seen.device)) % STATES
        self.seen.index_copy_(0, place, newest)
        self.seen_count += len(newest)

    def _begin(self, see: See, actors: Actors, pair: Tensor, std: Tensor) -> None:
        """Draw which of the fresh episodes have noise on weights, and change their actors."""
        generator, device = self.stream.generator, self.seen.device
        chosen = torch.rand(len(pair), generator=generator, device=device) < self.probability
        base = {name: weight[pair] for name, weight in actors.named_parameters()}
        direction = {
            name: torch.randn(base[name].shape, generator=generator, device=device) for name in noisy_weights(actors)
        }
        known = (torch.arange(STATES, device=device) < self.seen_count).to(self.seen).view(1, -1, 1)
        states = see(self.seen).expand(len(pair), -1, -1)
        scale = find_scale(self.perturbed, base, direction, states, known, std)
        changed = shifted(base, direction, scale)
        rows = self.fresh & chosen
        for name, weight in self.perturbed.named_parameters():
            weight.copy_(torch.where(rows.view(-1, 1, 1), changed[name], weight))
        self.active.copy_(torch.where(self.fresh, chosen, self.active))
        self.fresh.zero_()

    def advance(self, ended: Tensor) -> None:
        """Take note of episodes that ended, (N,) bool."""
        self.fresh |= ended

    def interrupt(self) -> None:
        """Begin a new episode in every environment."""
        self.fresh.fill_(True)


def noisy_weights(actors: Actors) -> list[str]:
    """Return the names of the parameters that get noise: all but those of normalization."""
    spared = {
        f"{path}.{name}"
        for path, module in actors.named_modules()
        if isinstance(module, EnsembleLayerNorm | EnsembleBatchNorm)
        for name, _ in module.named_parameters()
    }
    return [name for name, _ in actors.named_parameters() if name not in spared]


def shifted(base: dict[str, Tensor], direction: dict[str, Tensor], scale: Tensor) -> dict[str, Tensor]:
    """Return weights (N, ...) moved by each environment's scale (N,) along their directions, where they have one."""
    factor = scale.view(-1, 1, 1)
    return base | {name: base[name] + factor * along for name, along in direction.items()}


def find_scale(
    network: nn.Module,
    base: dict[str, Tensor],
    direction: dict[str, Tensor],
    states: Tensor,
    counted: Tensor,
    target: Tensor,
) -> Tensor:
    """Return the scales (N,) of the noise at which actions change by the target (N,), found by bisection.

    Args:
        network: N actors, of which only what they compute counts, not their weights.
        base: weights (N, ...) without noise, by name.
        direction: noise of scale 1, of those that get some.
        states: (N, S, F).
        counted: (1, S, 1), 1 for states that count, else 0.
        target: root mean square of the change over states and entries of actions.
    """
    plain = functional_call(network, base, (states,))
    low, high = torch.zeros_like(target), torch.full_like(target, HIGHEST)
    entries = counted.sum() * plain.shape[-1]
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        change = functional_call(network, shifted(base, direction, middle), (states,)) - plain
        above = ((change.square() * counted).sum(dim=(1, 2)) / entries).sqrt() > target
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return low
