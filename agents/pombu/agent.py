"""POMBU: conservative policy updates on imagined data, optimistic exploration of the real task (arXiv:1911.12574).

One iteration: every environment runs one episode with an exploration policy of its own; the models
learn from all real data; the policy is updated policy_updates times, each time on freshly imagined trajectories from
real start states; the next exploration policies are made of it.

An iteration is long. `update` only takes the episodes in; `advance` then does a few passes of model training or one
policy update a call, and the state between any two calls is complete, so that a run can be stopped and resumed there.

alpha = beta = 0 is MBPPO. With beta = 0 exploration follows the policy itself; the released code trains exploration
policies there, too, on the plain advantage.

Other departures: V and U are fitted in the passes of the policy step, on its minibatches; the exploration policies'
Adam starts afresh with each iteration; imagined trajectories start where real episodes did, instead of from further
resets; V and U have the policy's epsilon of Adam, 1e-5, where the released code has 1e-8; standardized observations
are clipped to 10, with 1e-4 added to their variance; the deviation that rewards are divided by is that of running sums
of clipped rewards.

Shapes: H steps, N environments (one exploration policy each), P policies, B trajectories, K members, D observation,
A action.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from agents.pombu.config import POMBUConfig
from agents.pombu.dynamics import Dynamics
from agents.pombu.imagination import Imagined, imagine
from agents.pombu.passes import Rows, conservative, conservative_step, optimistic
from agents.pombu.policies import Policies
from agents.pombu.policy_step import scaled_advantage_and_sigma, targets
from agents.pombu.values import Values
from agents.spaces import check_vectors
from rlsuite.agent import Agent
from rlsuite.errors import UserError, require
from rlsuite.nn.action_range import ActionRange
from rlsuite.nn.exploration import RandomStream
from rlsuite.nn.normalizer import RunningNormalizer
from rlsuite.nn.reward_scaler import ReturnScaler
from rlsuite.optim.state import adam, set_learning_rate
from rlsuite.replay.buffer import Transition
from rlsuite.running.cuda_graph import GraphedPiece, Recorder
from rlsuite.running.seeding import derive_seed
from rlsuite.vector_env import EnvironmentFacts

if TYPE_CHECKING:
    from rlsuite.config.schema import TrainConfig

COLLECTING, MODELS, POLICY, EXPLORATION = range(4)


class POMBU(Agent):
    """Models, policy, values V and U, exploration policies, and where in an iteration they are.

    Observations and actions are vectors; the task's reward is a known function (`agents.pombu.imagination.imagine`),
    and every rollout a whole episode.

    Arguments as Agent's.

    Attributes:
        stage: what `advance` does next: COLLECTING (nothing), MODELS, POLICY or EXPLORATION.
        iteration: iterations finished.
        updates_left: policy updates still due in this iteration.
        starts_stored: observations that imagination can start from, met so far.
        lowest_reward: 0-d, of the real steps so far, 0 at most.
        highest_reward: 0-d, 0 at least.
        alpha: 0-d, the weight of the conservatism now.
    """

    Config: ClassVar[type[POMBUConfig]] = POMBUConfig
    learns_from = "rollouts"
    Batch: ClassVar[type[Transition]] = Transition
    config: POMBUConfig
    starts: Tensor
    fresh: Tensor
    alpha: Tensor
    lowest_reward: Tensor
    highest_reward: Tensor

    def __init__(
        self, facts: EnvironmentFacts, config: POMBUConfig, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(facts, config, seed=seed, device=device)
        if facts.known_reward is None:
            raise ValueError("the task's reward is not known")
        self.reward = facts.known_reward
        observation_size, action_size, num_envs = facts.observation_size, facts.action_size, facts.num_envs
        generator = torch.Generator().manual_seed(seed)
        make = lambda number: Policies(number, observation_size, action_size, config.hidden_sizes, generator)  # noqa: E731
        self.policy, self.explorers = make(1), make(num_envs)
        self.explorers.copy_of(self.policy)
        self.values = Values(observation_size, config.hidden_sizes, generator, see_time=config.values_see_time)
        self.normalizer = RunningNormalizer(observation_size)
        self.return_scaler = ReturnScaler(num_envs, config.discount, math.inf)
        self.action_range = ActionRange(facts.action_low, facts.action_high)
        self.dynamics = Dynamics(
            observation_size, action_size, config.dynamics, seed=seed, angles=facts.angles, device=device
        )
        # The schedule counts on the host: asking a device for a number would wait for it.
        self.stage, self.iteration, self.updates_left, self.starts_stored = COLLECTING, 0, 0, 0
        buffers = {
            "starts": torch.zeros(config.dynamics.capacity // config.horizon + num_envs, observation_size),
            "fresh": torch.ones(num_envs, dtype=torch.bool),
            "alpha": torch.tensor(config.alpha),
            "lowest_reward": torch.zeros(()),
            "highest_reward": torch.zeros(()),
        }
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor)
        self.to(device)
        self.stream = RandomStream(derive_seed(seed, "policy"), device)
        self._recorded: GraphedPiece | None = None
        self.optimizers = {
            "policy": self._adam(self.policy),
            "values": self._adam(self.values),
            "dynamics": self.dynamics.optimizer,
        }

    @classmethod
    def check(cls, config: TrainConfig, facts: EnvironmentFacts) -> None:
        """Refuse spaces that are not of vectors, unknown rewards, and numbers that do not go together."""
        check_vectors(config, facts)
        agent, rollout = config.agent, config.agent.horizon * config.num_envs
        require(
            facts.known_reward is not None,
            f"agent={config.agent_name} needs a task whose reward is a known function, such as "
            "env=FixedHorizonHalfCheetah, or one of your own with known_reward (docs/pombu.md)",
        )
        require(
            facts.max_episode_steps == agent.horizon,
            f"agent.horizon={agent.horizon}: the environment's episodes have {facts.max_episode_steps} steps; make "
            "them equal",
        )
        require(
            agent.dynamics.capacity >= rollout,
            f"agent.dynamics.capacity={agent.dynamics.capacity}: one rollout has {rollout} steps; use that or more",
        )
        require(
            max(1, round(agent.dynamics.held_out * agent.horizon)) < agent.horizon,
            f"agent.dynamics.held_out={agent.dynamics.held_out}: of {agent.horizon} steps nothing is left to learn "
            "from; use less, or a longer agent.horizon",
        )
        require(
            config.steps <= rollout * agent.decay_iterations,
            f"agent.decay_iterations={agent.decay_iterations}: the learning rate would be 0 after "
            f"{rollout * agent.decay_iterations} steps; use {-(-config.steps // rollout)} or more",
        )
        super().check(config, facts)

    def _adam(self, network: nn.Module) -> torch.optim.Optimizer:
        return adam(network.parameters(), self.config.learning_rate, epsilon=self.config.adam_epsilon)

    # -- act ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, observation: Tensor, explore: bool) -> Tensor:
        """Return actions (N, A) in the environment's units; exploring, environment n follows exploration policy n."""
        if not explore:
            return self.greedy(observation)
        action = self.explorers.sample(self.normalizer(observation).unsqueeze(1), self.stream.generator)[:, 0]
        return self.action_range.to_environment(action)

    def greedy(self, observation: Tensor) -> Tensor:
        """Return the policy's mean actions (N, A): a pure function of the weights."""
        return self.to_environment(self.policy(self.normalizer(observation).unsqueeze(0))[0])

    def to_environment(self, action: Tensor) -> Tensor:
        """Map actions in half ranges to the environment's units, clipped to its bounds."""
        return self.action_range.to_environment(action.clamp(-1.0, 1.0))

    def observe(self, transition: Transition) -> None:
        """Learn how large returns are."""
        bound = math.inf if self.config.clip_to_seen_rewards else self.config.largest_reward
        self.return_scaler.update(transition.reward.clamp(-bound, bound), transition.terminated | transition.truncated)

    def record_pieces(self, record: Recorder) -> None:
        """Let the models' steps, and the policy's conservative ones, be recorded where minibatches are whole.

        Imagination is eager, which makes the models' weights ready anew each time, and so are exploration policies,
        whose optimizer is new each time.
        """

        def step(part: Rows, _: Any) -> dict[str, Tensor]:
            return conservative_step(self.policy, self.values, part, self.optimizers, self.config, self.alpha)

        self._recorded = GraphedPiece(self, step, record=record)
        self.dynamics.recorded = GraphedPiece(self, lambda given, _: self.dynamics.fit(*given), record=record)

    # -- an iteration -------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether an iteration's work is not done yet."""
        return self.stage != COLLECTING

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Take in one real episode of every environment, tensors (H, N, ...); `advance` does the work."""
        whole = (~batch.failed).all(dim=0)  # a trajectory with a failed simulation in it teaches the models nonsense
        action = self.action_range.to_policy(batch.action)
        rows = [tensor[:, whole] for tensor in (batch.observation, action.clamp(-1.0, 1.0), batch.next_observation)]
        if not self.dynamics.count and not whole.any():
            raise UserError("every simulation of the first rollout failed; check the environment (see failures/)")
        if whole.any():
            lowest, highest = batch.reward[:, whole].aminmax()
            self.lowest_reward.clamp_(max=lowest)
            self.highest_reward.clamp_(min=highest)
            self.dynamics.add(*rows)
            self.normalizer.update(rows[0].flatten(0, 1))
        # A failed simulation begins a new episode in mid-rollout: what that environment shows first is then no start.
        self._store_starts(batch.observation[0, whole & self.fresh])
        self.fresh.copy_((batch.terminated | batch.truncated)[-1])
        self.dynamics.begin_training(self.iteration)
        self.stage, self.updates_left = MODELS, self.config.policy_updates
        return {"real_return": batch.reward.sum(dim=0).mean()}

    def _store_starts(self, starts: Tensor) -> None:
        place = (self.starts_stored + torch.arange(len(starts), device=starts.device)) % len(self.starts)
        self.starts[place] = starts
        self.starts_stored += len(starts)

    def advance(self) -> dict[str, Tensor]:
        """Do the next piece of an iteration's work; return its 0-d metrics."""
        if self.stage == MODELS:
            metrics = self.dynamics.advance()
            if self.dynamics.trained:
                self.stage = POLICY
            return metrics
        if self.stage == POLICY:
            self._set_learning_rate()
            metrics = self._update_policy()
            self.updates_left -= 1
            if self.updates_left == 0:
                self.stage = EXPLORATION
            return metrics
        self.iteration += 1  # what follows belongs to the next iteration: its deviation, its learning rate
        if self.iteration < self.config.fresh_std_iterations:
            self.policy.log_std.data.zero_()
        self._set_learning_rate()
        self._make_explorers()
        self.stage = COLLECTING
        return {}

    def _learning_rate(self) -> float:
        return self.config.learning_rate * max(0.0, 1.0 - self.iteration / self.config.decay_iterations)

    def _set_learning_rate(self) -> None:
        for name in ("policy", "values"):
            set_learning_rate(self.optimizers[name], self._learning_rate())

    def imagined(self, policies: Policies, number: int, weights: Tensor | None = None) -> Imagined:
        """Roll policies out in the models from real start states.

        Args:
            policies: P of them.
            number: P.
            weights: (P, K) of each policy's members, of any sum; None for equal ones.
        """
        config, generator = self.config, self.stream.generator
        stored = min(self.starts_stored, len(self.starts))
        shape = (number, config.trajectories)
        largest = torch.full_like(self.highest_reward, config.largest_reward)
        bounds = (self.lowest_reward, self.highest_reward) if config.clip_to_seen_rewards else (-largest, largest)
        chosen = torch.randint(stored, shape, generator=generator, device=self.starts.device)
        return imagine(
            self.starts[chosen],
            config.horizon,
            policies,
            self.dynamics.predictor(),
            normalize=self.normalizer,
            to_environment=self.to_environment,
            to_models=lambda action: action.clamp(-1.0, 1.0),
            reward=self.reward,
            scale_reward=lambda reward: self.return_scaler(reward.clamp(*bounds)),
            value=self.values.value,
            discount=config.discount,
            largest_state=config.largest_state,
            generator=generator,
            member_weights=weights,
        )

    @torch.no_grad()
    def _rows(self, found: Imagined, policies: Policies, beta: float) -> Rows:
        """Return what is learned from imagined trajectories; advantages have beta times sigma added."""
        config, shape = self.config, found.reward.shape
        observation = self.normalizer(found.observation)
        flat = observation.flatten(0, 2)
        left = 1.0 - torch.arange(len(found.reward), device=flat.device) / len(found.reward)
        left = left.view(-1, 1, 1).expand(shape)
        learned = targets(
            found.reward,
            found.uncertainty,
            self.values.value(flat, left.flatten()).view(shape),
            self.values.uncertainty(flat, left.flatten()).view(shape),
            discount=config.discount,
            trace_decay=config.trace_decay,
        )
        advantage, sigma = scaled_advantage_and_sigma(
            learned.advantage,
            learned.uncertainty,
            largest_advantage=config.largest_advantage,
            largest_uncertainty=config.largest_uncertainty,
            u_scale=config.u_scale,
        )
        columns = (observation, found.action, advantage + beta * sigma, sigma, learned.value, learned.uncertainty, left)
        rows = [tensor.transpose(0, 1).flatten(1, 2) for tensor in columns]  # (H, P, B, ...) to (P, H * B, ...)
        return Rows(*rows, old=policies.log_prob(rows[0], rows[1]))

    def _update_policy(self) -> dict[str, Tensor]:
        """Imagine, fit V and U, and step the policy conservatively."""
        found = self.imagined(self.policy, 1)
        rows = self._rows(found, self.policy, beta=0.0)
        metrics = conservative(
            self.policy,
            self.values,
            rows,
            self.optimizers,
            self.config,
            self.alpha,
            self.stream.generator,
            self._recorded,
        )
        metrics |= {
            "imagined_return": self.return_scaler.unscaled(found.reward).sum(dim=0).mean(),
            "std": self.policy.log_std.detach().exp().mean(),
            "sigma": rows.sigma.mean(),
            "left_alone_share": (rows.advantage.abs() < metrics["alpha"] * rows.sigma).float().mean(),
        }
        self._adapt_alpha(metrics["divergence"])
        return metrics

    def _adapt_alpha(self, divergence: Tensor) -> None:
        """Be more conservative where a policy step has gone too far, less where it hardly moved.

        Args:
            divergence: 0-d, the approximate one of the whole step, measured on all of its rows after its last pass.
        """
        config = self.config
        if config.alpha_factor == 1.0 or config.alpha == 0.0:
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
        number, generator = self.explorers.log_std.shape[0], self.stream.generator
        members = self.dynamics.config.num_members
        weights = torch.rand((number, members), generator=generator, device=self.starts.device)  # of any sum
        rows = self._rows(self.imagined(self.explorers, number, weights), self.explorers, beta=self.config.beta)
        optimizer = self._adam(self.explorers)
        set_learning_rate(optimizer, self._learning_rate())
        optimistic(self.explorers, rows, optimizer, self.config, generator)

    # -- state --------------------------------------------------------------------------------------------

    def diagnostics(self) -> dict[str, Tensor]:
        """Return what the log shows beside the metrics."""
        return {
            "iteration": torch.tensor(float(self.iteration)),
            "model_passes": torch.tensor(float(self.dynamics.passes)),
        }

    def get_extra_state(self) -> Tensor:
        """Return the schedule, and the alpha of the config that the present one has grown from."""
        counts = (self.stage, self.iteration, self.updates_left, self.starts_stored)
        return torch.tensor([*counts, self.config.alpha], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Continue from get_extra_state; where the config has another alpha now, alpha starts anew from it."""
        *counts, configured = state.tolist()
        self.stage, self.iteration, self.updates_left, self.starts_stored = map(int, counts)
        if configured != self.config.alpha:
            self.alpha.fill_(self.config.alpha)
        if self.config.alpha_factor > 1.0 and self.config.alpha > 0.0:
            self.alpha.clamp_(*self.config.alpha_range)
