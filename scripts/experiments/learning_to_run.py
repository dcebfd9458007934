"""Learning to Run (arXiv:1804.00361), small: held actions, mirror images, and standing longer than chance does.

DDPG with networks of 64-64 units and layer normalization learns to run without obstacles (difficulty 0), from
`episodes` * `limit` steps of 10 ms: 400 episodes if each of them lasts its 3 seconds, more as they end in falls. Arms:
each action held for `repeat` steps; for one step, with as many steps of 10 ms and as many updates; held, half of each
minibatch being mirror images (reason8.ai's trick); and uniformly random actions, held. Everything else is the same,
the discount of a decision, too.

Without obstacles every episode begins alike, so that one episode says all that a deterministic policy does; a run's
figures are means over its last `judged` checkpoints, each judged in one episode, its actions held as in training.
Distance is where the pelvis is when the episode ends, by a fall or by the limit. Asymmetry is the mean difference, over
the states of those episodes and the muscles, of the actions and of the mirrored actions in the mirrored state.

Claims: held actions end farther than single ones in every seed; mirroring lowers asymmetry to `asymmetry_bar` of what
it was and loses no distance; DDPG stands `standing_bar` times as long as random actions do. The bars are our own
choices, set before the first run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agents.assembly import load_agent, make_evaluation_env, prepare_torch
from rlsuite.config.compose import compose_train
from rlsuite.config.schema import TrainConfig
from rlsuite.errors import UserError, require, require_finite
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.records.checkpoint import list_checkpoints
from rlsuite.running.seeding import derive_seed
from scripts.experiments.training_runs import for_seeds, train_all

HELD, SINGLE, MIRRORED, RANDOM = "held", "single", "mirrored", "random"
CHECKPOINTS = 20  # of a run; the last of them are judged


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        episodes: of training, if each lasted until the limit.
        limit: steps of 10 ms of an episode, at most.
        repeat: steps of 10 ms for which an action holds, but for the arm of single ones; a divisor of limit and of
            1000.
        num_envs: that collect side by side: a step of twenty costs little more than a step of one.
        hidden_sizes: of actor and critic.
        judged: checkpoints of a run that its figures are means of, the last of 20.
        random_episodes: of random actions, for each seed.
        distance_bar: distance with held actions minus that with single ones, at least, in every seed; m.
        asymmetry_bar: asymmetry with mirror images over that without, at most.
        mirrored_bar: distance with mirror images minus that without, at least; m.
        standing_bar: steps until DDPG falls over those until random actions do, at least.
        overrides: further arguments for train_agent.py.
    """

    seeds: int = 3
    episodes: int = 400
    limit: int = 300
    repeat: int = 5
    num_envs: int = 20
    hidden_sizes: tuple[int, ...] = (64, 64)
    judged: int = 5
    random_episodes: int = 32
    distance_bar: float = 0.0
    asymmetry_bar: float = 0.7
    mirrored_bar: float = 0.0
    standing_bar: float = 1.5
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("seeds", "episodes", "limit", "repeat", "num_envs", "judged", "random_episodes"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(
            self.judged <= CHECKPOINTS, f"judged={self.judged}: a run has {CHECKPOINTS} checkpoints; use at most that"
        )
        require(
            self.limit % self.repeat == 0 and 1000 % self.repeat == 0,
            f"repeat={self.repeat}: use a divisor of limit={self.limit} and of 1000, such as 4 or 5",
        )
        share = CHECKPOINTS * self.num_envs * self.repeat
        whole = self.episodes * self.limit % share == 0
        require(
            whole, f"episodes={self.episodes}: episodes * limit has to be a multiple of {share}, so that arms end even"
        )
        for name in ("distance_bar", "asymmetry_bar", "mirrored_bar", "standing_bar"):
            require_finite(name, getattr(self, name))

    def arms(self) -> dict[str, list[str]]:
        """Return the arguments of train_agent.py for each arm, seed and folder apart."""
        held = self._arguments(self.repeat)
        return {HELD: held, SINGLE: self._arguments(1), MIRRORED: [*held, "replay.mirrored=true"]}

    def _arguments(self, repeat: int) -> list[str]:
        steps = self.episodes * self.limit // repeat
        sizes = str(list(self.hidden_sizes)).replace(" ", "")
        return [
            *("agent=ddpg", "env=LearningToRun", "device=cpu", f"steps={steps}", f"num_envs={self.num_envs}"),
            *("env.difficulty=0", f"env.max_episode_steps={self.limit}", f"env.action_repeat={repeat}"),
            *("env.features=ace", "env.evaluation_repeat=0", "evaluate.every=0"),
            # As many updates in every arm: one for each decision that holds.
            *(f"train_ratio={repeat / self.repeat}", f"learning_starts={steps // 24}", "replay.n_step=1"),
            *(f"replay.capacity={steps}", f"checkpoint.every={steps // CHECKPOINTS}", "checkpoint.keep=1"),
            *(f"checkpoint.keep_agents={self.judged}", f"log.every={steps // CHECKPOINTS}"),
            *(f"agent.actor.hidden_sizes={sizes}", f"agent.critic.hidden_sizes={sizes}", "agent.actor.layer_norm=true"),
            # Left and right alike: statistics of what was seen would standardize them apart.
            *("agent.normalize_observations=false", "agent.precision=float32", "agent.batch_size=128"),
            *("agent.discount=0.96", "agent.reward_scale=10"),  # ACE's discount, reason8.ai's scale
            *self.overrides,
        ]


SMALL = ("agent.batch_size=8", "learning_starts=10")
DEBUG = Numbers(
    seeds=1,
    episodes=4,
    limit=20,
    repeat=2,
    num_envs=2,
    hidden_sizes=(8, 8),
    judged=2,
    random_episodes=2,
    overrides=SMALL,
)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Train, judge, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    folders = train_all(for_seeds(numbers.arms(), seeds), jobs)
    found: dict[str, list[dict[str, Any]]] = {
        arm: [judge(folders[f"{arm}-s{seed}"], numbers, jobs.threads) for seed in seeds] for arm in numbers.arms()
    }
    found[RANDOM] = [judge_random(numbers, seed, jobs.threads) for seed in seeds]
    figures = {
        name: {arm: tuple(one[name] for one in found[arm]) for arm in found if name in found[arm][0]}
        for name in ("distance", "steps", "asymmetry")
    }
    print("\n".join(table(figures)), flush=True)
    return Result(
        seeds=seeds,
        claims=claims(figures, numbers),
        figures={**figures, "episodes_of_checkpoints": found},
        full_scale="python scripts/train_agent.py preset=l2r_reason8 steps=20000000 (and the other l2r_ presets)",
    )


def claims(figures: Mapping[str, Mapping[str, tuple[float, ...]]], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for the figures, by name, arm and seed."""
    distance, steps, asymmetry = figures["distance"], figures["steps"], figures["asymmetry"]
    farther = tuple(held - single for held, single in zip(distance[HELD], distance[SINGLE], strict=True))
    return (
        Claim(
            statement=f"distance of actions held for {numbers.repeat} steps minus that of single ones, lowest seed (m)",
            margin=numbers.distance_bar,
            figures=(min(farther),),
        ),
        Claim(
            statement="asymmetry with mirror images over that without",
            margin=numbers.asymmetry_bar,
            figures=tuple(one / other for one, other in zip(asymmetry[MIRRORED], asymmetry[HELD], strict=True)),
            at_least=False,
        ),
        Claim(
            statement="distance with mirror images minus that without (m)",
            margin=numbers.mirrored_bar,
            figures=tuple(one - other for one, other in zip(distance[MIRRORED], distance[HELD], strict=True)),
        ),
        Claim(
            statement="steps that DDPG stands over those of random actions",
            margin=numbers.standing_bar,
            figures=tuple(one / other for one, other in zip(steps[HELD], steps[RANDOM], strict=True)),
        ),
    )


# -- judging ------------------------------------------------------------------------------------------------


def judge(folder: Path, numbers: Numbers, threads: int) -> dict[str, Any]:
    """Return the mean distance, steps and asymmetry of a run's last checkpoints, and each one's first two.

    Raises:
        UserError: if it has kept fewer.
    """
    checkpoints = list_checkpoints(folder)[-numbers.judged :]
    require(len(checkpoints) == numbers.judged, f"{folder} has {len(checkpoints)} checkpoints, not {numbers.judged}")
    agents = [load_agent(path) for path in checkpoints]
    config: TrainConfig = agents[0][1]
    prepare_torch(config)
    env = make_evaluation_env(config, len(agents), num_threads=threads)

    @torch.no_grad()
    def act(observation: Tensor) -> Tensor:
        """Let each checkpoint act in its own environment."""
        return torch.cat([agent.act(observation[row : row + 1], False) for row, (agent, _) in enumerate(agents)])

    mirror = env.mirror
    if mirror is None:
        raise UserError(f"{folder}: its task has no mirror image; leave env.stale_bodies out of overrides=")
    apart: list[Tensor] = []

    def act_twice(observation: Tensor) -> Tensor:
        action = act(observation)
        apart.append((action - mirror.actions(act(mirror.observations(observation)))).abs().mean(1))
        return action

    distance, decisions = play(env, act_twice)
    env.close()
    lived = torch.arange(len(apart)).unsqueeze(1) < decisions
    steps = decisions * repeat_of(config)
    return {
        "distance": float(distance.mean()),
        "steps": float(steps.double().mean()),
        "asymmetry": float(torch.stack(apart)[lived].mean()),
        "distances": distance.tolist(),
        "lengths": steps.tolist(),
    }


def judge_random(numbers: Numbers, seed: int, threads: int) -> dict[str, Any]:
    """Return the mean distance and steps of uniformly random actions, each held as DDPG's are."""
    config, _ = compose_train(numbers.arms()[HELD])
    env = make_evaluation_env(config, numbers.random_episodes, num_threads=threads)
    generator = torch.Generator().manual_seed(derive_seed(seed, "learning to run at random"))
    size = env.single_action_space.shape[0]  # type: ignore[index]
    distance, decisions = play(env, lambda observation: torch.rand(len(observation), size, generator=generator))
    env.close()
    return {"distance": float(distance.mean()), "steps": float(decisions.double().mean()) * repeat_of(config)}


def play(env: Any, act: Any) -> tuple[Tensor, Tensor]:
    """Play one episode in each of E environments; return where the pelvis ends (E,), m, and decisions made (E,)."""
    observation, _ = env.reset(seed=0)
    running = torch.ones(env.num_envs, dtype=torch.bool)
    distance, decisions = torch.zeros(env.num_envs, dtype=torch.float64), torch.zeros(env.num_envs, dtype=torch.int64)
    while running.any():
        observation, _, terminated, truncated, info = env.step(act(observation))
        distance = torch.where(running, info["x_position"].double(), distance)
        decisions += running
        running &= ~(terminated | truncated)
    return distance, decisions


def repeat_of(config: TrainConfig) -> int:
    """Return for how many steps of 10 ms a run's actions hold."""
    return int(config.env.options["action_repeat"])


def table(figures: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """Return the figures as lines of text, seed by seed."""
    lines = [f"{'':12}{'distance, m':>24}{'steps':>24}{'asymmetry':>24}"]
    for arm in figures["distance"]:
        columns = (figures[name].get(arm, ()) for name in ("distance", "steps", "asymmetry"))
        lines.append(f"{arm:12}" + "".join(f"{' '.join(f'{value:.3g}' for value in column):>24}" for column in columns))
    return lines
