"""Exploration noise whose whole state (streams, held noise, episode counts) is buffers of a module.

Shapes: N environments, A action.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlsuite.distributed import anew, rank_seed, ranks
from rlsuite.errors import require, require_choice, require_finite
from rlsuite.running.seeding import restore_generator

SCHEDULES = ("constant", "linear", "cosine")
HOLD_LAWS = ("fixed", "zeta")


class RandomStream(nn.Module):
    """A torch.Generator that travels with state_dict, so that a resumed run draws the same numbers; a rank its own."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.generator = torch.Generator(device=device).manual_seed(rank_seed(seed))

    def begin_anew(self) -> None:
        """Go on as another stream on each rank, where it was saved by another number of ranks."""
        self.generator.manual_seed(anew(self.generator.get_state().numpy().tobytes()))

    def get_extra_state(self) -> Tensor:
        """Return the generator's state, a uint8 tensor."""
        return self.generator.get_state().clone()

    def set_extra_state(self, state: Tensor) -> None:
        """Continue from a state returned by get_extra_state."""
        restore_generator(self.generator, state)


@dataclass(frozen=True, kw_only=True)
class ExplorationConfig:
    """Gaussian noise on the actions, in units of half the action range.

    Attributes:
        std: standard deviation sigma at the start of the first episode.
        schedule: of sigma over environment steps: "constant", or "linear" or "cosine" from std to final_std.
        final_std: sigma from decay_steps on; null with schedule=constant.
        decay_steps: environment steps, over all environments and from the first, in which sigma gets there.
        hold: decisions for which one draw is kept, of hold_law=zeta the most; draws end with their episode.
        hold_law: "fixed", or "zeta": each draw of each environment is kept for a random number n of decisions, with
            P(n) in proportion to n^-2 (FlashSAC, arXiv:2604.04539, with hold=16: 2.1 on the mean).
        reversion: theta of an Ornstein-Uhlenbeck process: the noise x of a decision is that of the one before, plus
            -theta x dt + sigma sqrt(dt) times a normal draw, from 0 at an episode's start; 0: draws of their own.
        time_step: dt of that process (1: Lillicrap et al. 2016, with theta 0.15 and sigma 0.2; 0.01: reason8.ai's).
        parameter_noise: chance of an episode to have noise on the actor's weights instead, of the same effect on
            actions (rlsuite/nn/parameter_noise.py); 0: none has.
        before_tanh: the noise is added before the actors' tanh. A stochastic actor then draws none of its own; the
            noise, of which std is a factor, is in units of its standard deviation.
        episode_multipliers: episode k uses sigma times ``episode_multipliers[k % len]``.
        decision_decay: factor on sigma at each decision within an episode.
        episode_decay: factor on the starting sigma at each episode started.
        env_multiplier_min: the first environment uses sigma times this, as does a single one.
        env_multiplier_max: the last environment uses sigma times this, those between evenly spaced factors.
        random_probability: chance of an environment's action to be uniformly random instead, at each decision anew.
    """

    std: float = 0.1
    schedule: str = "constant"
    final_std: float | None = None
    decay_steps: int = 0
    hold: int = 1
    hold_law: str = "fixed"
    reversion: float = 0.0
    time_step: float = 1.0
    parameter_noise: float = 0.0
    before_tanh: bool = False
    episode_multipliers: tuple[float, ...] = (1.0,)
    decision_decay: float = 1.0
    episode_decay: float = 1.0
    env_multiplier_min: float = 1.0
    env_multiplier_max: float = 1.0
    random_probability: float = 0.0

    def __post_init__(self) -> None:
        for name in ("std", "decision_decay", "episode_decay", "env_multiplier_min"):
            require_finite(f"agent.exploration.{name}", getattr(self, name), low=0.0)
        require_finite("agent.exploration.env_multiplier_max", self.env_multiplier_max, low=self.env_multiplier_min)
        require_choice("agent.exploration.schedule", self.schedule, SCHEDULES)
        if self.schedule == "constant":
            require(
                self.final_std is None and self.decay_steps == 0,
                "agent.exploration.schedule=constant: final_std and decay_steps would go unused; use schedule=linear "
                "or cosine, or leave those two out",
            )
        else:
            require(
                self.final_std is not None,
                f"agent.exploration.final_std=null: schedule={self.schedule} needs a value, such as 0.05",
            )
            require_finite("agent.exploration.final_std", self.final_std or 0.0, low=0.0)
            require(
                1 <= self.decay_steps <= 10**15,
                f"agent.exploration.decay_steps={self.decay_steps}: schedule={self.schedule} needs 1 to 10^15",
            )
        require(
            0.0 <= self.random_probability <= 1.0,
            f"agent.exploration.random_probability={self.random_probability}: use a value in [0, 1]",
        )
        require(self.hold >= 1, f"agent.exploration.hold={self.hold}: use 1 or more")
        require_choice("agent.exploration.hold_law", self.hold_law, HOLD_LAWS)
        require(
            self.hold_law == "fixed" or self.hold >= 2,
            f"agent.exploration.hold={self.hold}: hold_law=zeta keeps no draw for longer than this; use 2 or more",
        )
        self._check_process()
        multipliers = list(self.episode_multipliers)
        require(
            bool(multipliers) and all(0.0 <= factor < math.inf for factor in multipliers),
            f"agent.exploration.episode_multipliers={multipliers}: use a list of factors, such as [1]",
        )

    def _check_process(self) -> None:
        """Refuse a correlated process that would not settle or is held, and chances that are none."""
        reversion, step, chance = self.reversion, self.time_step, self.parameter_noise
        require_finite("agent.exploration.reversion", reversion, low=0.0)
        require_finite("agent.exploration.time_step", step, above=0.0)
        require(
            reversion * step <= 1.0,
            f"agent.exploration.reversion={reversion}: times time_step={step} it overshoots 0; use a product up to 1",
        )
        require(
            step == 1.0 or reversion > 0.0,
            f"agent.exploration.time_step={step}: draws are independent; use agent.exploration.reversion above 0",
        )
        require(
            reversion == 0.0 or self.hold == 1,
            f"agent.exploration.hold={self.hold}: correlated noise changes at each decision; use 1, or reversion=0",
        )
        require(0.0 <= chance <= 1.0, f"agent.exploration.parameter_noise={chance}: use a value in [0, 1]")
        require(
            chance == 0.0 or not self.before_tanh,
            f"agent.exploration.parameter_noise={chance}: it takes the place of noise on actions; use "
            "before_tanh=false",
        )


class GaussianExploration(nn.Module):
    """Adds noise to actions in [-1, 1] and clips: plain Gaussian noise and what papers made of it in one.

    - the defaults: the noise of TD3 (Fujimoto et al. 2018).
    - hold 5, multipliers (1, 2, 0), decays 0.98 and 0.999 and std 1.0: that of arXiv:1712.08987 (0.5 there, on
      actions in [0, 1], whose half range is 0.5).
    - std 0.2 and random_probability 0.3: that of HER's DDPG (Plappert et al. 2018, arXiv:1802.09464).
    - std 0.4, reversion 0.1, time_step 0.01, a linear schedule and parameter_noise 0.3: reason8.ai's in "Learning to
      Run" (sigma 0.2 there, on actions in [0, 1]).
    - std 1, hold 16, hold_law zeta and before_tanh: that of FlashSAC, which has one count for all environments, running
      on through their episodes' ends, where here each has its own.
    - env_multiplier_min and _max: a mix of cautious and bold environments, as in FastTD3 (Seo et al. 2025), which
      draws each environment's factor anew with every episode; here they are fixed and evenly spaced.

    Episodes are numbered in the order in which they start over all environments; of R ranks, in the order of their own
    with R - 1 numbers left out between two, which the others have. Environment steps are those that
    advance() was told of, whoever chose their actions, so a schedule also runs through the random start of training.
    """

    def __init__(
        self,
        num_envs: int,
        action_size: int,
        config: ExplorationConfig,
        *,
        seed: int,
        device: torch.device | str,
    ) -> None:
        super().__init__()
        self.config = config
        self.stream = RandomStream(seed, device)
        self.plain = (
            config.hold == 1
            and config.reversion == 0.0
            and not config.before_tanh
            and config.schedule == "constant"
            and config.decision_decay == config.episode_decay == 1.0
            and len(config.episode_multipliers) == 1
            and config.env_multiplier_min == config.env_multiplier_max
            and config.random_probability == 0.0
        )
        self.decision: Tensor
        self.episode: Tensor
        self.episodes_started: Tensor
        self.steps: Tensor
        self.noise: Tensor
        self.multipliers: Tensor
        self.env_multipliers: Tensor
        self.register_buffer("decision", torch.zeros(num_envs, dtype=torch.int64))
        here = ranks()
        self.num_ranks, total = here.size, num_envs * here.size
        own = slice(here.first(total), here.first(total) + num_envs)
        self.register_buffer("episode", torch.arange(total)[own])
        self.register_buffer("episodes_started", torch.tensor(total + here.rank))
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("noise", torch.zeros(num_envs, action_size))
        self.left: Tensor
        self.hold_shares: Tensor
        if config.hold_law == "zeta":  # decisions that each draw is still kept for
            self.register_buffer("left", torch.zeros(num_envs, dtype=torch.int64))
            shares = torch.arange(1, config.hold + 1, dtype=torch.float64).pow(-2.0).cumsum(0)
            self.register_buffer("hold_shares", (shares / shares[-1]).float(), persistent=False)
        self.register_buffer("multipliers", torch.tensor(config.episode_multipliers), persistent=False)
        spread = torch.linspace(config.env_multiplier_min, config.env_multiplier_max, total)[own]
        self.register_buffer("env_multipliers", spread, persistent=False)
        self.to(device)

    @torch.no_grad()
    def forward(self, action: Tensor) -> Tensor:
        """Return actions (N, A) with noise, clipped to [-1, 1]; with before_tanh they have it already, by held()."""
        if self.plain:
            config = self.config
            draw = torch.randn(action.shape, generator=self.stream.generator, device=action.device)
            scale = config.std * config.episode_multipliers[0] * config.env_multiplier_min
            return torch.add(action, draw, alpha=scale).clamp_(-1.0, 1.0)
        if not self.config.before_tanh:
            action = (action + self.held()).clamp_(-1.0, 1.0)
        return self.sometimes_random(action) if self.config.random_probability else action

    @torch.no_grad()
    def held(self) -> Tensor:
        """Return each environment's noise (N, A) for this decision: drawn anew, or still the one of before."""
        draw = torch.randn(self.noise.shape, generator=self.stream.generator, device=self.noise.device)
        if self.config.reversion:
            step = self.config.time_step
            kept = self.noise * (1.0 - self.config.reversion * step)
            self.noise.copy_(torch.addcmul(kept, draw, self.std().unsqueeze(-1), value=math.sqrt(step)))
            return self.noise
        fresh = self._fresh().unsqueeze(-1)
        self.noise.copy_(torch.where(fresh, draw * self.std().unsqueeze(-1), self.noise))
        return self.noise

    def _fresh(self) -> Tensor:
        """Return which environments (N,) draw anew."""
        if self.config.hold_law == "fixed":
            return self.decision % self.config.hold == 0
        fresh = self.left == 0
        draw = torch.rand(fresh.shape, generator=self.stream.generator, device=fresh.device)
        self.left.copy_(torch.where(fresh, torch.searchsorted(self.hold_shares, draw, right=True) + 1, self.left))
        return fresh

    def sometimes_random(self, action: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Replace rows of actions (N, A) by uniform ones in [-1, 1], each with the config's probability.

        Args:
            action: of any number of rows.
            generator: of the draws; None for the exploration's own.
        """
        shape = (action.shape[0], 1 + action.shape[1])
        draw = torch.rand(shape, generator=generator or self.stream.generator, device=action.device)
        return torch.where(draw[:, :1] < self.config.random_probability, 2.0 * draw[:, 1:] - 1.0, action)

    def std(self) -> Tensor:
        """Return each environment's present sigma (N,)."""
        config = self.config
        start = self.scheduled_std() * config.episode_decay ** self.episode.to(torch.float32)
        multiplier = self.multipliers[self.episode % len(self.multipliers)] * self.env_multipliers
        return start * multiplier * config.decision_decay ** self.decision.to(torch.float32)

    def scheduled_std(self) -> Tensor | float:
        """Return sigma at the present environment step, 0-d; arithmetic on the device alone."""
        config = self.config
        if config.final_std is None:
            return config.std
        share = (self.steps / config.decay_steps).clamp(max=1.0)
        if config.schedule == "cosine":
            share = 0.5 - 0.5 * torch.cos(math.pi * share)
        return config.std + (config.final_std - config.std) * share

    def begin_anew(self) -> None:
        """Number further episodes apart from those of other ranks, where another number of ranks saved these."""
        self.episodes_started.add_(ranks().rank)

    def interrupt(self) -> None:
        """Begin a new episode in every environment, without a step: theirs could not go on."""
        self._begin(torch.ones_like(self.decision, dtype=torch.bool))

    @torch.no_grad()
    def advance(self, ended: Tensor) -> None:
        """Count a decision; environments whose episode ended (N,) bool start their next one."""
        self.steps.add_(len(ended) * self.num_ranks)
        self.decision.add_(1)
        if self.config.hold_law == "zeta":
            self.left.sub_(1).clamp_(min=0)
        self._begin(ended)

    @torch.no_grad()
    def _begin(self, ended: Tensor) -> None:
        self.decision.masked_fill_(ended, 0)
        if self.config.hold_law == "zeta":
            self.left.masked_fill_(ended, 0)
        if self.config.reversion:
            self.noise.masked_fill_(ended.unsqueeze(-1), 0.0)
        number = self.episodes_started + (ended.cumsum(0) - 1) * self.num_ranks
        self.episode.copy_(torch.where(ended, number, self.episode))
        self.episodes_started.add_(ended.sum() * self.num_ranks)
