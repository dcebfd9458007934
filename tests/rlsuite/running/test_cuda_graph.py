"""The graphed update against the eager one: its logic on CPU with a stand-in for the graph, the real one on CUDA."""

import dataclasses

import gymnasium
import pytest
import torch
from host_waits import NoHostSync

import envs  # noqa: F401  (its tasks make themselves known)
from agents.ace import ACE, ACEConfig
from agents.actor_critic import ActorCritic
from agents.actor_critic_config import ActorCriticConfig
from agents.dqn import DQN
from agents.dqn_config import DQNConfig
from rlsuite.agent_registry import agent_class
from rlsuite.config.compose import compose_train
from rlsuite.nn.actors import ActorConfig
from rlsuite.nn.critics import CriticConfig
from rlsuite.nn.embedding import EmbeddingConfig
from rlsuite.optim.state import optimizer_tensors
from rlsuite.replay.buffer import Batch
from rlsuite.running.cuda_graph import GraphedUpdate, stand_in
from rlsuite.vector_env import EnvironmentFacts

SMALL = {"actor": ActorConfig(hidden_sizes=(16, 16)), "critic": CriticConfig(hidden_sizes=(16, 16)), "batch_size": 8}
TD3 = ActorCriticConfig(num_critics=2, policy_delay=2, target_noise=0.2, **SMALL)


def make(config, device):
    kind = ACE if isinstance(config, ACEConfig) else ActorCritic
    return kind(EnvironmentFacts.of_vectors(5, [-1, -1], [1, 1]), config, seed=3, device=device)


def random_batch(size, device, generator):
    def draw(*shape):
        return torch.randn(*shape, generator=generator).to(device)

    return Batch(
        observation=draw(size, 5),
        action=draw(size, 2).tanh(),
        reward=draw(size),
        discount=torch.full((size,), 0.99, device=device),
        next_observation=draw(size, 5),
        weight=torch.ones(size, device=device),
        index=torch.arange(size, device=device),
    )


CONFIGS = [
    TD3,
    ACEConfig(num_pairs=3, policy_delay=3, **SMALL),
    dataclasses.replace(TD3, critic=CriticConfig(hidden_sizes=(16,), block="batch_norm")),
    dataclasses.replace(TD3, embedding=EmbeddingConfig(size=6, hidden_sizes=(16,))),
    dataclasses.replace(TD3, critic=CriticConfig(hidden_sizes=(16,), loss="categorical", num_atoms=11, value_max=6.0)),
]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))],
)
def test_graphed_updates_leave_what_eager_ones_leave(config, device):
    """On a GPU sums by atomics differ from run to run: as far as from a second eager agent is no difference."""
    eager, again, graphed = make(config, device), make(config, device), make(config, device)
    update = GraphedUpdate(graphed, record=stand_in) if device == "cpu" else GraphedUpdate(graphed)
    generator = torch.Generator().manual_seed(0)

    def compare(wanted, control, got):
        assert wanted.keys() == control.keys() == got.keys()
        for name, value in wanted.items():
            spread = float((control[name].double() - value.double()).abs().max()) if value.numel() else 0.0
            bounds = {"rtol": 0.0, "atol": 0.0} if device == "cpu" else {"rtol": 1e-4, "atol": 1e-5 + 10 * spread}
            torch.testing.assert_close(got[name], value, **bounds)

    for _ in range(7):
        batch = random_batch(eager.sample_size, device, generator)
        compare(eager.update(batch), again.update(batch), update(batch))
    compare(eager.state_dict(), again.state_dict(), graphed.state_dict())
    compare(*(optimizer_tensors(agent.optimizers) for agent in (eager, again, graphed)))


@pytest.mark.parametrize("every", [0, 3])
def test_a_graphed_dqn_leaves_what_an_eager_one_leaves(every):
    facts = EnvironmentFacts.of_vectors(5, [-1, -1], [1, 1])
    facts = dataclasses.replace(facts, action_space=gymnasium.spaces.Discrete(3))
    eager, graphed = (DQN(facts, DQNConfig(hidden_sizes=(16,), batch_size=8, target_every=every)) for _ in range(2))
    update, generator = GraphedUpdate(graphed, record=guarded), torch.Generator().manual_seed(0)
    for _ in range(7):
        chosen = torch.randint(3, (8, 1), generator=generator)
        batch = random_batch(8, "cpu", generator)._replace(action=chosen)
        wanted, got = eager.update(batch), update(batch)
        assert all(torch.equal(got[name], value) for name, value in wanted.items())
    assert all(torch.equal(value, graphed.state_dict()[name]) for name, value in eager.state_dict().items())
    assert len(update.recorded) == (2 if every else 1)


def guarded(learn, generators):
    """Replay by running again, refusing what a capture would refuse."""

    def replay():
        with NoHostSync():
            return learn()

    return replay


def test_recording_does_not_draw_from_the_streams_and_outputs_are_fresh():
    agent = make(TD3, "cpu")
    before = agent.stream.generator.get_state()
    update = GraphedUpdate(agent, record=lambda learn, generators: lambda: {"loss": torch.zeros(())})
    first = update(random_batch(8, "cpu", torch.Generator().manual_seed(0)))
    assert torch.equal(agent.stream.generator.get_state(), before)
    first["loss"].fill_(7.0)
    assert update(random_batch(8, "cpu", torch.Generator().manual_seed(1)))["loss"] == 0.0


FOR_GPU = ["agent=td3", "agent=sac", "agent=ace agent.num_pairs=5", "agent=flash_sac preset=paper"]


@pytest.mark.parametrize("arguments", FOR_GPU)
def test_an_update_never_waits_for_the_host(arguments):
    sizes = [f"agent.{name}.hidden_sizes=[16,16,16]" for name in ("actor", "critic")]
    config, _ = compose_train([*arguments.split(), "env=Hopper", "agent.batch_size=8", "device=cpu", *sizes])
    facts = EnvironmentFacts.of_vectors(5, [-1, -1], [1, 1])
    agent = agent_class(config.agent_name).build(facts, config.agent, seed=0, device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    agent.update(random_batch(agent.sample_size, "cpu", generator))  # optimizers make their state, as in a warm-up
    variants = set()
    for _ in range(4):
        batch, variant = random_batch(agent.sample_size, "cpu", generator), agent.prepare_update()
        variants.add(variant)
        with NoHostSync():
            agent.learn(batch, variant)
    assert len(variants) == min(2, config.agent.policy_delay)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: float(x[0]),
        lambda x: bool(x.sum() > 0),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x + torch.tensor([1.0, 2.0]),
    ],
)
def test_the_guard_sees_what_waits_for_the_host(wait):
    with pytest.raises(AssertionError, match=r"inside of learn|by flags"), NoHostSync():
        wait(torch.ones(2))
