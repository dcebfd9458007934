"""From arguments to a config: groups, presets, sweeps, resume, and one line for every mistake."""

import dataclasses

import pytest
import yaml

from agents.assembly import check_fit, make_env
from agents.pombu.config import POMBUConfig
from rlsuite.config.compose import CONF, compose_train, expand, group_options, merge, parse, read_config
from rlsuite.config.schema import to_plain
from rlsuite.errors import UserError
from rlsuite.nn.exploration import ExplorationConfig

LONG_BODIES = ("Ant", "HalfCheetah", "Hopper", "Swimmer", "Walker2d")
OTHER_LENGTHS = ["Point3D", *(f"FixedHorizon{body}Long" for body in LONG_BODIES)]


@pytest.mark.parametrize("env", [name for name in group_options("env") if name not in ("gymnasium", "envpool")])
def test_every_task_composes_and_exists(env):
    import envs

    config, _ = compose_train([f"env={env}", "preset=debug"])
    assert config.env.full_id == f"rlsuite/{env}"
    assert env in envs.task_names()


def test_every_task_of_the_suite_is_a_choice():
    import envs

    assert set(group_options("env")) - {"gymnasium", "envpool"} == set(envs.task_names())


@pytest.mark.parametrize("adapter", ["gymnasium", "envpool"])
def test_adapters_compose_with_an_id(adapter):
    config, _ = compose_train([f"env={adapter}", "env.id=Pendulum-v1"])
    assert config.env.full_id == f"{adapter}:Pendulum-v1"
    with pytest.raises(UserError, match=r"^env\.id is missing"):
        compose_train([f"env={adapter}"])


def named_by(path):
    """The file that a YAML file's name lets take part: a choice, or what stands in the folder of one."""
    group, *rest = path.relative_to(CONF).with_suffix("").parts
    if not rest:
        return group == "train"
    if len(rest) == 1:
        return rest[0] in group_options(group)
    agent, *rest = rest
    assert (CONF / group / f"{agent}.yaml").exists()
    return rest[-1] in {*group_options("preset"), *(group_options("env") if group == "agent" else ()), "general"}


def test_every_yaml_takes_part():
    """Every file under conf is a choice, an agent's or a recipe's part of one, or named by another's defaults."""
    paths = [path for path in CONF.rglob("*.yaml") if path.parent != CONF / "paper"]
    texts = {path: path.read_text() for path in paths}
    for path in paths:
        name = path.relative_to(CONF).with_suffix("").as_posix()
        named = any(f"/{name}\n" in text for text in texts.values())
        recipe = any(f"override /recipe: {path.stem}\n" in text for text in texts.values())
        assert named or (recipe if path.parent == CONF / "recipe" else named_by(path)), path
    assert len(set(texts.values())) == len(texts)  # what two say alike has one home


@pytest.mark.parametrize("env", ["HalfCheetah", "Humanoid"])
def test_what_an_agent_needs_on_a_task_differs_from_its_default_and_leaves_papers_alone(env):
    def composed(name, *more):
        config = to_plain(compose_train(["agent=ace", f"env={name}", *more])[0])
        return {key: value for key, value in config.items() if key != "env"}

    assert composed(env) != composed("Hopper")
    assert composed(env, "preset=paper") == composed("Hopper", "preset=paper")


@pytest.mark.parametrize(
    "path", sorted(CONF.glob("agent/*/*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_a_file_of_a_task_is_reached_from_its_agents(path):
    """An agent's file must name its folder (optional <agent>: ${env}), or what stands there would be left out."""
    if path.stem in group_options("env"):
        assert f"optional {path.parent.name}: ${{env}}" in (CONF / "agent" / f"{path.parent.name}.yaml").read_text()


def test_defaults_are_ace_on_humanoid_and_all_agents_share_the_measured_recipe():
    config, _ = compose_train([])
    assert (config.agent_name, config.env.id, config.steps) == ("ace", "rlsuite/Humanoid", 1_000_000)
    assert (config.agent.num_pairs, config.agent.bootstrap_from) == (2, "neighbours")
    cheetah, _ = compose_train(["agent=ace", "env=HalfCheetah"])
    assert (cheetah.agent.embedding.size, cheetah.agent.batch_size, cheetah.train_ratio) == (128, 128, 0.5)
    for words, size in ((("env=HalfCheetah",), 128), (("env=HalfCheetah", "preset=paper"), 0), (("env=Hopper",), 0)):
        assert compose_train(["agent=flash_sac", *words])[0].agent.embedding.size == size
    for name in ("ace", "ddpg", "sac", "td3"):
        config, _ = compose_train([f"agent={name}", "env=Hopper"])
        agent = config.agent
        assert agent.embedding.size == 0
        n_step = 1 if name == "sac" else 3  # entropy is of every step, not of the bootstrapped ones alone
        assert (agent.critic.block, agent.actor.layer_norm, config.replay.n_step) == ("layer_norm", False, n_step)
        assert agent.critic_learning_rate == agent.actor_learning_rate == 1e-3


def test_agents_for_goals_share_their_recipe():
    for name in ("sher", "her"):
        config, _ = compose_train([f"agent={name}", "env=FetchPush"])
        agent = config.agent
        assert (config.replay.hindsight.strategy, agent.normalizer.source, agent.clip_targets) == (
            *("future", "relabelled"),
            True,
        )
    assert set(group_options("agent")) == {
        "ace",
        "trpo",
        "ddpg",
        "sac",
        "td3",
        "dqn",
        "flash_sac",
        "sher",
        "her",
        "ppo",
        "pombu",
        "painter",
        "painter_ddpg",
        "scribe",
        "scribe_ddpg",
    }


@pytest.mark.parametrize("agent", group_options("agent"))
def test_every_agent_has_a_debug_preset(agent):
    config, _ = compose_train([f"agent={agent}", "preset=debug"])
    assert (config.steps, config.num_envs) == (2000, 2 if agent == "pombu" else 4)
    if agent.startswith(("painter", "scribe")):
        assert (config.agent.network, config.agent.width, config.env.options["size"]) == ("small", 4, 16)
        return
    sizes = config.agent.hidden_sizes if hasattr(config.agent, "hidden_sizes") else config.agent.actor.hidden_sizes
    assert sizes == (32, 32)


def test_paper_presets_of_scribes_are_the_painters_numbers_at_64_pixels():
    for name in ("scribe", "scribe_ddpg"):
        config, _ = compose_train([f"agent={name}", "env=Characters", "preset=paper"])
        agent, env = config.agent, config.env.options
        assert (config.num_envs, agent.batch_size, agent.discount, agent.target_rate) == (96, 96, 0.95, 0.001)
        assert config.steps * config.train_ratio == pytest.approx(20_000)
        assert config.steps * config.train_ratio >= agent.milestones[-1]
        assert config.replay.capacity >= 800 * env["max_episode_steps"]  # the last 800 episodes
        assert (env["size"], env["max_episode_steps"], env["noise"]) == (64, 4, "all")
        assert (agent.network, agent.width, agent.reward, agent.privileged_critic) == ("resnet18", 32, "share", True)
        assert (agent.actor_learning_rates[0], agent.critic_learning_rates[0]) == (1e-3, 3e-4)


def test_paper_presets_of_painters_are_the_papers():
    for name in ("painter", "painter_ddpg"):
        config, _ = compose_train([f"agent={name}", "env=Painting", "preset=paper"])
        agent, env = config.agent, config.env.options
        assert (config.num_envs, config.replay.capacity, agent.batch_size) == (96, 32_000, 96)
        # Steps are counted in every environment: 20,000 episodes of 40 bundles in 96 environments.
        assert config.steps == 20_000 * 40 * 96
        assert config.learning_starts == 400 * 96
        assert config.steps * config.train_ratio == pytest.approx(200_000)
        assert config.steps * config.train_ratio >= agent.milestones[-1]
        assert config.train_ratio * 96 * 40 == pytest.approx(10)  # updates after each 40 bundles in every environment
        assert (env["size"], env["max_episode_steps"], env["crop"], env["start"]) == (128, 40, 1.0, "black")
        assert (agent.reward, agent.network, agent.width, agent.target_rate) == ("wgan", "resnet18", 64, 0.001)
        assert agent.discount == pytest.approx(0.7738, abs=1e-4)
        assert agent.actor_learning_rates == (1e-3, 3e-4, 1e-4)
        assert agent.critic_learning_rates == (3e-4, 1e-4, 3e-5)
        assert agent.milestones == (100_000, 200_000)
        assert agent.exploration_noise == (0.05 if name == "painter_ddpg" else 0.0)


def test_paper_presets_of_agents_for_goals_are_the_papers():
    sher, _ = compose_train(["agent=sher", "env=FetchPush", "preset=paper"])
    agent = sher.agent
    assert (agent.discount, agent.batch_size, agent.target_rate, agent.target_every) == (0.99, 19 * 64, 0.05, 40)
    assert (agent.critic_learning_rate, agent.actor_learning_rate, agent.initial_temperature) == (1e-3, 3e-4, 0.03)
    assert (agent.actor.hidden_sizes, agent.critic.initialization) == ((256, 256, 256), "xavier")
    assert (agent.value, agent.actor_ascends, agent.num_critics, agent.exploration.random_probability) == (
        *("state", "first", 2),
        0.05,
    )
    assert sher.steps == 200 * 50 * 38 * 50
    her, _ = compose_train(["agent=her", "env=FetchPush", "preset=paper"])
    assert (her.agent.discount, her.agent.actor_learning_rate, her.agent.action_penalty) == (0.98, 1e-3, 1.0)
    assert (her.agent.exploration.std, her.agent.exploration.random_probability) == (0.2, 0.3)
    assert her.steps == 50 * 50 * 38 * 50


@pytest.mark.parametrize("env", OTHER_LENGTHS)
def test_pombu_fits_tasks_of_other_lengths(env):
    config, _ = compose_train(["agent=pombu", f"env={env}"])
    task = make_env(config, 1, num_threads=1)
    check_fit(config, task)
    task.close()


def test_presets_of_pombu_are_the_papers():
    paper, _ = compose_train(["agent=pombu", "env=FixedHorizonHalfCheetah", "preset=paper"])
    assert paper.agent == POMBUConfig()  # whose defaults are the paper's table
    assert (paper.steps, paper.num_envs) == (100 * 10 * 200, 10)
    swimmer, _ = compose_train(["agent=pombu", "env=FixedHorizonSwimmer"])
    assert swimmer.agent.alpha == 0.1  # ours, and not the paper's
    for env, activation, sees in (
        *(("HalfCheetah", "silu", True), ("Walker2d", "relu", True)),
        *(("Hopper", "relu", False), ("Swimmer", "relu", False), ("HalfCheetahNoisyObservation", "relu", False)),
    ):
        dynamics = compose_train(["agent=pombu", f"env=FixedHorizon{env}"])[0].agent.dynamics
        assert (dynamics.activation, dynamics.see_angles, dynamics.hidden_sizes) == (activation, sees, (256, 256))
    assert compose_train(["agent=pombu", "env=FixedHorizonSwimmer", "preset=paper"])[0].agent == paper.agent
    long, _ = compose_train(["agent=pombu", "env=FixedHorizonHalfCheetahLong", "preset=long"])
    changed = {"horizon": 1000, "policy_updates": 2, "trajectories": 50, "minibatch_size": 1250, "alpha": 0.75}
    assert long.agent == dataclasses.replace(POMBUConfig(), **changed, fresh_std_iterations=0)
    assert long == compose_train(["agent=pombu", "env=FixedHorizonHalfCheetahLong"])[0]
    assert compose_train(["agent=pombu", "env=FixedHorizonAntLong"])[0].agent.alpha == 0.5
    for body in LONG_BODIES:
        plain, paper = (
            compose_train(["agent=pombu", f"env=FixedHorizon{body}Long", f"preset={name}"])[0]
            for name in ("none", "paper")
        )
        assert paper == plain  # the paper's recipe for 1,000 steps, and not that for 200
    assert (long.steps, long.num_envs) == (50 * 4 * 1000, 4)
    debug, _ = compose_train(["agent=pombu", "env=FixedHorizonHalfCheetahLong", "preset=debug"])
    assert debug.steps >= debug.num_envs * debug.agent.horizon == 2000


def test_td3_is_ddpg_with_its_three_options():
    agent = compose_train(["agent=td3"])[0].agent
    assert (agent.num_critics, agent.policy_delay, agent.target_noise) == (2, 2, 0.2)
    assert compose_train(["agent=ddpg"])[0].agent.exploration == ExplorationConfig(std=0.3, env_multiplier_min=0.333)


def test_the_command_line_wins_over_the_preset():
    config, run = compose_train(
        ["preset=debug", "agent=ace", "agent.actor.hidden_sizes=[5,6]", "num_envs=3", "run_dir=some/where"]
    )
    assert config.agent.actor.hidden_sizes == (5, 6)
    assert config.agent.critic.hidden_sizes == (32, 32)
    assert config.num_envs == 3
    assert run["run_dir"] == "some/where"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["agent=aec"], "unknown agent 'aec'; did you mean 'sac' or 'ace'?"),
        (["env=Humanoit"], "unknown task 'Humanoit'; did you mean 'Humanoid'"),
        (["preset=debg"], "unknown preset 'debg'; did you mean 'debug'?"),
        (["stepz=3"], "unknown key 'stepz'; did you mean 'steps'?"),
        (["agent.critic.blok=x"], "unknown key 'agent.critic.blok'; did you mean 'agent.critic.block'"),
        (["gamma=0.9"], "unknown key 'gamma'; did you mean 'agent.discount'?"),
        (["agent=td3", "batch_size=8"], "unknown key 'batch_size'; did you mean 'agent.batch_size'?"),
        (["agent=td3", "learning_rate=1"], "unknown key 'learning_rate'; did you mean 'agent.actor_learning_rate' or"),
        (["agent=ppo", "agent.gae_lambda=1"], "unknown key 'agent.gae_lambda'; did you mean 'agent.trace_decay'?"),
        (["total_timesteps=8"], "unknown key 'total_timesteps'; did you mean 'steps'?"),
        (["steps"], "'steps' is not key=value; for example: "),
        (["steps=[1"], "cannot read the arguments: "),
        (["seed=0,1"], "several values for one key are a sweep; add -m"),
        (["agent=ace,ddpg"], "several values for one key are a sweep; add -m"),
        (["agent=ppo", "preset=long"], "preset=long is not made for agent=ppo; it is for pombu"),
        (["agent=td3", "preset=paper"], "preset=paper is not made for agent=td3; it is for ace, ddpg"),
        (["replay=3"], "replay=3: this is a group of keys; use replay.<key>=<value>"),
        (["steps=many"], "steps=many: use a whole number"),
        (["steps=0"], "steps=0: use 1 or more"),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    with pytest.raises(UserError) as caught:
        compose_train(arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_an_unknown_interpolation_is_one_line():
    with pytest.raises(UserError):
        compose_train(["steps=${nope}"])


def test_environment_options_must_be_a_mapping():
    with pytest.raises(UserError):
        compose_train(["env=Hopper", "env.options=3"])


@pytest.mark.parametrize("target", ["foo", "agents.ddpg.Nothing", "nowhere.Agent", "3"])
def test_an_agents_import_path_is_no_key(target):
    with pytest.raises(UserError, match=r"agent\.target=.*agents are known by name"):
        compose_train([f"agent.target={target}"])


def test_expand_gives_every_combination():
    overrides = parse(["seed=0,1", "agent=ddpg,ace", "steps=5", "agent.actor.hidden_sizes=[8,8]"])
    assert expand(overrides) == [
        [f"seed={seed}", f"agent={agent}", "steps=5", "agent.actor.hidden_sizes=[8,8]"]
        for seed in (0, 1)
        for agent in ("ddpg", "ace")
    ]


def test_merge_puts_values_over_a_stored_config():
    plain = {"agent": {"name": "ddpg", "discount": 0.9}, "steps": 5, "env": {"id": "x"}}
    merged = merge(plain, ["steps=7", "agent.discount=0.5", "agent.actor.hidden_sizes=[3]", "log.every=2"])
    assert merged["steps"] == 7
    assert merged["agent"] == {"name": "ddpg", "discount": 0.5, "actor": {"hidden_sizes": [3]}}
    assert merged["log"] == {"every": 2}


@pytest.mark.parametrize("argument", ["agent=ddpg", "env=Hopper", "preset=debug"])
def test_merge_refuses_what_would_change_the_run(argument):
    with pytest.raises(UserError, match="cannot change when a run is resumed"):
        merge({}, [argument])


def test_what_weights_mean_cannot_change_on_resume():
    plain = to_plain(compose_train(["agent=pombu", "env=FixedHorizonHopper"])[0])
    same = merge(plain, ["agent.dynamics.activation=relu", "agent.dynamics.patience=7"])
    assert same["agent"]["dynamics"]["patience"] == 7
    with pytest.raises(UserError, match=r"agent\.dynamics\.activation=silu: .*learned with relu"):
        merge(plain, ["agent.dynamics.activation=silu"])
    plain = to_plain(compose_train(["agent=ace"])[0])
    with pytest.raises(UserError, match=r"agent\.critic\.value_max=9\.0"):
        merge(plain, ["agent.critic.value_max=9.0"])


def test_merge_refuses_a_key_under_a_value():
    with pytest.raises(UserError):
        merge({"steps": 5}, ["steps.foo=1"])


def test_merge_refuses_a_sweep():
    with pytest.raises(UserError):
        merge({"seed": 5}, ["seed=1,2"])


def test_read_config(tmp_path):
    with pytest.raises(UserError, match=r"does not exist; .* is not a run directory"):
        read_config(tmp_path)
    path = tmp_path / "config.yaml"
    for damage in ("agent: [", "- 1", "steps: 3", "\x00"):
        path.write_text(damage)
        with pytest.raises(UserError) as caught:
            read_config(tmp_path)
        assert "\n" not in str(caught.value)
    path.write_text(yaml.safe_dump({"agent": {"name": "ddpg"}, "env": {}}))
    assert read_config(tmp_path) == {"agent": {"name": "ddpg"}, "env": {}}


@pytest.mark.parametrize("agent", [None, 3, {"discount": 0.9}, {"name": None}])
def test_a_stored_config_without_an_agent_is_one_line(agent):
    from rlsuite.config.schema import train_config

    with pytest.raises(UserError):
        train_config({"agent": agent, "env": {"id": "rlsuite/Hopper"}})


@pytest.mark.parametrize("path", ["runs/a=b", "with space", "(odd) {path}", "~/x", "ünï", "it's", "123", "a,b"])
def test_paths_are_taken_as_they_are_typed(path):
    _, run = compose_train([f"run_dir={path}"])
    assert run["run_dir"] == path


def test_an_empty_path_is_refused():
    with pytest.raises(UserError, match="run_dir= is empty"):
        compose_train(["run_dir="])


def test_lists_of_paths_are_split_at_commas():
    from rlsuite.config.compose import plain_values

    assert plain_values(["run=a=1,b c"])["run"] == ["a=1", "b c"]
    with pytest.raises(UserError, match="seed= takes one value"):
        plain_values(["seed=1,2"])


@pytest.mark.parametrize("argument", ["seed=4", "run_dir=elsewhere", "env.reset_noise_scale=1", "agent.target=x.Y"])
def test_what_would_make_a_resumed_runs_record_lie_is_refused(argument):
    with pytest.raises(UserError, match="cannot change when a run is resumed"):
        merge({"seed": 5}, [argument])
