"""evaluate_agent.py, benchmark.py and replay_failure.py as a user runs them."""

import json
import math

import pytest
import torch

from rlsuite.cli import run_script
from rlsuite.running.seeding import WATCHED_ON, derive_seed
from rlsuite.scoring import evaluate


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three tiny trained runs: two ACE seeds on one task, one DDPG on another."""
    from scripts import train_agent

    folder = tmp_path_factory.mktemp("runs")
    for name, arguments in {
        "a": ["agent=ace", "env=InvertedPendulum", "seed=0"],
        "b": ["agent=ace", "env=InvertedPendulum", "seed=1"],
        "other": ["agent=ddpg", "env=Hopper"],
    }.items():
        small = ["preset=debug", "steps=600", "checkpoint.every=200", "evaluate.every=0", f"run_dir={folder / name}"]
        assert run_script(train_agent.main, [*arguments, *small]) == 0
    return folder


def last_json(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def error_line(capsys):
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("error: ")
    return lines[0]


def test_evaluate_prints_one_json_line_last_and_is_repeatable(runs, capsys):
    from scripts import evaluate_agent

    arguments = [f"run={runs / 'a'}", "episodes=5", "seed=3"]
    assert run_script(evaluate_agent.main, arguments) == 0
    first = last_json(capsys)
    assert run_script(evaluate_agent.main, arguments) == 0
    assert last_json(capsys) == first
    assert set(first) >= {"mean", "std", "interval", "lengths"}
    assert len(first["lengths"]) == 5
    assert first["interval"][0] <= first["mean"] <= first["interval"][1]
    # An inverted pendulum pays 1 a step but for the last: returns follow from lengths.
    assert first["mean"] == pytest.approx(sum(first["lengths"]) / 5, abs=1.0)


def test_options_of_the_task_can_be_others_for_an_evaluation(runs, capsys):
    from scripts import evaluate_agent

    arguments = [f"run={runs / 'a'}", "episodes=2"]
    assert run_script(evaluate_agent.main, [*arguments, "env.max_episode_steps=3"]) == 0
    assert last_json(capsys)["lengths"] == [3, 3]
    assert run_script(evaluate_agent.main, [*arguments, "env.balls=3"]) == 2
    assert "no option 'balls'" in error_line(capsys)
    assert run_script(evaluate_agent.main, [*arguments, "env.max_episode_steps=3,4"]) == 2
    assert "env.max_episode_steps=3,4: one evaluation takes one value" in error_line(capsys)


def test_an_evaluation_keeps_what_the_policy_sees(tmp_path, capsys):
    from scripts import evaluate_agent, train_agent

    small = ["agent.hidden_sizes=[8]", "agent.rollout_length=4", "agent.minibatch_size=8", "agent.passes=1"]
    of_run = ["num_envs=2", "steps=8", "num_threads=1", "device=cpu", "evaluate.every=0", f"run_dir={tmp_path / 'run'}"]
    assert run_script(train_agent.main, ["agent=ppo", "env=LearningToRun", *small, *of_run]) == 0
    capsys.readouterr()
    assert run_script(evaluate_agent.main, [str(tmp_path / "run"), "episodes=1", "env.features=ace"]) == 2
    assert error_line(capsys).startswith("error: env.features=: the policy was trained on other observations")


def test_evaluate_never_replays_the_starts_of_a_runs_own_curve(runs, capsys, monkeypatch):
    from scripts import evaluate_agent

    seeds = []

    def note(policy, env, *, seed, **keys):
        seeds.append(seed)
        return evaluate(policy, env, seed=seed, **keys)

    monkeypatch.setattr(evaluate_agent, "evaluate", note)
    assert run_script(evaluate_agent.main, [f"run={runs / 'a'}", "episodes=1", "seed=0"]) == 0
    assert "no interval of one value" in capsys.readouterr().out
    assert seeds[0] != derive_seed(0, WATCHED_ON)


def test_evaluate_ensembles_from_runs_snapshots_and_both(runs, capsys):
    from scripts import evaluate_agent

    pair = f"run={runs / 'a'},{runs / 'b'}"
    for arguments in (
        [pair, "source=runs"],
        [f"run={runs / 'a'}", "source=snapshots", "num_members=2", "num_actors=3", "num_critics=2"],
        [f"run={runs / 'a' / 'checkpoints'}", "source=snapshots", "num_members=2"],
        [pair, "source=mixed", "num_members=4", "normalize_scores=true"],
    ):
        assert run_script(evaluate_agent.main, [*arguments, "episodes=2"]) == 0
        assert math.isfinite(last_json(capsys)["mean"])


def test_members_of_one_run_alone_act_as_the_run_does(runs, capsys):
    from scripts import evaluate_agent

    assert run_script(evaluate_agent.main, [f"run={runs / 'a'}", "episodes=3"]) == 0
    own = last_json(capsys)
    assert run_script(evaluate_agent.main, [f"run={runs / 'a'}", "episodes=3", "source=runs"]) == 0
    assert last_json(capsys) == own


def test_evaluate_writes_a_video(runs, capsys, tmp_path):
    import av

    from scripts import evaluate_agent

    path = tmp_path / "deep" / "film.mp4"
    assert run_script(evaluate_agent.main, [f"run={runs / 'a'}", "episodes=1", "video=true", f"output={path}"]) == 0
    length = last_json(capsys)["lengths"][0]
    with av.open(str(path)) as film:
        assert sum(1 for _ in film.decode(video=0)) == length


def test_evaluate_shows_the_first_episode_in_a_window_and_films_it(runs, capsys, tmp_path, monkeypatch):
    from scripts import evaluate_agent

    class Screen:
        def __init__(self, title, rate):
            self.pictures = []
            screens.append((title, rate, self.pictures))

        def show(self, picture):
            self.pictures.append(picture)

        def close(self):
            closed.append(True)

    screens, closed = [], []
    monkeypatch.setattr(evaluate_agent, "Window", Screen)
    given = [f"run={runs / 'a'}", "episodes=2", "render=human"]
    assert run_script(evaluate_agent.main, [*given, "video=true", f"output={tmp_path / 'film.mp4'}"]) == 0
    length = last_json(capsys)["lengths"][0]
    ((title, rate, pictures),) = screens
    assert (title, rate, len(pictures), closed) == ("InvertedPendulum, step 600", 25, length, [True])
    assert all(picture.shape == (480, 480, 3) for picture in pictures)
    assert (tmp_path / "film.mp4").stat().st_size > 0


def test_evaluate_without_a_display_says_so_in_one_line(runs, capsys, monkeypatch):
    from scripts import evaluate_agent

    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert run_script(evaluate_agent.main, [f"run={runs / 'a'}", "render=human"]) == 2
    assert "no display to open a window on" in error_line(capsys)


def test_evaluate_refuses_bad_input_in_one_line(runs, capsys, tmp_path):
    from scripts import evaluate_agent

    for arguments, word in (
        ([], "run="),
        ([f"run={tmp_path}"], "checkpoint"),
        ([f"run={runs / 'a'}", "episodes=0"], "episodes"),
        ([f"run={runs / 'a'}", "source=snapshot"], "snapshots"),
        ([f"run={runs / 'a'},{runs / 'b'}"], "source=runs"),
        ([f"run={runs / 'a'},{runs / 'other'}", "source=runs"], "Hopper"),
        ([f"run={runs / 'a'}", "source=snapshots", "num_members=99"], "99"),
        ([f"run={runs / 'a'}", "num_members=2"], "source=latest is one checkpoint; add source=snapshots"),
        ([f"run={runs / 'a'}", "epsiodes=3"], "episodes"),
        ([f"run={runs / 'a'}", "output=film.mp4"], "add video=true"),
        ([f"run={runs / 'a'}", "render=rgb_array"], "use human"),
        ([f"run={runs / 'a'}", "render=human", "evaluation=pruning/l1"], "leave out render="),
        (["runs/nowhere/at/all"], "no run or checkpoint directory"),
        (["--run=a"], "write run=a"),
    ):
        assert run_script(evaluate_agent.main, arguments) == 2
        assert word in error_line(capsys), arguments


def test_benchmark_stepping_prints_ratios(capsys):
    from scripts import benchmark

    arguments = ["what=stepping", "env=InvertedPendulum", "num_envs=8", "rounds=1", "seconds=0.05"]
    assert run_script(benchmark.main, arguments) == 0
    result = last_json(capsys)
    assert result["ratio_raw"] > 0
    assert result["ratio_gymnasium"] > 0
    assert "ratio_envpool" in result


def test_benchmark_updates_prints_ratios(capsys):
    from scripts import benchmark

    for agent in ("ddpg", "ace"):
        arguments = ["what=updates", f"agent={agent}", "env=Hopper", "rounds=1", "seconds=0.05", "agent.batch_size=16"]
        assert run_script(benchmark.main, arguments) == 0
        result = last_json(capsys)
        assert result["ratio_matmul"] > 0
        assert "ratio_sb3" in result
    small = ["agent.batch_size=16", "agent.critic.hidden_sizes=[8,8]", "agent.actor.hidden_sizes=[8,8]"]
    arguments = ["what=updates", "agent=flash_sac", "env=Hopper", "rounds=1", "seconds=0.05", *small]
    assert run_script(benchmark.main, arguments) == 0
    result = last_json(capsys)
    assert result["ratio_matmul"] > 0
    assert result["ratio_sb3"] is None
    assert run_script(benchmark.main, ["what=everything"]) == 2
    assert "stepping" in error_line(capsys)


PAPERS_MODELS = [f"agent.dynamics.{key}" for key in ("activation=relu", "normalization=weight", "see_angles=false")]
OURS = [f"agent.dynamics.{key}" for key in ("activation=silu", "normalization=none", "see_angles=true")]


def test_benchmark_imagination_prints_ratios(capsys):
    from scripts import benchmark

    arguments = ["what=imagination", "agent=pombu", "env=FixedHorizonHopper", "rounds=1", "seconds=0.05"]
    small = [
        "env.max_episode_steps=4",
        "agent.horizon=4",
        "steps=1000",
        "agent.trajectories=3",
        "agent.dynamics.hidden_sizes=[16,16]",
    ]
    assert run_script(benchmark.main, [*arguments, *small]) == 0
    result = last_json(capsys)
    assert (result["steps"], result["num_members"]) == (12, 5)
    assert min(result["ratio_loop"], result["ratio_modules"], result["ratio_matmul"]) > 0
    assert run_script(benchmark.main, ["what=imagination", "agent=ace"]) == 2
    assert "agent=pombu" in error_line(capsys)


@pytest.mark.parametrize(("of_models", "angles"), [(PAPERS_MODELS, 0), (OURS, 4)])
def test_the_loops_imagine_what_the_batched_roll_outs_do(of_models, angles):
    """With a deterministic policy and models that all agree, a roll-out has no randomness left but its start."""
    from rlsuite.config.compose import compose_train
    from scripts.benchmarks import imagination

    keys = [
        "env.max_episode_steps=13",
        "agent.horizon=13",
        "steps=1000",
        "agent.trajectories=2",
        "agent.dynamics.hidden_sizes=[16]",
    ]
    config = compose_train(
        ["agent=pombu", "env=FixedHorizonHopper", "agent.dynamics.precision=float32", *keys, *of_models]
    )[0]
    agent = imagination.ready(config)
    assert len(agent.dynamics.input_mean) == 11 + 3 + 2 * angles
    agent.starts[:] = agent.starts[0].clone()
    with torch.no_grad():
        agent.policy.log_std.fill_(-40.0)
        for parameter in agent.dynamics.network.parameters():
            parameter.copy_(parameter[:1].expand_as(parameter))
    found = agent.imagined(agent.policy, 1)
    for form in (imagination.plain_form, imagination.module_form):
        models = [form(agent.dynamics.network, member) for member in range(5)]
        reward, uncertainty = imagination.imagine_in_a_loop(agent, models, *imagination.forms(agent, form))
        torch.testing.assert_close(reward, found.reward[:, 0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(uncertainty, found.uncertainty[:, 0], rtol=1e-3, atol=1e-6)


def test_matmul_shapes_count_the_arithmetic_of_an_update():
    from agents.actor_critic import ActorCritic
    from agents.actor_critic_config import ActorCriticConfig
    from rlsuite.nn.actors import ActorConfig
    from rlsuite.nn.critics import CriticConfig
    from rlsuite.vector_env import EnvironmentFacts
    from scripts.benchmarks.updates import matmul_shapes

    config = ActorCriticConfig(
        batch_size=7, policy_delay=2, actor=ActorConfig(hidden_sizes=(5,)), critic=CriticConfig(hidden_sizes=(4,))
    )
    agent = ActorCritic(EnvironmentFacts.of_vectors(3, [-1, -1], [1, 1]), config)
    # Multiply-adds by hand. Actor 3-5-2: 7 * (15 + 10) = 175 forward. Critic 5-4-1: 7 * (20 + 4) = 168 forward.
    targets = 175 + 168
    critics = 168 + 168 + 28  # forward, weight gradients, input gradient of the last layer
    actors = 175 + 175 + 70  # the same for the actors
    through = 168 + 28 + 56  # the critic's forward; input gradients: last layer, and the 2 action columns
    total = sum(count * rows * inner * columns * times for count, rows, inner, columns, times in matmul_shapes(agent))
    assert total == pytest.approx(targets + critics + (actors + through) / 2)


def test_matmul_shapes_count_the_arithmetic_of_joint_batches():
    from agents.actor_critic import ActorCritic
    from agents.actor_critic_config import ActorCriticConfig
    from rlsuite.nn.actors import ActorConfig
    from rlsuite.nn.critics import CriticConfig
    from rlsuite.vector_env import EnvironmentFacts
    from scripts.benchmarks.updates import matmul_shapes

    config = ActorCriticConfig(
        batch_size=7,
        policy_delay=2,
        actor=ActorConfig(hidden_sizes=(5, 5), block="residual"),
        critic=CriticConfig(hidden_sizes=(4, 4), block="residual", slow_copies=True),
    )
    agent = ActorCritic(EnvironmentFacts.of_vectors(3, [-1, -1], [1, 1]), config)
    # Multiply-adds a row by hand. Actor 3-5-(20-5)-2: 15 + 200 + 10. Critic 5-4-(16-4)-1: 20 + 128 + 4.
    actor, critic = 225, 152
    targets = actor + 2 * critic  # the next action; slow copies on both rows
    critics = 2 * (critic + critic + critic - 20)
    actors = 2 * (actor + actor + actor - 15)
    through = critic + critic - 20 + 4 * 2
    total = sum(count * rows * inner * columns * times for count, rows, inner, columns, times in matmul_shapes(agent))
    assert total == pytest.approx(7 * (targets + critics + (actors + through) / 2))


def test_matmul_shapes_count_the_embeddings_arithmetic():
    from agents.ace import ACE, ACEConfig
    from rlsuite.nn.actors import ActorConfig
    from rlsuite.nn.critics import CriticConfig
    from rlsuite.nn.embedding import EmbeddingConfig
    from rlsuite.vector_env import EnvironmentFacts
    from scripts.benchmarks.updates import matmul_shapes

    config = ACEConfig(
        num_pairs=3,
        batch_size=7,
        actor=ActorConfig(hidden_sizes=(5,)),
        critic=CriticConfig(hidden_sizes=(4,)),
        embedding=EmbeddingConfig(size=6, hidden_sizes=(8,)),
    )
    agent = ACE(EnvironmentFacts.of_vectors(3, [-1, -1], [1, 1]), config)
    # Multiply-adds a row by hand. Actor 9-5-2: 45 + 10. Critic 17-4-1: 68 + 4. State 3-8-6: 24 + 48. Action 8-8-6:
    # 64 + 48.
    networks = 55 + 72 + (72 + 72 + 4) + (55 + 55 + 10) + (72 + 4 + 4 * 8)  # as above; 8: action and its embedding
    slow = 72 + 72 + 112 + 112 + (112 + 48 + 8 * 2)  # both states, both actions, the actors' with its gradient
    learned = 72 + (72 + 72 + 48) + (112 + 112 + 48 + 8 * 6)  # the target; forward, weights, inputs
    total = sum(count * rows * inner * columns * times for count, rows, inner, columns, times in matmul_shapes(agent))
    assert total == pytest.approx(21 * (networks + slow + learned))


def test_replay_failure_repeats_a_failed_update(tmp_path, capsys):
    from scripts import replay_failure, train_agent

    folder = tmp_path / "run"
    arguments = ["agent=ddpg", "env=Hopper", "preset=debug", "evaluate.every=0", f"run_dir={folder}"]
    # A learning rate this large drives the weights to infinity within a few updates.
    rates = ["agent.critic_learning_rate=1e38", "agent.actor_learning_rate=1e38"]
    assert run_script(train_agent.main, [*arguments, *rates]) == 2
    line = error_line(capsys)
    assert "non-finite" in line
    assert "replay_failure.py" in line
    record = next((folder / "failures").glob("update-*.json"))
    assert run_script(replay_failure.main, [str(record)]) == 0
    found = last_json(capsys)
    assert found["agent"]
    assert found["batch"] == []
    assert run_script(replay_failure.main, [str(tmp_path / "nothing")]) == 2
    error_line(capsys)


def test_benchmark_fit_prints_ratios(capsys):
    from scripts import benchmark

    assert run_script(benchmark.main, ["what=fit", "rounds=1", "seconds=0.05", "num_threads=1"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["conv_ratio_bare"] > 0
    assert found["renderer_median_ours"] > 0
    assert run_script(benchmark.main, ["what=fit", "env=Hopper"]) == 2
    assert "env=Hopper: what=fit takes" in capsys.readouterr().err


def test_updates_beside_steps_are_measured(capsys):
    from scripts import benchmark

    keys = ["agent=td3", "env=InvertedPendulum", "num_envs=4", "num_threads=1", "train_ratio=0.5", "device=cpu"]
    sizes = ["agent.batch_size=8", "agent.actor.hidden_sizes=[8]", "agent.critic.hidden_sizes=[8]"]
    assert run_script(benchmark.main, ["what=overlap", "rounds=1", "seconds=0.02", *keys, *sizes]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["seconds_over_longer_half"] > 0
    assert {"median_steps", "median_updates", "median_ours", "median_after"} <= found.keys()


def test_benchmark_binary_prints_ratios(capsys):
    from scripts import benchmark

    assert run_script(benchmark.main, ["what=binary", "rounds=1", "seconds=0.02", "num_threads=1"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    for rows in (1, 16, 256):
        assert found[f"rows_{rows}_ratio_float32"] > 0
    assert run_script(benchmark.main, ["what=binary", "env=Hopper"]) == 2
    assert "env=Hopper: what=binary takes" in capsys.readouterr().err
