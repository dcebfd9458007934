"""The training loop on a toy: updates due, warm-up, resume at any point, failures, non-finite losses."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch
from toy_environments import PointEnv

from rlsuite.agent import Agent
from rlsuite.agent_registry import agent_class
from rlsuite.config.schema import train_config
from rlsuite.errors import UserError
from rlsuite.records.checkpoint import latest_checkpoint, list_checkpoints, read_checkpoint
from rlsuite.records.monitor import Monitor
from rlsuite.running import saving
from rlsuite.running.training import Trainer, _crossed
from rlsuite.vector_env import EnvironmentFacts

TINY = {
    "steps": 120,
    "num_envs": 4,
    "learning_starts": 20,
    "train_ratio": 0.25,
    "device": "cpu",
    "replay": {"capacity": 64},
    "checkpoint": {"every": 40, "keep": 2, "keep_agents": 0},
    "evaluate": {"every": 60, "episodes": 3},
    "log": {"every": 20},
    "env": {"id": "toy"},
}
NETWORKS = {"batch_size": 8, "actor": {"hidden_sizes": [8]}, "critic": {"hidden_sizes": [8]}}
NOISE = {"hold": 3, "decision_decay": 0.9, "episode_multipliers": [1.0, 0.5]}
DDPG = {"name": "ddpg"} | NETWORKS
ACE = {"name": "ace", "num_pairs": 2} | NETWORKS
BATCH_NORM = {"hidden_sizes": [8], "block": "batch_norm"}


def configure(agent=None, **keys):
    return train_config(TINY | {"agent": dict(agent or DDPG)} | keys)


class CountingAgent(Agent):
    """Stands in for an agent: counts what the loop asks of it, and returns the loss it is told to."""

    def __init__(self):
        super().__init__(EnvironmentFacts.of(PointEnv(4)), SimpleNamespace(batch_size=5))
        self.loss = torch.tensor(1.0)
        self.explored, self.greedy, self.batches, self.updates_at, self.progress = 0, 0, [], [], []
        self.steps = 0

    def act(self, observation, explore):
        if explore:
            self.explored += 1
        else:
            self.greedy += 1
        return torch.zeros(len(observation), 1)

    def observe(self, transition):
        self.steps += len(transition.reward)

    def anneal(self, progress):
        self.progress.append(progress)

    def update(self, batch):
        self.batches.append(batch)
        self.updates_at.append(self.steps)
        return {"critic_loss": self.loss, "td_error": torch.ones(self.sample_size)}

    def state_dict(self):
        return {"steps": torch.tensor(self.steps)}

    def load_state_dict(self, state):
        self.steps = int(state["steps"])


def make_agent(config, seed=0):
    facts = EnvironmentFacts.of(PointEnv(config.num_envs))
    return agent_class(config.agent_name).build(facts, config.agent, seed=seed)


def make(config, run_dir, *, kind=Trainer, agent=None, env=None, checkpoint=None, records=None):
    def save_failure(failure, path):
        records.append((failure, path))
        return "recorded"

    return kind(
        config,
        run_dir,
        env or PointEnv(config.num_envs),
        agent or make_agent(config),
        make_evaluation_env=lambda: PointEnv(config.evaluate.episodes),
        save_failure=save_failure,
        checkpoint=checkpoint,
    )


def run(trainer, should_stop=lambda: False):
    monitor = Monitor(
        trainer.run_dir,
        total_steps=trainer.config.steps,
        console=False,
        resume_step=trainer.resume_step,
        elapsed_s=trainer.elapsed_s,
    )
    with monitor:
        return trainer.run(monitor, should_stop)


def records_of(run_dir, kind):
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def final_bytes(run_dir, step):
    folder = run_dir / "checkpoints" / str(step)
    parts = ("agent", "optimizers", "replay", "environment")
    return {part: (folder / f"{part}.safetensors").read_bytes() for part in parts}


# -- updates due --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        # Learning starts at the first step count >= 10, which is 12; after it one update every two steps.
        ({"train_ratio": 0.5, "learning_starts": 10}, [step for step in range(16, 41, 4) for _ in range(2)]),
        ({"train_ratio": 0.125, "learning_starts": 0}, [12, 20, 28, 36]),  # from step 4, one in eight steps
        ({"train_ratio": 0.0, "learning_starts": 0}, []),
        ({"train_ratio": 1.0, "learning_starts": 1000}, []),
        # Episodes of 3 steps in 4 environments: 4 end at steps 12, 24 and 36.
        ({"train_ratio": 0.0, "updates_per_episode": 2, "learning_starts": 0}, [12] * 8 + [24] * 8 + [36] * 8),
        (
            {"train_ratio": 0.0, "updates_per_episode": 1, "learning_starts": 0, "warmup_episodes": 4},
            [24] * 4 + [36] * 4,  # learning begins when the first four have ended, which are not counted
        ),
        (
            {"train_ratio": 0.25, "updates_per_episode": 1, "learning_starts": 0, "warmup_episodes": 5},
            [28, 32, *[36] * 5, 40],
        ),
    ],
)
def test_updates_due(tmp_path, keys, expected):
    agent = CountingAgent()
    config = configure(steps=40, evaluate={"every": 0}, **keys)
    trainer = make(config, tmp_path, agent=agent, env=PointEnv(4, length=3))
    assert run(trainer)
    assert agent.updates_at == expected
    assert agent.progress == [step / 40 for step in dict.fromkeys(expected)]  # told once before each burst of updates
    assert trainer.updates == len(expected)
    assert all(len(batch.reward) == agent.sample_size for batch in agent.batches)


@pytest.mark.parametrize(("warmup_random", "asked"), [(True, 7), (False, 10)])
def test_warm_up_acts_at_random_unless_told_otherwise(tmp_path, warmup_random, asked):
    agent = CountingAgent()
    config = configure(steps=40, learning_starts=12, warmup_random=warmup_random, evaluate={"every": 0})
    run(make(config, tmp_path, agent=agent))
    assert agent.explored == asked


@pytest.mark.parametrize(
    ("before", "after", "every", "crossed"),
    [(0, 4, 5, False), (4, 8, 5, True), (5, 9, 5, False), (0, 5, 5, True), (8, 30, 10, True), (0, 4, 1, True)],
)
def test_crossed(before, after, every, crossed):
    assert _crossed(before, after, every) == crossed


# -- log, evaluation, checkpoints -----------------------------------------------------------------------------


def test_a_run_logs_evaluates_and_saves_when_it_should(tmp_path):
    trainer = make(configure(), tmp_path)
    assert run(trainer)
    assert trainer.worker.steps == 120
    assert [record["step"] for record in records_of(tmp_path, "train")] == [20, 40, 60, 80, 100, 120]
    assert [record["step"] for record in records_of(tmp_path, "evaluate")] == [60, 120]
    assert [path.name for path in list_checkpoints(tmp_path)] == ["80", "120"]  # keep=2
    last = records_of(tmp_path, "train")[-1]
    assert last["updates"] == 25  # (120 - 20) / 4
    assert last["episodes"] == 4
    for name in ("critic_loss", "actor_loss", "value", "steps_per_second", "steps_per_second_act"):
        assert last[name] is not None
    assert last["steps_per_second"] >= last["steps_per_second_act"] >= last["steps_per_second_update"] > 0
    evaluation = records_of(tmp_path, "evaluate")[-1]
    assert evaluation["low"] <= evaluation["mean"] <= evaluation["high"]
    assert evaluation["length"] == 20


def test_the_end_is_saved_also_off_the_beat(tmp_path):
    config = configure(steps=50, checkpoint={"every": 1000})
    assert run(make(config, tmp_path))
    assert [path.name for path in list_checkpoints(tmp_path)] == ["52"]  # whole steps of four environments
    assert records_of(tmp_path, "train")[-1]["step"] == 52


def test_a_stop_is_saved_at_once_and_is_not_the_end(tmp_path):
    trainer = make(configure(), tmp_path)
    assert not run(trainer, lambda: trainer.worker.steps >= 48)
    assert list_checkpoints(tmp_path)[-1].name == "48"


def test_ace_logs_which_actor_was_chosen_in_evaluations(tmp_path):
    run(make(configure(ACE), tmp_path))
    assert records_of(tmp_path, "evaluate")[-1]["score_margin"] >= 0
    assert "score_margin" not in records_of(tmp_path, "train")[-1]  # members collect: nobody chooses


# -- resume ---------------------------------------------------------------------------------------------------

VARIANTS = {
    "ddpg": (DDPG, {}),
    "prioritized n-step": (
        DDPG | {"exploration": NOISE},
        {"replay": {"capacity": 64, "prioritized": True, "n_step": 3}},
    ),
    "td3": (DDPG | {"num_critics": 2, "policy_delay": 2, "target_noise": 0.2}, {}),
    "ace": (ACE | {"exploration": NOISE}, {}),
    "ace collecting as an ensemble": (ACE | {"collect_with": "ensemble", "train_with_ensemble": True}, {}),
    "embeddings": (DDPG | {"embedding": {"size": 6, "hidden_sizes": [16]}}, {}),
    "batch norm": (DDPG | {"critic": BATCH_NORM}, {}),
    "rates that fall": (DDPG | {"final_learning_rate_share": 0.1, "learning_rate_decay_start": 0.5}, {}),
    "episodes and warm-up": (DDPG, {"updates_per_episode": 3, "warmup_episodes": 2, "warmup_random": False}),
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("stop", [12, 56, 80], ids=["before learning", "off the beat", "on a checkpoint"])
def test_a_resumed_run_ends_with_the_same_bytes(tmp_path, name, stop):
    agent, keys = VARIANTS[name]
    config = configure(agent, **keys)
    run(make(config, tmp_path / "whole", env=PointEnv(4, length=7)))
    first = make(config, tmp_path / "parts", env=PointEnv(4, length=7))
    assert not run(first, lambda: first.worker.steps >= stop)
    checkpoint = read_checkpoint(tmp_path / "parts" / "checkpoints" / str(stop))
    agent = make_agent(config, seed=99)  # everything must come from the checkpoint
    second = make(config, tmp_path / "parts", agent=agent, env=PointEnv(4, length=7), checkpoint=checkpoint)
    assert run(second)
    whole, parts = final_bytes(tmp_path / "whole", 120), final_bytes(tmp_path / "parts", 120)
    assert [part for part in whole if whole[part] != parts[part]] == []
    assert second.updates == int(records_of(tmp_path / "whole", "train")[-1]["updates"])
    episodes = [records_of(tmp_path / name, "train")[-1]["episodes"] for name in ("whole", "parts")]
    assert episodes[0] == episodes[1] > 0


def test_a_resumed_batch_norm_ensemble_ends_with_the_same_bytes(tmp_path):
    config = configure(ACE | {"collect_with": "ensemble", "critic": BATCH_NORM}, train_ratio=0.05)
    run(make(config, tmp_path / "whole"))
    first = make(config, tmp_path / "parts")
    run(first, lambda: first.worker.steps >= 80)
    checkpoint = read_checkpoint(tmp_path / "parts" / "checkpoints" / "80")
    run(make(config, tmp_path / "parts", checkpoint=checkpoint))
    assert final_bytes(tmp_path / "whole", 120)["agent"] == final_bytes(tmp_path / "parts", 120)["agent"]


@pytest.mark.parametrize("updates", [13, 195])  # in the middle of a burst; in the last burst of the run
def test_a_run_stopped_between_two_updates_resumes_to_the_same_bytes(tmp_path, updates):
    config = configure(train_ratio=2.0)
    whole = make(config, tmp_path / "whole")
    assert run(whole)
    first = make(config, tmp_path / "parts")
    run(first, lambda: first.updates >= updates)
    assert first.updates == updates < whole.updates
    checkpoint = read_checkpoint(latest_checkpoint(tmp_path / "parts"))
    second = make(config, tmp_path / "parts", agent=make_agent(config, seed=99), checkpoint=checkpoint)
    assert run(second)
    assert second.updates == whole.updates
    assert final_bytes(tmp_path / "whole", 120)["agent"] == final_bytes(tmp_path / "parts", 120)["agent"]


@pytest.mark.parametrize(("updates", "logged"), [(75, []), (195, [60])], ids=["the first", "the last"])
def test_a_stop_among_an_evaluations_updates_leaves_it_to_the_resumed_run(tmp_path, updates, logged):
    config = configure(train_ratio=2.0)
    run(make(config, tmp_path / "whole"))
    first = make(config, tmp_path / "parts")
    assert not run(first, lambda: first.updates >= updates)
    assert [record["step"] for record in records_of(tmp_path / "parts", "evaluate")] == logged
    checkpoint = read_checkpoint(latest_checkpoint(tmp_path / "parts"))
    assert checkpoint.metadata["busy"]
    assert run(make(config, tmp_path / "parts", agent=make_agent(config, seed=99), checkpoint=checkpoint))
    whole, parts = (records_of(tmp_path / name, "evaluate") for name in ("whole", "parts"))
    assert [(record["step"], record["mean"]) for record in whole] == [(r["step"], r["mean"]) for r in parts]


def test_a_rate_changed_on_resume_holds_from_there_on(tmp_path):
    first = make(configure(train_ratio=0.25), tmp_path)
    run(first, lambda: first.worker.steps >= 80)
    checkpoint = read_checkpoint(tmp_path / "checkpoints" / "80")
    second = make(configure(train_ratio=1.0), tmp_path, checkpoint=checkpoint)
    run(second)
    assert second.updates == first.updates + 40


def test_checkpoints_name_every_source_that_trained_them(tmp_path, monkeypatch):
    checkpoint, found = None, []
    for steps, source in ((40, "a"), (80, "a"), (120, "b")):
        monkeypatch.setattr("rlsuite.running.training.commit", lambda source=source: source)
        run(make(configure(steps=steps), tmp_path, checkpoint=checkpoint))
        checkpoint = read_checkpoint(tmp_path / "checkpoints" / str(steps))
        found.append(checkpoint.metadata["commits"])
    assert found == [["a"], ["a"], ["a", "b"]]
    del checkpoint.metadata["commits"]  # as older ones are
    assert make(configure(), tmp_path, checkpoint=checkpoint).commits == ["unknown", "b"]


def test_environments_that_cannot_resume_truncate_what_was_open(tmp_path):
    agent = DDPG | {"reward_scaling": "returns", "exploration": NOISE}
    config = configure(agent, checkpoint={"every": 40, "keep": 1})
    first = make(config, tmp_path)
    run(first, lambda: first.worker.steps >= 40)
    checkpoint = read_checkpoint(tmp_path / "checkpoints" / "40")
    env = PointEnv(4)
    env.exact_resume = False
    second = make(config, tmp_path, env=env, checkpoint=checkpoint)
    newest = (second.replay.buffer.cursor - 1) % second.replay.buffer.num_slots
    assert second.replay.buffer.truncated[newest].all()
    assert not second.replay.buffer.terminated[newest].any()
    # The agent has begun new episodes as well: their returns and their decisions count from 0.
    assert first.agent.return_scaler.running.abs().sum() > 0
    assert second.agent.return_scaler.running.tolist() == [0.0] * 4
    assert first.agent.exploration.decision.sum() > 0
    assert second.agent.exploration.decision.tolist() == [0] * 4
    assert (second.agent.exploration.episode > first.agent.exploration.episode).all()
    assert run(second)


@pytest.mark.parametrize(
    "changed",
    [
        {"agent": DDPG | {"actor": {"hidden_sizes": [9]}}},
        {"agent": ACE},
        {"num_envs": 3},
        {"replay": {"capacity": 64, "prioritized": True}},
        {"replay": {"capacity": 16}},
    ],
    ids=str,
)
def test_a_checkpoint_of_another_configuration_is_refused_in_one_line(tmp_path, changed):
    first = make(configure(), tmp_path)
    run(first, lambda: first.worker.steps >= 80)
    checkpoint = read_checkpoint(tmp_path / "checkpoints" / "80")
    with pytest.raises(UserError, match="does not fit this configuration") as caught:
        make(configure(**changed), tmp_path, checkpoint=checkpoint)
    assert "\n" not in str(caught.value)


def test_two_runs_of_one_seed_are_identical_and_other_seeds_are_not(tmp_path):
    for name in ("one", "two"):
        run(make(configure(), tmp_path / name))
    assert final_bytes(tmp_path / "one", 120) == final_bytes(tmp_path / "two", 120)
    other = make(configure(seed=1), tmp_path / "other")
    run(other)
    assert final_bytes(tmp_path / "one", 120)["environment"] != final_bytes(tmp_path / "other", 120)["environment"]


# -- faults ---------------------------------------------------------------------------------------------------


def test_a_failing_environment_is_noted_and_recorded_and_training_goes_on(tmp_path, capsys):
    records = []
    config = configure()
    trainer = make(config, tmp_path, env=PointEnv(4, fail_at=9), records=records)
    with Monitor(tmp_path, total_steps=120) as monitor:
        assert trainer.run(monitor)
    assert len(records) == 1
    failure, path = records[0]
    assert path == tmp_path / "failures" / "environment0-step36"
    assert trainer.env.failures == []
    assert f"{failure.message}; recorded" in capsys.readouterr().out
    invalid = trainer.replay.buffer.invalid
    assert invalid.sum() <= 1
    assert trainer.replay.buffer.has_invalid
    assert trainer.worker.steps == 120


def test_a_failing_evaluation_is_counted_noted_and_recorded(tmp_path, capsys):
    records = []
    trainer = make(configure(), tmp_path, records=records)
    trainer.make_evaluation_env = lambda: PointEnv(3, fail_at=2)
    with Monitor(tmp_path, total_steps=120) as monitor:
        assert trainer.run(monitor)
    assert [record.get("failed") for record in records_of(tmp_path, "evaluate")] == [1, None]
    ((failure, path),) = records
    assert path == tmp_path / "failures" / "evaluation0-step60"
    assert f"{failure.message}; recorded" in capsys.readouterr().out
    assert trainer.evaluation_env.failures == []


def test_an_evaluation_environment_that_cannot_begin_costs_no_training(tmp_path):
    class Broken(PointEnv):
        def reset(self, **keys):
            raise UserError("no picture can be read")

    trainer = make(configure(), tmp_path)
    trainer.make_evaluation_env = lambda: Broken(3)
    with pytest.raises(UserError, match="no picture can be read"):
        run(trainer)
    assert trainer.worker.steps == 0


def test_steps_per_second_leave_evaluations_and_checkpoints_out(tmp_path, monkeypatch):
    clock, save = [0.0], saving.save_checkpoint
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    class Slow(PointEnv):
        seconds = 1.0

        def step(self, actions):
            clock[0] += self.seconds
            return super().step(actions)

    def slow_save(*arguments, **keys):
        clock[0] += 50.0
        save(*arguments, **keys)

    monkeypatch.setattr(saving, "save_checkpoint", slow_save)
    trainer = make(configure(), tmp_path, env=Slow(4))
    trainer.make_evaluation_env = lambda: Slow(3)
    run(trainer)
    assert clock[0] == 30 + 2 * 20 + 3 * 50
    assert [record["steps_per_second_update"] for record in records_of(tmp_path, "train")] == [4.0] * 6


def test_a_non_finite_loss_leaves_a_post_mortem_and_stops_in_one_line(tmp_path):
    trainer = make(configure(log={"every": 4}), tmp_path)
    trainer.agent.critic_parameters[-1].data.fill_(float("nan"))
    with pytest.raises(UserError, match=r"critic_loss.* became non-finite by step 24") as caught:
        run(trainer)
    assert "\n" not in str(caught.value)
    assert {path.name for path in (tmp_path / "failures").iterdir()} == {"update-24.json", "update-24.safetensors"}
    assert list_checkpoints(tmp_path) == []  # the bad weights were not saved over good ones


def test_a_loss_that_turns_non_finite_between_logs_is_not_checkpointed(tmp_path):
    agent = CountingAgent()
    config = configure(log={"every": 1000}, evaluate={"every": 0})
    trainer = make(config, tmp_path, agent=agent)
    agent.loss = torch.tensor(float("inf"))
    with pytest.raises(UserError, match=r"critic_loss became non-finite by step 40"):
        run(trainer)
    assert list_checkpoints(tmp_path) == []


@pytest.mark.parametrize("evaluate_every", [0, 24], ids=["collecting", "evaluating"])
def test_a_diverged_actor_stops_in_one_line_with_a_post_mortem(tmp_path, evaluate_every):
    trainer = make(configure(log={"every": 1000}, evaluate={"every": evaluate_every, "episodes": 2}), tmp_path)
    trainer.agent.critic_parameters[-1].data.fill_(float("nan"))  # the actor follows with its first update
    with pytest.raises(UserError) as caught:
        run(trainer)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "failures").glob("update-*.json"))


def test_the_replay_that_does_not_fit_is_refused(tmp_path):
    config = configure(replay={"capacity": 10**13})
    with pytest.raises(UserError, match=r"replay\.capacity=10000000000000 needs \d+ bytes"):
        make(config, tmp_path)


def test_the_config_in_the_checkpoint_is_the_runs(tmp_path):
    config = dataclasses.replace(configure(), steps=40)
    run(make(config, tmp_path))
    metadata = read_checkpoint(tmp_path / "checkpoints" / "40").metadata
    assert train_config(metadata["config"]) == config
    assert metadata["seed"] == 0
    assert metadata["steps_at_start"] == 20
