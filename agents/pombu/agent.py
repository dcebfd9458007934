"""POMBU: conservative policy updates on imagined data, optimistic exploration of the real task (arXiv:1911.12574).

One iteration (card, section 5): every environment runs one episode with an exploration policy of its own; the models
learn from all real data; the policy is updated policy_updates times, each time on freshly imagined trajectories from
real start states; the next exploration policies are made of it.

An iteration is long. `update` only takes the episodes in; `advance` then does a few passes of model training or one
policy update a call, and the state between any two calls is complete, so that a run can be stopped and resumed there.

alpha = beta = 0 is MBPPO. With beta = 0 exploration follows the policy itself; the released code trains exploration
policies there, too, on the plain advantage.

Other departures: the exploration policies' Adam starts afresh with each iteration; standardized observations are
clipped to 10, with 1e-4 added to their variance; the deviation that rewards are divided by is that of running sums of
clipped rewards.

Shapes: H steps, N environments (one exploration policy each), P policies, B trajectories, K members, D observation,
A action.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from agents.pombu.config import POMBUConfig
from agents.pombu.dynamics import Dynamics
from agents.pombu.imagination import Imagined, Reward, imagine
from agents.pombu.policies import Policies
from agents.pombu.policy_step import clip_gradients, objective, scaled_advantage_and_sigma, targets
from rlsuite.errors import UserError
from rlsuite.nn.ensemble import EnsembleMLP
from rlsuite.nn.exploration import RandomStream
from rlsuite.nn.normalizer import RunningNormalizer
from rlsuite.nn.reward_scaler import ReturnScaler
from rlsuite.replay.buffer import Transition

COLLECTING, MODELS, POLICY, EXPLORATION = range(4)


class POMBU(nn.Module):
    """Models, policy, values V and U, exploration policies, and where in an iteration they are.

    Args:
        observation_size: D.
        action_low: (A,) lower bounds.
        action_high: (A,) upper bounds.
        config: see POMBUConfig.
        reward: the task's known reward of observations (rows, D) and actions (rows, A).
        num_envs: N of the training environments.
        seed: of everything drawn.
        device: where everything lies.
    """

    Config: ClassVar[type[POMBUConfig]] = POMBUConfig
    Batch: ClassVar[type[Transition]] = Transition
    action_center: Tensor
    action_half_range: Tensor
    starts: Tensor
    schedule: Tensor
    fresh: Tensor
    alpha: Tensor

    def __init__(
        self,
        observation_size: int,
        action_low: Tensor,
        action_high: Tensor,
        config: POMBUConfig,
        *,
        reward: Reward,
        num_envs: int = 1,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.config, self.reward = config, reward
        action_size = action_low.numel()
        generator = torch.Generator().manual_seed(seed)
        make = lambda number: Policies(number, observation_size, action_size, config.hidden_sizes, generator)  # noqa: E731
        self.policy, self.explorers = make(1), make(num_envs)
        self.explorers.copy_of(self.policy)
        self.values, self.uncertainties = (
            EnsembleMLP(1, observation_size, config.hidden_sizes, 1, activation="tanh", generator=generator)
            for _ in range(2)
        )
        self.normalizer = RunningNormalizer(observation_size)
        self.return_scaler = ReturnScaler(num_envs, config.discount, math.inf)
        self.dynamics = Dynamics(observation_size, action_size, config.dynamics, seed=seed + 1, device=device)
        buffers = {
            "action_center": (action_high + action_low).float() / 2,
            "action_half_range": (action_high - action_low).float() / 2,
            "starts": torch.zeros(config.dynamics.capacity // config.horizon + num_envs, observation_size),
            # Stage, iteration, policy updates left, starts stored: whole numbers of the schedule.
            "schedule": torch.tensor([COLLECTING, 0, 0, 0]),
            "fresh": torch.ones(num_envs, dtype=torch.bool),
            "alpha": torch.tensor(config.alpha),
        }
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor)
        self.to(device)
        self.stream = RandomStream(seed + 2, device)
        self.policy_parameters: list[Tensor] = list(self.policy.parameters())
        self.value_parameters: list[Tensor] = [*self.values.parameters(), *self.uncertainties.parameters()]
        adam = lambda parameters: torch.optim.Adam(  # noqa: E731
            parameters, lr=config.learning_rate, eps=config.adam_epsilon
        )
        self.optimizers = {
            "policy": adam(self.policy_parameters),
            "values": adam(self.value_parameters),
            "dynamics": self.dynamics.optimizer,
        }

    # -- act ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, observation: Tensor, explore: bool) -> Tensor:
        """Return actions (N, A) in the environment's units; exploring, environment n follows exploration policy n."""
        if not explore:
            return self.greedy(observation)
        action = self.explorers.sample(self.normalizer(observation).unsqueeze(1), self.stream.generator)[:, 0]
        return torch.addcmul(self.action_center, action, self.action_half_range)

    def greedy(self, observation: Tensor) -> Tensor:
        """Return the policy's mean actions (N, A): a pure function of the weights."""
        return self.to_environment(self.policy(self.normalizer(observation).unsqueeze(0))[0])

    def to_environment(self, action: Tensor) -> Tensor:
        """Map actions in half ranges to the environment's units, clipped to its bounds."""
        return torch.addcmul(self.action_center, action.clamp(-1.0, 1.0), self.action_half_range)

    def observe(self, transition: Transition) -> None:
        """Learn how large returns are."""
        reward = transition.reward.clamp(-self.config.largest_reward, self.config.largest_reward)
        self.return_scaler.update(reward, transition.terminated | transition.truncated)

    def observe_relabelled(self, observation: Tensor) -> None:
        """Learn nothing from relabelled goals: there are none."""

    # -- an iteration -------------------------------------------------------------------------------------

    @property
    def iteration(self) -> int:
        """Iterations finished."""
        return int(self.schedule[1])

    @property
    def busy(self) -> bool:
        """Whether an iteration's work is not done yet."""
        return int(self.schedule[0]) != COLLECTING

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Take in one real episode of every environment, tensors (H, N, ...); `advance` does the work."""
        whole = (~batch.failed).all(dim=0)  # a trajectory with a failed simulation in it teaches the models nonsense
        action = (batch.action - self.action_center) / self.action_half_range
        rows = [tensor[:, whole] for tensor in (batch.observation, action.clamp(-1.0, 1.0), batch.next_observation)]
        if not whole.any() and not int(self.dynamics.count):
            raise UserError("every simulation of the first rollout failed; check the environment (see failures/)")
        if whole.any():
            self.dynamics.add(*rows)
            self.normalizer.update(rows[0].flatten(0, 1))
        # A failed simulation begins a new episode in mid-rollout: what that environment shows first is then no start.
        self._store_starts(batch.observation[0, whole & self.fresh])
        self.fresh.copy_((batch.terminated | batch.truncated)[-1])
        self.dynamics.begin_training(self.iteration)
        self.schedule[0], self.schedule[2] = MODELS, self.config.policy_updates
        return {"real_return": batch.reward.sum(dim=0).mean()}

    def _store_starts(self, starts: Tensor) -> None:
        stored = int(self.schedule[3])
        place = (stored + torch.arange(len(starts), device=starts.device)) % len(self.starts)
        self.starts[place] = starts
        self.schedule[3] = stored + len(starts)

    def advance(self) -> dict[str, Tensor]:
        """Do the next piece of an iteration's work; return its 0-d metrics."""
        stage = int(self.schedule[0])
        if stage == MODELS:
            metrics = self.dynamics.advance()
            if self.dynamics.trained:
                self.schedule[0] = POLICY
            return metrics
        if stage == POLICY:
            self._set_learning_rate()
            metrics = self._update_policy()
            self.schedule[2] -= 1
            if int(self.schedule[2]) == 0:
                self.schedule[0] = EXPLORATION
            return metrics
        self.schedule[1] += 1  # what follows belongs to the next iteration: its deviation, its learning rate
        if self.iteration < self.config.fresh_std_iterations:
            self.policy.log_std.data.zero_()
        self._set_learning_rate()
        self._make_explorers()
        self.schedule[0] = COLLECTING
        return {}

    def _set_learning_rate(self) -> None:
        share = max(0.0, 1.0 - self.iteration / self.config.decay_iterations)
        for name in ("policy", "values"):
            for group in self.optimizers[name].param_groups:
                group["lr"] = self.config.learning_rate * share

    def _imagine(self, policies: Policies, number: int, weights: Tensor | None = None) -> Imagined:
        config, generator = self.config, self.stream.generator
        stored = min(int(self.schedule[3]), len(self.starts))
        shape = (number, config.trajectories)
        chosen = torch.randint(stored, shape, generator=generator, device=self.starts.device)
        return imagine(
            self.starts[chosen],
            config.horizon,
            policies,
            self.dynamics,
            normalize=self.normalizer,
            to_environment=self.to_environment,
            to_models=lambda action: action.clamp(-1.0, 1.0),
            reward=self.reward,
            scale_reward=lambda reward: self.return_scaler(reward.clamp(-config.largest_reward, config.largest_reward)),
            value=lambda rows: self.values(rows.unsqueeze(0))[0, :, 0],
            discount=config.discount,
            largest_state=config.largest_state,
            generator=generator,
            member_weights=weights,
        )

    @torch.no_grad()
    def _targets(self, found: Imagined, observation: Tensor) -> tuple[Tensor, ...]:
        """Return standardized advantage, sigma, and the targets of V and U, (H, P, B) each."""
        config = self.config
        rows = observation.flatten(0, 2).unsqueeze(0)
        shape = found.reward.shape
        learned = targets(
            found.reward,
            found.uncertainty,
            self.values(rows).view(shape),
            self.uncertainties(rows).clamp_min(0.0).view(shape),
            discount=config.discount,
            trace_decay=config.trace_decay,
        )
        scaled = scaled_advantage_and_sigma(
            learned.advantage,
            learned.uncertainty,
            largest_advantage=config.largest_advantage,
            largest_uncertainty=config.largest_uncertainty,
            u_scale=config.u_scale,
        )
        return *scaled, learned.value, learned.uncertainty

    def _update_policy(self) -> dict[str, Tensor]:
        """Imagine, fit V and U, and step the policy conservatively."""
        found = self._imagine(self.policy, 1)
        observation = self.normalizer(found.observation)
        advantage, sigma, value_target, uncertainty_target = self._targets(found, observation)
        rows = [
            tensor.transpose(0, 1).flatten(1, 2)
            for tensor in (observation, found.action, advantage, sigma, value_target, uncertainty_target)
        ]
        metrics = self._improve(self.policy, self.policy_parameters, self.optimizers["policy"], rows, self.alpha, True)
        self._adapt_alpha(metrics["divergence"])
        left_alone = (advantage.abs() < self.alpha * sigma).float().mean()
        return metrics | {"sigma": sigma.mean(), "left_alone_share": left_alone, "alpha": self.alpha.clone()}

    def _improve(
        self,
        policies: Policies,
        parameters: list[Tensor],
        optimizer: torch.optim.Optimizer,
        rows: list[Tensor],
        alpha: Tensor | float,
        with_values: bool,
    ) -> dict[str, Tensor]:
        """Make some passes over rows (P, R, ...) of observation, action, advantage, sigma and targets of V and U."""
        config = self.config
        observation, action, advantage, sigma, value_target, uncertainty_target = rows
        number, count = advantage.shape
        with torch.no_grad():
            old = policies.log_prob(observation, action)
        sums = torch.zeros(4, device=advantage.device)
        steps = 0
        for _ in range(config.passes):
            draw = torch.rand((number, count), generator=self.stream.generator, device=advantage.device)
            for part in draw.argsort(dim=1).split(config.minibatch_size, dim=1):
                at = lambda tensor, part=part: torch.take_along_dim(  # noqa: E731
                    tensor, part.view(*part.shape, *[1] * (tensor.dim() - 2)), dim=1
                )
                seen = at(observation)
                log_ratio = policies.log_prob(seen, at(action)) - at(old)
                change = torch.expm1(log_ratio)
                gain = objective(
                    change,
                    at(advantage),
                    at(sigma),
                    clip=config.clip,
                    alpha=alpha,
                    kind=config.objective if with_values else "penalty",
                    alpha_range=config.alpha_range,
                )
                gradients = list(torch.autograd.grad(-gain.sum(), parameters))
                self._step(parameters, clip_gradients(gradients, config.gradient_norm), optimizer)
                if with_values:
                    sums[2] += self._fit_values(seen, at(value_target), at(uncertainty_target))
                sums[0] += gain.detach().mean()
                sums[1] += change.detach().abs().mean()
                sums[3] += (change - log_ratio).detach().mean()
                steps += 1
        means = sums / steps
        return {
            "objective": means[0],
            "policy_change": means[1],
            "value_loss": means[2],
            "divergence": means[3],
        }

    def _fit_values(self, observation: Tensor, value_target: Tensor, uncertainty_target: Tensor) -> Tensor:
        """Step V and U: MSE_V + 0.5 MSE_U."""
        value_loss = (self.values(observation)[..., 0] - value_target).square().mean()
        uncertainty = self.uncertainties(observation)[..., 0]  # not clamped: where it is negative it must learn
        loss = value_loss + self.config.uncertainty_weight * (uncertainty - uncertainty_target).square().mean()
        gradients = list(torch.autograd.grad(loss, self.value_parameters))
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        factor = (self.config.gradient_norm / norm.clamp_min(1e-12)).clamp(max=1.0)
        self._step(self.value_parameters, [gradient * factor for gradient in gradients], self.optimizers["values"])
        return loss.detach()

    @staticmethod
    def _step(parameters: list[Tensor], gradients: list[Tensor], optimizer: torch.optim.Optimizer) -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()

    def _adapt_alpha(self, divergence: Tensor) -> None:
        """Be more conservative where the policy moves too far, less where it hardly moves."""
        config = self.config
        if config.alpha_factor == 1.0:
            return
        low, high = config.divergence_range
        factor = torch.where(divergence > high, config.alpha_factor, 1.0)
        factor = torch.where(divergence < low, 1.0 / config.alpha_factor, factor)
        self.alpha.mul_(factor).clamp_(*config.alpha_range)

    def _make_explorers(self) -> None:
        """Make N exploration policies: each one PPO training on A + beta sigma, in models weighted at random."""
        self.explorers.copy_of(self.policy)
        if self.config.beta == 0.0:
            return
        number = self.explorers.log_std.shape[0]
        members = self.dynamics.config.num_members
        weights = torch.rand((number, members), generator=self.stream.generator, device=self.starts.device)
        found = self._imagine(self.explorers, number, weights / weights.sum(dim=1, keepdim=True))
        observation = self.normalizer(found.observation)
        advantage, sigma, *_ = self._targets(found, observation)
        optimistic = advantage + self.config.beta * sigma
        rows = [
            tensor.transpose(0, 1).flatten(1, 2)
            for tensor in (observation, found.action, optimistic, sigma, sigma, sigma)
        ]
        parameters: list[Tensor] = list(self.explorers.parameters())
        rate = self.optimizers["policy"].param_groups[0]["lr"]
        optimizer = torch.optim.Adam(parameters, lr=rate, eps=self.config.adam_epsilon)
        self._improve(self.explorers, parameters, optimizer, rows, 0.0, False)

    # -- state --------------------------------------------------------------------------------------------

    def diagnostics(self) -> dict[str, Tensor]:
        """Return what the log shows beside the metrics."""
        return {"iteration": self.schedule[1].float(), "model_passes": self.dynamics.passes.float()}
