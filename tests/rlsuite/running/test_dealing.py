"""What one number of ranks saved, dealt out to another: every environment's own, in the right order."""

import dataclasses

import pytest
import torch
from toy_environments import PointEnv

from rlsuite.distributed import Ranks
from rlsuite.goals import GoalSpec
from rlsuite.nn.exploration import ExplorationConfig, GaussianExploration
from rlsuite.replay.buffer import Transition
from rlsuite.replay.config import HindsightConfig, ReplayConfig
from rlsuite.replay.sampler import Replay
from rlsuite.running.dealing import begin_anew, dealt, own_name
from rlsuite.running.rollout_buffer import RolloutBuffer

N, D, A = 4, 3, 1
GOALS = GoalSpec(
    1, 1, lambda achieved, desired: -(achieved - desired).abs().squeeze(-1), lambda one, other: one == other
)
KINDS = {
    "uniform": (ReplayConfig(capacity=40), {}),
    "prioritized": (ReplayConfig(capacity=40, prioritized=True), {}),
    "constants": (ReplayConfig(capacity=40), {"constant_columns": 1}),
    "hindsight": (ReplayConfig(capacity=40, hindsight=HindsightConfig(strategy="future")), {"goals": GOALS}),
}


def make(kind, columns):
    config, others = KINDS[kind]
    capacity = config.capacity // N * columns

    config = dataclasses.replace(config, capacity=capacity)
    return Replay(config, torch.zeros(columns, D), torch.zeros(columns, A), discount=0.9, seed=1, **others)


def steps_of(number, seed=0):
    """Return `number` steps of N environments; episodes end at random, constants change with them alone."""
    generator = torch.Generator().manual_seed(seed)
    constant = torch.rand(N, generator=generator)
    found = []
    for step in range(number):
        terminated, truncated = torch.rand(2, N, generator=generator) < 0.25
        failed = torch.zeros(N, dtype=torch.bool)
        failed[2] = step == number - 2

        def seen(constant=constant):
            return torch.cat([torch.rand(N, D - 1, generator=generator), constant.unsqueeze(1)], dim=1)

        found.append(
            Transition(
                seen(),
                torch.rand(N, A, generator=generator),
                torch.rand(N, generator=generator),
                terminated,
                truncated & ~terminated,
                seen(),
                failed,
            )
        )
        constant = torch.where(terminated | truncated, torch.rand(N, generator=generator), constant)
    return found


def filled(kind, number, ranks):
    """Return the replays of so many ranks that have met the same steps, each of its own environments."""
    replays = [make(kind, N // ranks) for _ in range(ranks)]
    for transition in steps_of(number):
        for rank, replay in enumerate(replays):
            own = slice(rank * N // ranks, (rank + 1) * N // ranks)
            replay.add(Transition(*(tensor[own] for tensor in transition)))
    return replays


def saved(states, columns):
    """Return the parts of a checkpoint of ranks whose replays have these states."""
    parts = {"optimizers": {}}
    for rank, state in enumerate(states):
        parts[own_name("replay", rank)] = state
        parts[own_name("agent", rank)] = {"w": torch.ones(2), "by_env": torch.arange(columns) + rank * columns}
        parts[own_name("environment", rank)] = {"seed": torch.tensor(3)}
        parts[own_name("worker", rank)] = {
            "episode_return": torch.arange(columns) + 10.0 * rank,
            "ended": torch.full((5,), 1.0 + rank),
            "counts": torch.tensor([8, 2]),
        }
    return parts


def fresh(columns):
    return {
        "agent": {"w": torch.zeros(2), "by_env": torch.zeros(columns)},
        "optimizers": {},
        "replay": {},
        "environment": {"seed": torch.tensor(0)},
        "worker": {"episode_return": torch.zeros(columns), "ended": torch.zeros(5), "counts": torch.zeros(2)},
    }


def deal(states, ranks):
    """Return what each of so many ranks gets of the states that ranks had."""
    parts = saved(states, N // len(states))
    return [dealt(parts, fresh(N // ranks), len(states), Ranks(rank, ranks)) for rank in range(ranks)]


def contents(replay):
    """Return everything that can be learned from a replay, oldest slot first: (slots, columns, numbers)."""
    buffer = replay.buffer
    age = torch.arange(buffer.count).repeat_interleave(buffer.num_envs)
    index = buffer.flat_index(age, torch.arange(buffer.num_envs).repeat(buffer.count))
    batch = replay.gather(index, torch.ones(len(index)))
    columns = [batch.observation, batch.action, batch.reward.unsqueeze(1), batch.discount.unsqueeze(1)]
    columns += [batch.next_observation, buffer.invalid.view(-1)[index].unsqueeze(1)]
    if replay.priorities is not None:
        columns.append(replay.priorities.priority.view(-1)[index].unsqueeze(1))
    if replay.hindsight is not None:
        episodes = replay.hindsight.episodes
        columns += [episodes.first.view(-1)[index].unsqueeze(1), episodes.last.view(-1)[index].unsqueeze(1)]
    return torch.cat([column.double() for column in columns], dim=1).unflatten(0, (buffer.count, buffer.num_envs))


@pytest.mark.parametrize("number", [0, 5, 37], ids=["empty", "filling", "wrapped"])
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 4), (4, 2)])
@pytest.mark.parametrize("kind", list(KINDS))
def test_every_column_of_the_replay_goes_with_its_environment(kind, before, after, number):
    states = [replay.state() for replay in filled(kind, number, before)]
    wanted = filled(kind, number, after)
    for rank, parts in enumerate(deal(states, after)):
        replay = make(kind, N // after)
        replay.load_state(parts["replay"])
        assert torch.equal(contents(replay), contents(wanted[rank]))
        for transition in steps_of(30, seed=9):  # it goes on as the other does: nothing expires too early or too late
            own = slice(rank * N // after, (rank + 1) * N // after)
            for one in (replay, wanted[rank]):
                one.add(Transition(*(tensor[own] for tensor in transition)))
        assert torch.equal(contents(replay), contents(wanted[rank]))


def test_a_rollouts_columns_go_with_their_environments():
    transitions = steps_of(3)
    rollouts = [RolloutBuffer(5, torch.zeros(2, D), torch.zeros(2, A)) for _ in range(2)]
    for transition in transitions:
        for rank, rollout in enumerate(rollouts):
            rollout.add(Transition(*(tensor[2 * rank : 2 * rank + 2] for tensor in transition)))
    (parts,) = deal([rollout.state() for rollout in rollouts], 1)
    whole = RolloutBuffer(5, torch.zeros(N, D), torch.zeros(N, A))
    whole.load_state(parts["replay"])
    assert whole.count == 3
    for place, transition in enumerate(transitions):
        for slots, tensor in zip(whole.transitions, transition, strict=True):
            assert torch.equal(slots[place], tensor)


def test_what_is_by_environment_is_dealt_and_the_rest_is_carried():
    states = [replay.state() for replay in filled("uniform", 3, 2)]
    (whole,) = deal(states, 1)
    assert whole["agent"]["by_env"].tolist() == [0, 1, 2, 3]
    assert whole["agent"]["w"].tolist() == [1.0, 1.0]
    assert whole["worker"]["episode_return"].tolist() == [0.0, 1.0, 10.0, 11.0]
    assert whole["worker"]["counts"].tolist() == [8, 2]
    assert whole["worker"]["ended"].tolist() == [3.0] * 5  # not logged yet: summed over the ranks when it is
    quarters = deal(states, 4)
    assert [parts["agent"]["by_env"].tolist() for parts in quarters] == [[0], [1], [2], [3]]
    assert [parts["worker"]["ended"].tolist() for parts in quarters] == [[3.0] * 5, *[[0.0] * 5] * 3]


def test_the_same_number_of_ranks_gets_back_its_own():
    states = [replay.state() for replay in filled("uniform", 3, 2)]
    parts = saved(states, 2)
    for rank in range(2):
        found = dealt(parts, fresh(2), 2, Ranks(rank, 2))
        assert found["agent"] is parts[own_name("agent", rank)]
        assert found["replay"] is states[rank]


def test_other_numbers_of_environments_are_refused():
    states = [replay.state() for replay in filled("uniform", 3, 2)]
    with pytest.raises(ValueError, match="4 environments were saved and 3 are wanted"):
        dealt(saved(states, 2), fresh(3), 2, Ranks(0, 1))


def test_streams_go_on_as_others(monkeypatch):
    from rlsuite.running.rollout import RolloutWorker

    def drawn(rank):
        monkeypatch.setattr("rlsuite.distributed._current", Ranks(rank, 2))
        noise = GaussianExploration(2, 1, ExplorationConfig(), seed=0, device="cpu")
        replay, worker = make("uniform", 2), RolloutWorker(PointEnv(2), noise, seed=0)
        started = int(noise.episodes_started)
        noise.stream.generator.manual_seed(4)
        for generator in (replay.generator, worker.generator):
            generator.manual_seed(4)  # as loaded: rank 0's
        begin_anew(noise, replay, worker)
        generators = (noise.stream.generator, replay.generator, worker.generator)
        return [float(torch.rand((), generator=generator)) for generator in generators], int(
            noise.episodes_started
        ) - started

    (first, first_moved), (second, second_moved) = drawn(0), drawn(1)
    assert set(first).isdisjoint(second)
    assert (first_moved, second_moved) == (0, 1)
    assert first == drawn(0)[0]
