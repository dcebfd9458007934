"""Faults: refused actions, isolated simulations, records that replay."""

import json

import pytest
import torch

import envs
from envs.failures import load_failure, replay_failure, save_failure
from rlsuite.errors import UserError


def stepped(num_steps=6, fault=None, name="HalfCheetah"):
    """Roll four environments; `fault` may tamper with the simulation before step 3."""
    env = envs.make_vector(name, 4, num_threads=2, dtype=torch.float64)
    env.reset(seed=2)
    generator = torch.Generator().manual_seed(0)
    record = []
    for step in range(num_steps):
        action = torch.rand(4, env.single_action_space.shape[0], generator=generator) - 0.5
        if step == 3 and fault is not None:
            fault(env)
        record.append(env.step(action))
    return env, record


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_action_is_refused_before_anything_is_stepped(bad):
    env, _ = stepped()
    before = env.state()
    action = torch.zeros(4, 6)
    action[2, 1] = bad
    with pytest.raises(ValueError, match=r"action of environment 2 is not finite.*check the policy's output"):
        env.step(action)
    assert all(torch.equal(value, before[name]) for name, value in env.state().items())
    assert env.failures == []


@pytest.mark.parametrize("shape", [(4,), (4, 5), (3, 6), (1, 4, 6)])
def test_action_of_wrong_shape_is_refused(shape):
    env, _ = stepped(1)
    with pytest.raises(ValueError, match=r"expected \(4, 6\)"):
        env.step(torch.zeros(shape))


def write(field, value):
    def tamper(env):
        env.simulation.field(field)[1, 2] = value

    return tamper


@pytest.mark.parametrize("name", ["HalfCheetah", "Humanoid"])
@pytest.mark.parametrize(
    "fault",
    [write("qvel", float("nan")), write("qpos", float("inf")), write("qvel", 1e11)],
    ids=["nan", "inf", "huge"],
)
def test_one_failed_simulation_does_not_touch_the_others(name, fault):
    _, clean = stepped(name=name)
    env, record = stepped(fault=fault, name=name)
    others = [0, 2, 3]
    for step, (expected, got) in enumerate(zip(clean, record, strict=True)):
        for a, b in zip([*expected[:4], *expected[4].values()], [*got[:4], *got[4].values()], strict=True):
            assert torch.equal(a[others], b[others])
            assert torch.isfinite(b).all()
        failed = got[4]["failed"]
        assert failed.tolist() == [False, step == 3, False, False]
    observation, reward, terminated, truncated, info = record[3]
    assert (float(reward[1]), bool(terminated[1]), bool(truncated[1])) == (0.0, False, True)
    assert torch.equal(info["final_obs"][1], record[2][0][1])  # its last good observation
    assert not torch.equal(observation[1], info["final_obs"][1])
    assert int(env.state()["elapsed"][1]) == 2
    assert int(env.state()["episode"][1]) == 1
    (failure,) = env.failures
    assert (failure.env_index, failure.seed, failure.episode, failure.episode_step) == (1, 2, 0, 3)


def test_failure_record_replays(tmp_path):
    env, _ = stepped(fault=write("qvel", 1e9))
    (failure,) = env.failures
    save_failure(failure, tmp_path / "faults" / "first")
    assert {file.suffix for file in (tmp_path / "faults").iterdir()} == {".json", ".safetensors"}
    loaded = load_failure(tmp_path / "faults" / "first")
    assert torch.equal(loaded.row, failure.row)
    assert torch.equal(loaded.action, failure.action)
    assert (loaded.env_index, loaded.options["ctrl_cost_weight"]) == (1, 0.1)
    replay = replay_failure(loaded)
    assert replay.before == []  # very fast, but not yet beyond the engine's bound
    assert {"qpos", "qvel"} <= set(replay.after)
    assert replay.substep is not None


def test_replay_tells_that_the_state_was_bad_before():
    env, _ = stepped(fault=write("qvel", float("nan")))
    replay = replay_failure(env.failures[0])
    assert replay.before == ["qvel"]
    assert replay.substep == 0
    assert "before the step" in env.failures[0].message


def test_replay_of_a_good_step_finds_nothing():
    env, _ = stepped(fault=write("qvel", float("nan")))
    failure = env.failures[0]
    good = type(failure)(**{**vars(failure), "row": env.simulation.state()[0]})
    replay = replay_failure(good)
    assert (replay.before, replay.after, replay.substep) == ([], [], None)


def test_damaged_records_are_refused_in_one_line(tmp_path):
    env, _ = stepped(fault=write("qvel", float("nan")))
    path = tmp_path / "record"
    with pytest.raises(UserError, match="no such failure record"):
        load_failure(path)
    save_failure(env.failures[0], path)
    path.with_suffix(".safetensors").write_bytes(b"not tensors")
    with pytest.raises(UserError, match="not a failure record"):
        load_failure(path)
    save_failure(env.failures[0], path)
    path.with_suffix(".json").write_text(json.dumps({"seed": 1}))
    with pytest.raises(UserError, match="not a failure record"):
        load_failure(path)


def test_no_log_file_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stepped(fault=write("qvel", float("nan")), name="Humanoid")
    assert list(tmp_path.iterdir()) == []
