"""A policy attacked where it acts: its environment shows it changed observations, and what it earns is counted.

States are attacked in standard deviations of each feature, so that eps means the same for all of them; pictures in
shares of their range, and what comes back are bytes again.

Shapes: N environments, D observation, A action.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from envs.evaluation.attacks.attack import Attack, Objective
from envs.wrapper import ObservationWrapper
from rlsuite.nn.normalizer import RunningNormalizer
from rlsuite.running.seeding import derive_seed, restore_generator

Perturb = Callable[[Tensor, torch.Generator], Tensor]  # observations (N, D) -> changed ones
ObjectiveAt = Callable[[Tensor], Objective]  # true observations (N, D) -> what an attack makes large, of changed ones


class AttackedObservation(ObservationWrapper):
    """Environments whose observations an attack has changed. What happens in them does not change.

    Args:
        env: the environments.
        perturb: observations, and the generator to draw from, to changed observations.
        seed: of the generator, until a reset has a seed.
    """

    def __init__(self, env: Any, perturb: Perturb, *, seed: int = 0) -> None:
        super().__init__(env)
        self.perturb = perturb
        self.generator = torch.Generator().manual_seed(derive_seed(seed, "attack"))

    def begin(self, rows: Tensor, seed: int | None) -> None:
        """Restart the stream of draws with a seed."""
        if seed is not None:
            self.generator.manual_seed(derive_seed(seed, "attack"))

    def see(self, observation: Tensor) -> Tensor:
        """Return attacked observations (N, D)."""
        return self.perturb(observation, self.generator)

    def own_state(self) -> dict[str, Tensor]:
        """Return the generator's state."""
        return {"generator": self.generator.get_state()}

    def load_own_state(self, state: dict[str, Tensor]) -> None:
        """Restore it."""
        restore_generator(self.generator, state["generator"])


def on_states(attack: Attack, objective_at: ObjectiveAt, eps: float, unit: Tensor) -> Perturb:
    """Return how states are attacked: within eps units of each feature.

    Args:
        attack: the attack.
        objective_at: of true observations; its objectives are of changed ones.
        eps: in units.
        unit: (D,) of each feature; see `feature_units`.
    """

    def perturb(observation: Tensor, generator: torch.Generator) -> Tensor:
        if eps == 0:
            return observation
        objective, size = objective_at(observation), unit.to(observation)
        still = torch.zeros_like(observation)
        change = attack.perturb(lambda change: objective(observation + size * change), still, None, eps, generator)
        return observation + size * change

    return perturb


def on_pictures(attack: Attack, objective_at: ObjectiveAt, eps: float) -> Perturb:
    """Return how pictures (N, C, H, W) are attacked: within eps of their range; of bytes, what is rounded to bytes."""

    def perturb(observation: Tensor, generator: torch.Generator) -> Tensor:
        if eps == 0:
            return observation
        bytes_in = observation.dtype == torch.uint8
        pictures = observation.float() / 255.0 if bytes_in else observation
        changed = attack.perturb(objective_at(pictures), pictures, (0.0, 1.0), eps, generator)
        return (changed * 255.0).round().to(torch.uint8) if bytes_in else changed

    return perturb


def feature_units(module: nn.Module, states: Tensor) -> Tensor:
    """Return what eps counts in (D,): standard deviations of the network's own normalizer, or else of states (M, D)."""
    for part in module.modules():
        if isinstance(part, RunningNormalizer):
            return 1.0 / part.scale[0, 0]
    return states.float().std(0)


def action_change(policy: nn.Module, half_range: Tensor) -> ObjectiveAt:
    """Return how far actions move, |pi(x') - pi(x)|^2 (N,) in half action ranges.

    Zhang et al. 2020 (arXiv:2003.08938, section 3.4: maximal action difference).
    """

    def at(observation: Tensor) -> Objective:
        with torch.no_grad():
            action = policy(observation)
        scale = half_range.to(action)
        return lambda changed: ((policy(changed) - action) / scale).square().sum(1)

    return at


def lost_value(policy: nn.Module, value: Callable[[Tensor, Tensor], Tensor]) -> ObjectiveAt:
    """Return minus the value of what the policy does, -Q(x, pi(x')) (N,): x is what is, x' what is seen.

    Pattanaik et al. 2018 (arXiv:1712.03632, section 3), with the true state in the critic.
    """
    return lambda observation: lambda changed: -value(observation, policy(changed))
