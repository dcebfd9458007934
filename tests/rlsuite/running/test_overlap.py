"""Updates beside steps: one defined order, the same bits however slow either side is, and after a stop."""

import random
import time

import pytest
import torch
from test_training import ACE, DDPG, VARIANTS, CountingAgent, configure, final_bytes, make, make_agent, records_of, run
from toy_environments import PointEnv

from rlsuite.errors import UserError
from rlsuite.records.checkpoint import read_checkpoint
from rlsuite.running.overlap import OverlappedTrainer
from rlsuite.running.threads import SideThread, one_torch_thread
from rlsuite.running.training import Trainer


class SlowEnv(PointEnv):
    """Sleeps for a moment of its own before each step."""

    def step(self, action):
        time.sleep(self.sleeps.random() / 200)
        return super().step(action)


def slow(trainer, seed):
    """Let both sides of a trainer sleep at random."""
    sleeps = random.Random(seed)
    trainer.env.sleeps, update = random.Random(seed + 1), trainer.update

    def slowly(batch):
        time.sleep(sleeps.random() / 200)
        return update(batch)

    trainer.update = slowly
    return trainer


class UpdatesFirst(Trainer):
    """The order written plainly: act, update with what was due, step."""

    @property
    def busy(self):
        return self.worker.steps >= self.config.steps and super().busy

    def _collect(self, monitor):
        action = self.worker.choose(random=self.steps_at_start is None and self.config.warmup_random)
        super()._update(lambda: False)
        self._keep(self.worker.take(action, self.worker.simulate(action)), monitor)

    def _update(self, should_stop):
        if self.worker.steps >= self.config.steps:
            super()._update(should_stop)


@pytest.mark.parametrize("agent", [DDPG, ACE], ids=["ddpg", "ace"])
def test_the_bits_are_those_of_one_after_the_other(tmp_path, agent):
    config = configure(agent, overlap=True)
    run(make(config, tmp_path / "plain", kind=UpdatesFirst, env=PointEnv(4, length=7)))
    run(make(config, tmp_path / "beside", kind=OverlappedTrainer, env=PointEnv(4, length=7)))
    for seed in range(2):
        env = SlowEnv(4, length=7)
        run(slow(make(config, tmp_path / f"slow{seed}", kind=OverlappedTrainer, env=env), seed))
    plain = final_bytes(tmp_path / "plain", 120)
    for name in ("beside", "slow0", "slow1"):
        found = final_bytes(tmp_path / name, 120)
        assert [part for part in plain if plain[part] != found[part]] == [], name


def test_actions_are_one_round_of_updates_older_and_nothing_is_left_out(tmp_path):
    agent = CountingAgent()
    config = configure(steps=40, learning_starts=10, train_ratio=0.5, overlap=True, evaluate={"every": 0})
    trainer = make(config, tmp_path, agent=agent, kind=OverlappedTrainer, env=PointEnv(4))
    assert run(trainer)
    # Due at the same counts as without, two every four steps from 16 on; the last ones after the last step.
    assert agent.updates_at == [step for step in range(16, 41, 4) for _ in range(2)]
    assert not trainer.busy
    assert agent.explored == 10 - 4  # learning begins one step later, so one more of them is drawn at random


@pytest.mark.parametrize("name", [name for name, (_, keys) in VARIANTS.items() if "updates_per_episode" not in keys])
@pytest.mark.parametrize("stop", [12, 56, 80], ids=["before learning", "off the beat", "on a checkpoint"])
def test_a_resumed_run_ends_with_the_same_bytes(tmp_path, name, stop):
    agent, keys = VARIANTS[name]
    config = configure(agent, overlap=True, **keys)

    def made(folder, **rest):
        return make(config, tmp_path / folder, kind=OverlappedTrainer, env=PointEnv(4, length=7), **rest)

    assert run(made("whole"))
    first = made("parts")
    assert not run(first, lambda: first.worker.steps >= stop)
    checkpoint = read_checkpoint(tmp_path / "parts" / "checkpoints" / str(stop))
    assert run(made("parts", agent=make_agent(config, seed=99), checkpoint=checkpoint))
    whole, parts = final_bytes(tmp_path / "whole", 120), final_bytes(tmp_path / "parts", 120)
    assert [part for part in whole if whole[part] != parts[part]] == []


def test_a_stop_among_the_last_updates_is_no_end(tmp_path):
    config = configure(overlap=True, train_ratio=2.0)
    trainer = make(config, tmp_path / "parts", kind=OverlappedTrainer)
    assert not run(trainer, lambda: trainer.updates >= 195)  # of 200
    assert trainer.busy
    checkpoint = read_checkpoint(tmp_path / "parts" / "checkpoints" / "120")
    assert checkpoint.metadata["busy"]
    again = make(config, tmp_path / "parts", kind=OverlappedTrainer, checkpoint=checkpoint)
    assert run(again)
    assert again.updates == 200
    run(make(config, tmp_path / "whole", kind=OverlappedTrainer))
    assert final_bytes(tmp_path / "whole", 120)["agent"] == final_bytes(tmp_path / "parts", 120)["agent"]
    assert [record["step"] for record in records_of(tmp_path / "parts", "evaluate")] == [60, 120]


class BrokenEnv(PointEnv):
    def step(self, action):
        if self.steps_left == 0:
            raise ValueError("no more")
        self.steps_left -= 1
        return super().step(action)


def test_what_the_environments_raise_comes_out_once_the_updates_are_done(tmp_path):
    agent, env = CountingAgent(), BrokenEnv(4)
    env.steps_left = 8
    config = configure(steps=40, learning_starts=10, train_ratio=0.5, overlap=True, evaluate={"every": 0})
    with pytest.raises(ValueError, match="no more"):
        run(make(config, tmp_path, agent=agent, kind=OverlappedTrainer, env=env))
    assert agent.updates_at == [16, 16, 20, 20, 24, 24, 28, 28, 32, 32]  # those due after the eighth step, too


def test_rounds_of_a_whole_episode_are_refused():
    with pytest.raises(UserError, match=r"overlap=true: updates_per_episode=3 .* use overlap=false"):
        configure(overlap=True, updates_per_episode=3)


@pytest.fixture
def _two_threads():
    count = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(count)


@pytest.mark.usefixtures("_two_threads")
def test_the_other_thread_has_one_and_takes_none_from_this_one():
    side = SideThread()
    assert torch.get_num_threads() == 2

    def work():
        with one_torch_thread():
            return torch.get_num_threads()

    assert side.begin(work).result() == 1
    assert torch.get_num_threads() == 2
    assert "mkl_get_max_threads() : 2" in torch.__config__.parallel_info() or not torch.backends.mkl.is_available()
