"""What two ranks compute together, started by torchrun: ``torchrun ... ranks_program.py FOLDER``; one rank alone, too.

Every rank sees its own half of the same minibatches, and the same half of the same noise, so that what it ends with
must be what one rank alone ends with. `found` returns tensors by name, which rank r writes to FOLDER/r.safetensors.

Shapes: K pairs, B batch of each pair, D observation, A action.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

import envs  # noqa: F401  (before mujoco and torch: it chooses what they are loaded with)
from agents.ace import ACE, ACEConfig
from agents.actor_critic import ActorCritic
from agents.actor_critic_config import ActorCriticConfig
from agents.dqn import DQN
from agents.dqn_config import DQNConfig
from agents.on_policy import Minibatch
from agents.ppo import PPO
from agents.ppo_config import PPOConfig
from agents.sher import SHER, SHERConfig
from agents.trpo import TRPO, TRPOConfig
from rlsuite.distributed import joined, ranks
from rlsuite.nn.actors import ActorConfig
from rlsuite.nn.critics import CriticConfig
from rlsuite.nn.exploration import RandomStream
from rlsuite.nn.normalizer import RunningNormalizer
from rlsuite.nn.reward_scaler import ReturnScaler
from rlsuite.optim.step import take_step
from rlsuite.replay.buffer import Batch, Transition
from rlsuite.vector_env import EnvironmentFacts

D, A, B, UPDATES = 5, 2, 16, 50
FACTS = EnvironmentFacts.of_vectors(D, [-1.0, 0.0], [1.0, 4.0], num_envs=4)
SMALL = {
    "batch_size": B,
    "precision": "float32",
    "actor": ActorConfig(hidden_sizes=(16, 16)),
    "critic": CriticConfig(hidden_sizes=(16, 16)),
}
GAUSSIAN = {**SMALL, "actor": ActorConfig(hidden_sizes=(16, 16), distribution="squashed_gaussian")}


def make_agents():
    """Return the agents that learn from minibatches, by name: whole ones, whose share a rank makes."""
    return {
        "ddpg": (ActorCritic, ActorCriticConfig(**SMALL)),
        "td3": (ActorCritic, ActorCriticConfig(**SMALL, num_critics=2, policy_delay=2, target_noise=0.2)),
        "sac": (ActorCritic, ActorCriticConfig(**GAUSSIAN, num_critics=2, gradient_norm=0.5)),
        "ace": (ACE, ACEConfig(**SMALL, num_pairs=3, pre_activation_penalty=0.1, train_with_ensemble=True)),
        "sher": (SHER, SHERConfig(**GAUSSIAN)),
        "sher_state": (SHER, SHERConfig(**GAUSSIAN, value="state")),
    }


def half(rows, dim=0):
    """Return this rank's half of rows, or all of them where it is alone."""
    here, size = ranks(), rows.shape[dim] // ranks().size
    return rows.narrow(dim, here.rank * size, size)


class SameNoise:
    """Lets torch.randn of this rank's rows (K, B / R, A) be its half of what one rank alone would draw."""

    def __enter__(self):
        self.generator, self.plain = torch.Generator().manual_seed(1), torch.randn
        torch.randn = self.draw

    def draw(self, shape, **_):
        whole = (shape[0], shape[1] * ranks().size, *shape[2:])
        return half(self.plain(whole, generator=self.generator), 1)

    def __exit__(self, *exception):
        torch.randn = self.plain


def minibatch(generator, pairs, discrete=False):
    """Return this rank's rows of a minibatch of K * B transitions."""
    rows = pairs * B

    def own(tensor):
        return half(tensor.unflatten(0, (pairs, B)), 1).flatten(0, 1)

    draw = torch.rand(rows, A, generator=generator)
    action = (draw[:, :1] * 3).long() if discrete else draw * torch.tensor([2.0, 4.0]) - torch.tensor([1.0, 0.0])
    return Batch(
        observation=own(torch.randn(rows, D, generator=generator)),
        action=own(action),
        reward=own(torch.randn(rows, generator=generator)),
        discount=own(torch.full((rows,), 0.99)),
        next_observation=own(torch.randn(rows, D, generator=generator)),
        weight=own(torch.rand(rows, generator=generator) + 0.5),
        index=own(torch.arange(rows)),
    )


def parameters_of(name, agent):
    return {f"{name}/{key}": value.detach().clone() for key, value in agent.named_parameters()}


def learned_from_minibatches():
    """Return the weights after 50 updates of every agent that learns from a replay."""
    found = {}
    for name, (kind, config) in make_agents().items():
        share = config if ranks().alone else config.share(ranks().size)
        agent = kind.build(FACTS, share, seed=3)
        generator = torch.Generator().manual_seed(0)
        for _ in range(UPDATES):
            batch = minibatch(generator, config.num_pairs)
            agent.normalizer.update(batch.observation)
            with SameNoise():
                agent.update(batch)
        found |= parameters_of(name, agent)
        found[f"{name}/mean"] = agent.normalizer.mean
    import gymnasium

    facts = EnvironmentFacts(
        observation_space=gymnasium.spaces.Box(-9, 9, (D,)), action_space=gymnasium.spaces.Discrete(3), num_envs=4
    )
    config = DQNConfig(hidden_sizes=(16, 16), batch_size=B, gradient_norm=0.5)
    agent = DQN(facts, config if ranks().alone else config.share(ranks().size), seed=3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(UPDATES):
        agent.update(minibatch(generator, 1, discrete=True))
    return found | parameters_of("dqn", agent)


def learned_by_ppo():
    """Return PPO's weights after 50 minibatch steps, advantages standardized over the ranks, norms clipped."""
    config = PPOConfig(hidden_sizes=(16, 16), minibatch_size=B, gradient_norm=0.1)
    agent = PPO(FACTS, config if ranks().alone else config.share(ranks().size), seed=3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(UPDATES):
        numbers = [torch.randn(B, generator=generator) for _ in range(4)]
        rows = Minibatch(
            torch.randn(B, D, generator=generator),
            torch.randn(B, A, generator=generator),
            -numbers[0].abs(),
            *numbers[1:],
        )
        agent._step(Minibatch(*map(half, rows)))
    return parameters_of("ppo", agent)


def learned_from_rollouts():
    """Return the weights after whole updates from rollouts of each rank's own, one of whose steps failed on one."""
    here, found = ranks(), {}
    for name, kind, config in (
        ("own_ppo", PPO, PPOConfig(hidden_sizes=(8,), minibatch_size=8, passes=2, target_divergence=0.5)),
        ("own_trpo", TRPO, TRPOConfig(hidden_sizes=(8,), minibatch_size=8, passes=2, curvature_rows=16)),
    ):
        agent = kind(FACTS, config if here.alone else config.share(here.size), seed=3)
        generator = torch.Generator().manual_seed(here.rank)
        for _ in range(3):
            observation, following = (torch.randn(8, 4, D, generator=generator) for _ in range(2))
            action = torch.stack([agent.act(row, True) for row in observation])
            failed = torch.zeros(8, 4, dtype=torch.bool)
            failed[3, 0] = here.rank == 0
            flags = torch.rand(2, 8, 4, generator=generator) < 0.1
            reward = torch.randn(8, 4, generator=generator)
            agent.update(Transition(observation, action, reward, flags[0], flags[1] & ~flags[0], following, failed))
        found |= parameters_of(name, agent)
        found[f"{name}/mean"] = agent.normalizer.mean
    return found


def agreed():
    """Return what the ranks agree on, of rows that are more on one rank, and none on another at times."""
    here, found = ranks(), {}
    normalizer = RunningNormalizer(3)
    generator = torch.Generator().manual_seed(0)
    for number in (6, 4, 2):
        rows = torch.randn(number, 3, generator=generator) * 3.0 + 5.0
        cut = {6: 4, 4: 0, 2: 2}[number]
        normalizer.update(rows if here.alone else rows[:cut] if here.leads else rows[cut:])
    found |= {f"normalizer/{name}": value for name, value in normalizer.state_dict().items()}
    scaler = ReturnScaler(4 // here.size, 0.9, 5.0)
    for _ in range(5):
        reward = torch.randn(4, generator=generator, dtype=torch.float64)
        scaler.update(half(reward), half(torch.rand(4, generator=generator) < 0.2))
    found |= {f"scaler/{name}": getattr(scaler, name) for name in ("count", "mean", "variance", "largest", "scale")}
    weight = torch.nn.Parameter(torch.zeros(2))
    gradient = torch.tensor([3.0, 4.0]) if here.alone else torch.tensor([[6.0, 0.0], [0.0, 8.0]])[here.rank]
    take_step(torch.optim.SGD([weight], lr=1.0), [weight], [gradient], 1.0)
    found["clipped"] = weight.detach()
    last = here.rank == here.size - 1
    numbers = (here.any(last), here.all(last), here.total(here.rank + 1), here.fewest(here.rank + 7))
    found["numbers"] = torch.tensor([int(number) for number in numbers])
    said = [here.texts(text) for text in ("", "a" if here.leads else "näher", f"{here.rank}" * (1 + here.rank))]
    found["said"] = torch.tensor(list(repr(said).encode()))
    found["same"] = torch.tensor([here.same("one"), here.same(str(here.rank))])
    means = here.means({"loss": torch.tensor(1.0 + here.rank), "value": torch.tensor(2.0)})
    found["means"] = torch.stack(list(means.values()))
    found["drawn"] = torch.rand(4, generator=RandomStream(5).generator)
    return found


def found():
    """Return everything."""
    return learned_from_minibatches() | learned_by_ppo() | learned_from_rollouts() | agreed()


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined() as here:
        save_file(
            {name: value.contiguous() for name, value in found().items()},
            Path(sys.argv[1]) / f"{here.rank}.safetensors",
        )
