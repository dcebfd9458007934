"""ACE: actor-critic ensemble (arXiv:1712.08987, "Learning to Run with Actor-Critic Ensemble").

Several DDPG actor-critic pairs learn side by side on shared rollouts and replay. At inference N actors propose
an action each, M critics score every proposal, and the proposal of highest mean score is executed: critics veto
the "dooming" actions that one deterministic actor now and then proposes. AxCy means x actors and y critics;
A1C0 is plain DDPG.

Not here, because they belong to the task and not to the agent: the paper's 76 features, its shaped reward and
its frame skips (4 in training, 1 at test).

Shapes: N actors, M critics, R rows (environments or replayed states), K pairs, B batch, D observation, A action.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from agents.actor_critic import ActorCritic
from agents.actor_critic_config import ActorCriticConfig
from agents.stacking import stack_members
from rlsuite.errors import UserError, require, require_choice
from rlsuite.nn.critics import BATCH_NORMALIZED, Critics
from rlsuite.nn.embedding import make_embedding
from rlsuite.nn.normalizer import RunningNormalizer
from rlsuite.vector_env import EnvironmentFacts


@dataclass(frozen=True, kw_only=True)
class ACEConfig(ActorCriticConfig):
    """ACE: everything of ActorCriticConfig, and the ensemble.

    Attributes:
        num_actors: N, the x of AxCy: how many of the pairs' actors propose at inference; 0 means all.
        num_scoring_critics: M, the y of AxCy: how many of the pairs' critics score; -1 means all, 0 means that
            the first actor acts alone.
        train_with_ensemble: bootstrap from the ensemble's chosen action, and let actors ascend the mean of all
            critics (the paper's second use).
        bootstrap_from: "pair" (the smallest value of the pair's own critics) or "neighbours" (the smallest of its
            own and the next pair's: TD3's clipped double Q, of critics that are there anyway; a single pair has no
            neighbour).
        normalize_scores: standardize each critic's scores over the proposals before the mean; wanted where
            members have different discounts.
        collect_with: "members" (episode k follows pair k mod K: varied data) or "ensemble" (the chosen
            proposal, with noise).
    """

    num_pairs: int = 5
    num_actors: int = 0
    num_scoring_critics: int = -1
    train_with_ensemble: bool = False
    bootstrap_from: str = "pair"
    normalize_scores: bool = False
    collect_with: str = "members"

    def __post_init__(self) -> None:
        super().__post_init__()
        pairs = self.num_pairs
        require(0 <= self.num_actors <= pairs, f"agent.num_actors={self.num_actors}: use 0 (all) to {pairs}")
        require(
            -1 <= self.num_scoring_critics <= pairs,
            f"agent.num_scoring_critics={self.num_scoring_critics}: use -1 (all) to {pairs}",
        )
        require(
            not self.train_with_ensemble or self.actor.distribution == "deterministic",
            "agent.train_with_ensemble=true: the ensemble's choice has no entropy; use a deterministic actor",
        )
        require_choice("agent.collect_with", self.collect_with, ("members", "ensemble"))
        require(
            self.collect_with == "members" or self.exploration.parameter_noise == 0.0,
            f"agent.exploration.parameter_noise={self.exploration.parameter_noise}: it changes one actor an episode; "
            "use agent.collect_with=members",
        )
        require_choice("agent.bootstrap_from", self.bootstrap_from, ("pair", "neighbours"))
        require(
            self.bootstrap_from == "pair" or self.critic.block not in BATCH_NORMALIZED,
            "agent.bootstrap_from=neighbours: batch-normalized critics see their own pair's batch alone; use pair",
        )


class ACE(ActorCritic):
    """An ensemble of DDPG pairs; arguments as Agent's."""

    Config: ClassVar[type[ActorCriticConfig]] = ACEConfig
    config: ACEConfig

    def __init__(
        self, facts: EnvironmentFacts, config: ACEConfig, *, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(facts, config, seed=seed, device=device)
        self.num_actors = self.config.num_actors or self.config.num_pairs
        critics = self.config.num_scoring_critics
        self.num_scoring_critics = self.config.num_pairs if critics < 0 else critics
        self.chosen_count: Tensor
        self.score_margin: Tensor
        device = self.action_range.center.device
        # Diagnostics of the log, not state of the agent: they do not travel with checkpoints.
        counts = {"chosen_count": self.num_actors, "score_margin": 2}
        for name, size in counts.items():
            self.register_buffer(name, torch.zeros(size, dtype=torch.float64, device=device), persistent=False)
        self.counted: Tensor | None = None

    # -- act ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, observation: Tensor, explore: bool) -> Tensor:
        """Return actions (R, A) in the environment's units for observations (R, D)."""
        if explore and self.config.collect_with == "members":
            return super().act(observation, explore)
        action, scores = self.decide(observation, explore)
        if scores is not None:
            self._record_choice(scores)
        return self.action_range.to_environment(self.exploration(action) if explore else action)

    def greedy(self, observation: Tensor) -> Tensor:
        """Return the ensemble's actions (R, A): a pure function of the weights, which can be exported."""
        return self.action_range.to_environment(self.decide(observation, False)[0])

    def decide(self, observation: Tensor, explore: bool) -> tuple[Tensor, Tensor | None]:
        """Return the chosen actions (R, A) in [-1, 1] and the scores (N, R); None where nothing is to choose."""
        proposals = self.propose(observation, explore)[: self.num_actors]
        if self.num_scoring_critics == 0 or self.num_actors == 1:
            return proposals[0], None
        scores = self.mean_scores(observation, proposals, self.num_scoring_critics, explore)
        return choose(proposals, scores), scores

    def mean_scores(self, observation: Tensor, proposals: Tensor, num_critics: int, explore: bool = False) -> Tensor:
        """Score proposals: q_i = (1/M) sum_j Q_j(s, a_i), as the paper's ensemble does.

        Args:
            observation: (R, D) raw.
            proposals: (N, R, A) in [-1, 1].
            num_critics: M, the first M pairs' critics score.
            explore: whether the proposals are of the actors that explore, which are never the slow copies.

        Returns:
            (N, R).
        """
        observation = self.see(observation)  # (R, D + Z), or (K, R, D + Z) where members have their own statistics
        observation = self.for_members(observation, self.config.num_pairs)[:num_critics]
        critics = self._critics(slow=self.config.act_with_targets and not explore)
        return self._mean_scores(observation, proposals, critics)

    def _critics(self, *, slow: bool) -> Critics:
        return self.target_critics if slow and self.critics.slow_copies else self.critics

    def _mean_scores(self, observation: Tensor, proposals: Tensor, critics: Critics) -> Tensor:
        """Score proposals (N, R, A) in states (M, R, D + Z), as the first M pairs see them: (N, R)."""
        num_critics, (num_actors, num_rows, _) = len(observation), proposals.shape
        rows = observation[:, None].expand(-1, num_actors, -1, -1)
        inputs = self.embedding.join(rows, proposals.expand(num_critics, -1, -1, -1)).flatten(1, 2)
        scores = self.pair_values(inputs, critics).unflatten(1, (num_actors, num_rows))
        if self.config.normalize_scores:
            scores = standardize(scores)
        return scores.mean(dim=0)

    def pair_values(self, inputs: Tensor, critics: Critics) -> Tensor:
        """Return the values (M, rows) the first M pairs give to their joined inputs (M, rows, ...).

        A pair with several critics gives the smallest of their values, the one it bootstraps from.
        """
        num_critics, count = len(inputs), self.config.num_critics
        values = critics.value(critics(self._per_critic(inputs), slice(0, num_critics * count)))
        return values.unflatten(0, (num_critics, count)).amin(dim=1)

    def count_only(self, rows: Tensor | None) -> None:
        """Let diagnostics count only these rows (R,) bool of the next decisions, those within an episode; None: all."""
        self.counted = rows

    def _record_choice(self, scores: Tensor) -> None:
        best = scores.topk(2, dim=0).values.double()
        rows = torch.ones_like(best[0]) if self.counted is None else self.counted.to(best)
        self.chosen_count += torch.bincount(scores.argmax(dim=0), weights=rows, minlength=self.num_actors)
        self.score_margin += torch.stack([((best[0] - best[1]) * rows).sum(), rows.sum()])

    def diagnostics(self) -> dict[str, Tensor]:
        """Return what was chosen since the last call: every choice (n,) int64, each actor's share, the score margin."""
        counts, margin = self.chosen_count.clone(), self.score_margin[0] / self.score_margin[1]
        if not counts.any():
            return {}
        self.chosen_count.zero_()
        self.score_margin.zero_()
        choices = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts.long())
        shares = {f"chosen_share_{place}": share for place, share in enumerate(counts / counts.sum())}
        return {"chosen_actor": choices, "score_margin": margin, **shares}

    # -- update: only what an ensemble changes --------------------------------------------------------------

    def bootstrap_action(self, next_observation: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the actions (K, B, A) to bootstrap from: each pair's own, or the ensemble's choice."""
        if not self.config.train_with_ensemble:
            return super().bootstrap_action(next_observation)
        rows = next_observation.flatten(0, 1)
        proposals = self.target_actors(self.for_members(rows, self.config.num_pairs))[: self.num_actors]
        chosen = proposals[0]
        if self.num_scoring_critics and self.num_actors > 1:  # as decide() chooses, by the slow copies
            judged = self.for_members(rows, self.num_scoring_critics)
            chosen = choose(proposals, self._mean_scores(judged, proposals, self._critics(slow=True)))
        return self.smooth(chosen.unflatten(0, next_observation.shape[:2])), None

    def bootstrap_output(self, next_observation: Tensor, next_action: Tensor) -> Tensor:
        """Return the raw outputs (K * C, B, 1 or V) that are bootstrapped: of the own critics, or of two pairs'."""
        if self.config.bootstrap_from == "pair" or self.config.num_pairs == 1:
            return super().bootstrap_output(next_observation, next_action)
        rows = self.embedding.join(next_observation, next_action)
        rows = torch.cat([rows, rows.roll(1, dims=0)], dim=1)  # pair k's critics also judge pair k - 1's rows
        output = self.target_critics(self._per_critic(rows)).unflatten(0, (-1, self.config.num_critics))
        own, lent = output.chunk(2, dim=2)
        smallest = self.critics.smallest(torch.cat([own, lent.roll(-1, dims=0)], dim=1))
        return smallest[:, : self.config.num_critics].flatten(0, 1)

    def actor_value(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return what the actors ascend (K, B): the own critic's value, or the mean over all critics."""
        if not self.config.train_with_ensemble:
            return super().actor_value(observation, action)
        inputs = self.embedding.join(observation, action).flatten(0, 1)
        values = self.critics.value(self.critics(self.for_members(inputs, self.critics_in_all)))
        return values.mean(dim=0).unflatten(0, observation.shape[:2])

    @property
    def critics_in_all(self) -> int:
        """Number of critic networks, K * C."""
        return self.config.num_pairs * self.config.num_critics

    # -- members from checkpoints -------------------------------------------------------------------------

    @classmethod
    def from_members(cls, members: Iterable[ActorCritic], config: ACEConfig) -> Self:
        """Return an ensemble of the pairs of already trained agents (DDPG or ACE), for acting.

        Args:
            members: agents of equal sizes and bounds, from several runs or several snapshots of one.
            config: of the ensemble; num_pairs must be the sum of the members'.

        Raises:
            UserError: if members differ in observation, action or network sizes.
        """
        members = list(members)
        require(bool(members), "an ensemble needs at least one member")
        first = members[0]
        require(first.picture_shape is None, "members see pictures, each with an eye of its own; use one of them alone")
        for member in members[1:]:
            for name in (
                "actor",
                "critic",
                "num_critics",
                "normalize_observations",
                "normalizer",
                "act_with_targets",
            ):
                if getattr(first.config, name) != getattr(member.config, name):
                    raise UserError(f"members differ in agent.{name}; take runs of one agent config and one task")
            if first.config.embedding.form != member.config.embedding.form:
                raise UserError("members differ in agent.embedding; take runs of one agent config and one task")
            if first.config.discount != member.config.discount and not config.normalize_scores:
                raise UserError("members differ in agent.discount, so their scores in scale; add normalize_scores=true")
            if not config.normalize_scores:
                for name in ("reward_scale", "reward_scaling"):
                    if getattr(first.config, name) != getattr(member.config, name):
                        text = f"members differ in agent.{name}, so their scores in scale; add normalize_scores=true"
                        raise UserError(text)
                if first.config.reward_scaling == "returns":
                    raise UserError(
                        "agent.reward_scaling=returns gives each member's scores a scale of their own; add "
                        "normalize_scores=true"
                    )
            same_task = all(
                torch.equal(one, other)
                for one, other in zip(first.action_range.bounds, member.action_range.bounds, strict=True)
            )
            if not same_task or _shapes(first) != _shapes(member):
                raise UserError("members differ in sizes or action bounds; take runs of one agent config and one task")
        size, device = first.observation_size, first.action_range.center.device
        ensemble = cls(dataclasses.replace(first.facts, num_envs=1), config, device=device)
        # Each member goes on seeing observations as it was trained to: its own statistics, its own embedding.
        normalizer = RunningNormalizer(size, config.normalizer, num_sets=config.num_pairs)
        ensemble.normalizer = normalizer.to(device)
        embedding = make_embedding(size, first.action_range.size, config.embedding, num_sets=config.num_pairs)
        ensemble.embedding = embedding.to(device)
        state = stack_members((m.state_dict() for m in members), (m.config.num_pairs for m in members))
        own = ensemble.state_dict()
        if any(own[name].shape != tensor.shape for name, tensor in state.items()):
            raise UserError(f"agent.num_pairs={config.num_pairs} is not the number of the members' pairs")
        ensemble.load_state_dict(state, strict=False)
        return ensemble


def _shapes(agent: ActorCritic) -> dict[str, tuple[int, ...]]:
    """Return the shape of one member's part of every network and normalizer tensor."""
    return {
        name: tuple(value.shape[1:])
        for name, value in stack_members([agent.state_dict()], [agent.config.num_pairs]).items()
    }


def choose(proposals: Tensor, scores: Tensor) -> Tensor:
    """Return each row's proposal of highest score; ties take the lowest index.

    Args:
        proposals: (N, R, A).
        scores: (N, R).

    Returns:
        (R, A).
    """
    row = torch.arange(scores.shape[1], device=scores.device)
    return proposals[scores.argmax(dim=0), row]


def standardize(scores: Tensor) -> Tensor:
    """Standardize each critic's scores (M, N, R) over the N proposals; equal scores become 0."""
    deviation, mean = torch.std_mean(scores, dim=1, correction=0, keepdim=True)
    return (scores - mean) / deviation.clamp_min(1e-8)
