"""What environments observe: pictures of bytes, frames, Dict and Tuple, choices."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from odd_environments import ID

import envs
from agents.dqn import DQN
from agents.dqn_config import DQNConfig
from agents.ppo import PPO, PPOConfig
from envs.adapters.observations import observation_form
from rlsuite.errors import BrokenEnvironmentError, UserError
from rlsuite.nn.vision.conv_net import ConvNetConfig
from rlsuite.replay.config import ReplayConfig
from rlsuite.replay.sampler import Replay
from rlsuite.running.rollout import RolloutWorker
from rlsuite.running.rollout_buffer import RolloutBuffer
from rlsuite.vector_env import EnvironmentFacts

BYTES = spaces.Box(0, 255, (6, 5, 3), np.uint8)
CHOICE = spaces.Discrete(3)


def vector(space, shown, num_envs=2, **options):
    """Return environments that observe shown(steps of the episode)."""

    def starts(env, first):
        env.observation_space = space
        return shown(0), {}

    def returns(env, action, step):
        return (shown(env.steps), *step[1:])

    options = {"observation_space": space, "action_space": CHOICE, "starts": starts, "returns": returns, **options}
    return envs.make_vector(f"gymnasium:{ID}", num_envs, **options)


def picture(space):
    """Return a function of the episode's step: a picture in which every number is another."""
    size = int(np.prod(space.shape))
    return lambda step: ((np.arange(size).reshape(space.shape) + step) % 256).astype(space.dtype)


def test_pictures_are_bytes_with_channels_first():
    env = vector(BYTES, picture(BYTES))
    first, _ = env.reset(seed=0)
    assert first.dtype == torch.uint8
    assert env.single_observation_space == spaces.Box(0, 255, (3, 6, 5), np.uint8)
    np.testing.assert_array_equal(first[1].numpy(), np.moveaxis(picture(BYTES)(0), -1, 0))
    for _ in range(5):
        seen, *_, info = env.step(torch.zeros(2, 1))
    np.testing.assert_array_equal(info["final_obs"][0].numpy(), np.moveaxis(picture(BYTES)(5), -1, 0))
    assert torch.equal(seen, first)  # the next episode's


SHAPES = {
    "grey": ((6, 5), 1, (1, 6, 5)),
    "channels last": ((6, 5, 3), 1, (3, 6, 5)),
    "channels first": ((3, 6, 5), 1, (3, 6, 5)),
    "two grey frames": ((6, 5), 2, (2, 6, 5)),
    "two frames in colours": ((6, 5, 3), 2, (6, 6, 5)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_frames_lie_one_behind_the_other_the_newest_last(name):
    shape, frames, wanted = SHAPES[name]
    space = spaces.Box(0, 255, shape, np.uint8)
    env = vector(space, picture(space), frame_stack=frames)
    first, _ = env.reset(seed=0)
    assert tuple(first.shape[1:]) == wanted
    channels = wanted[0] // frames
    assert torch.equal(first[:, :channels], first[:, -channels:])  # an episode's first repeats
    second = env.step(torch.zeros(2, 1))[0]
    assert torch.equal(second[:, :channels], first[:, :channels]) == (frames > 1)
    assert torch.equal(second[:, -channels:], first[:, :channels] + 1)


def test_the_usual_wrappers_are_options():
    space = spaces.Box(0, 255, (16, 12, 3), np.uint8)
    env = vector(space, picture(space), grey=True, picture_side=8, frame_stack=4, action_repeat=2)
    assert tuple(env.reset(seed=0)[0].shape) == (2, 4, 8, 8)
    assert env.step(torch.zeros(2, 1))[1].tolist() == [2.0, 2.0]  # of the two steps of each action
    assert env._envs[0].unwrapped.steps == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame_stack": 0}, "env.frame_stack=0: use a whole number from 1 to 4096$"),
        ({"grey": 1}, "env.grey=1: use true or false$"),
        ({"atari": True, "grey": True}, "leave out env.grey"),
        ({"atari": True}, "cannot be observed so"),
        ({"grey": True, "observation_space": spaces.Box(-1, 1, (2,))}, r"cannot be observed so \(env.grey=True"),
    ],
)
def test_options_that_do_not_fit_are_one_line(options, message):
    with pytest.raises(UserError, match=message) as caught:
        vector(options.pop("observation_space", BYTES), picture(BYTES), **options)
    assert "\n" not in str(caught.value)


def test_switched_pixels_are_black_and_white():
    space = spaces.Box(0, 1, (6, 5, 4), bool)
    seen = vector(space, lambda step: np.eye(6, 5, dtype=bool)[:, :, None].repeat(4, 2)).reset(seed=0)[0]
    assert seen.unique().tolist() == [0, 255]
    assert torch.equal(seen[0, 3] > 0, torch.eye(6, 5).bool())


DICT = spaces.Dict(
    {
        "arm": spaces.Dict({"angle": spaces.Box(-1, 1, (2,)), "gripper": spaces.Discrete(2)}),
        "board": spaces.Box(-1, 1, (2, 2)),
        "lamps": spaces.MultiBinary(2),
        "height": spaces.Box(-1, 1, ()),
    }
)
VALUE = {
    "arm": {"angle": np.float32([0.1, 0.2]), "gripper": np.int64(1)},
    "board": np.float32([[1, 2], [3, 4]]) / 8,
    "lamps": np.int8([0, 1]),
    "height": np.float32(0.7),
}


def test_a_dict_becomes_a_vector_whose_columns_have_names():
    env = vector(DICT, lambda step: VALUE)
    seen, _ = env.reset(seed=0)
    assert dict(zip(env.observation_names, seen[0].tolist(), strict=True)) == pytest.approx(
        {
            "arm.angle[0]": 0.1, "arm.angle[1]": 0.2, "arm.gripper[0]": 0.0, "arm.gripper[1]": 1.0,
            "board[0, 0]": 0.125, "board[0, 1]": 0.25, "board[1, 0]": 0.375, "board[1, 1]": 0.5,
            "height": 0.7, "lamps[0]": 0.0, "lamps[1]": 1.0,
        }
    )  # fmt: skip
    assert EnvironmentFacts.of(env).observation_size == 11


FLAT = {
    "a choice": (spaces.Discrete(3, start=4), 5, [0, 1, 0]),
    "a tuple": (spaces.Tuple([spaces.Discrete(2), spaces.Box(-1, 1, (1,))]), (1, np.float32([0.5])), [0, 1, 0.5]),
    "choices": (spaces.MultiDiscrete([2, 2]), np.int64([0, 1]), [1, 0, 0, 1]),
    "a matrix": (spaces.Box(-1, 1, (1, 2)), np.float32([[0.25, 0.5]]), [0.25, 0.5]),
}


@pytest.mark.parametrize("name", FLAT)
def test_other_observations_become_vectors(name):
    space, value, wanted = FLAT[name]
    env = vector(space, lambda step: value)
    assert env.reset(seed=0)[0][1].tolist() == wanted
    assert len(env.observation_names) == len(wanted)


BROKEN = {
    "a missing key": (DICT, {key: value for key, value in VALUE.items() if key != "board"}),
    "a part of another shape": (DICT, VALUE | {"lamps": np.int8([0, 1, 1])}),
    "a choice that is none": (spaces.Discrete(3), 3),
    "another picture": (BYTES, np.zeros((5, 6, 3), np.uint8)),
    "floats for bytes": (BYTES, np.zeros((6, 5, 3))),
    "nothing": (DICT, None),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_as_declared_is_one_line(name):
    space, value = BROKEN[name]
    with pytest.raises(BrokenEnvironmentError, match="its observation space says") as caught:
        vector(space, lambda step: value).reset(seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(3),
        spaces.Dict({"camera": BYTES, "speed": spaces.Box(-1, 1, (1,))}),
        spaces.Dict({"words": spaces.Sequence(spaces.Discrete(2))}),
        spaces.Dict({}),
        spaces.Box(0, 255, (2, 6, 5, 3), np.uint8),
        None,
    ],
)
def test_spaces_of_no_use_are_refused(space):
    with pytest.raises(UserError, match=r"odd: its observation space is .*(use vectors|pictures are)"):
        observation_form("odd", space)


def test_the_replay_keeps_bytes_once_and_gives_them_back():
    env = vector(BYTES, picture(BYTES), num_envs=1)
    facts = EnvironmentFacts.of(env)
    agent = DQN(facts, DQNConfig(vision=ConvNetConfig(widths=(4,), hidden=8)), seed=0)
    worker = RolloutWorker(env, agent, seed=0)
    replay = Replay(ReplayConfig(capacity=12), worker.observation, torch.zeros(1, 1).long(), discount=0.9, seed=0)
    for _ in range(12):
        replay.add(worker.step())
    ring = replay.buffer.observation
    assert ring.dtype == torch.uint8
    assert ring.numel() == 13 * 90  # one picture a slot, its successor's is the next slot's
    batch = replay.gather(torch.arange(12), torch.ones(12))
    for place in range(12):
        step = place % 5
        assert torch.equal(batch.observation[place], torch.from_numpy(picture(BYTES)(step)).movedim(-1, 0))
        assert torch.equal(batch.next_observation[place], torch.from_numpy(picture(BYTES)(step + 1)).movedim(-1, 0))


@pytest.mark.parametrize("kind", ["ppo", "dqn"])
def test_agents_learn_from_pictures_whatever_the_batch(kind):
    env = vector(BYTES, picture(BYTES))
    facts, vision = EnvironmentFacts.of(env), ConvNetConfig(widths=(4,), hidden=8)
    if kind == "ppo":
        agent = PPO(facts, PPOConfig(vision=vision, minibatch_size=8, passes=1, rollout_length=8), seed=0)
    else:
        agent = DQN(facts, DQNConfig(vision=vision, batch_size=8), seed=0)
    worker = RolloutWorker(env, agent, seed=0)
    before = [weight.clone() for weight in agent.parameters() if weight.requires_grad]
    if kind == "ppo":
        buffer = RolloutBuffer(8, worker.observation, torch.zeros(2, 1).long())
        while not buffer.full:
            buffer.add(worker.step())
        metrics = agent.update(buffer.take())
    else:
        replay = Replay(ReplayConfig(capacity=20), worker.observation, torch.zeros(2, 1).long(), discount=0.9, seed=0)
        for _ in range(10):
            replay.add(worker.step())
        metrics = agent.update(replay.sample(8))
    assert all(value.isfinite().all() for value in metrics.values())
    after = [weight for weight in agent.parameters() if weight.requires_grad]
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    many = torch.randint(256, (1100, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # in parts, each as by itself
        assert torch.equal(agent.greedy(many)[600:700], agent.greedy(many[600:700]))
    assert agent.act(many, True).shape == (1100, 1)


def test_wrapped_pictures_train_and_export_and_choices_refuse_who_takes_none(tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from rlsuite.cli import run_script
    from scripts import export_policy, train_agent

    def make(**options):
        from odd_environments import Odd

        shown = picture(BYTES)
        return Odd(
            observation_space=BYTES,
            action_space=CHOICE,
            starts=lambda env, first: (shown(0), {}),
            returns=lambda env, action, step: (shown(env.steps), *step[1:]),
        )

    gymnasium.register("odd/Seen-v0", entry_point=make)
    try:
        line = ["env=gymnasium", "env.id=odd/Seen-v0", "env.frame_stack=2", "preset=debug", "steps=300"]
        line += ["device=cpu", "num_threads=1", "evaluate.every=0", "learning_starts=100"]
        assert run_script(train_agent.main, ["agent=ace", *line]) == 2
        assert "agent=ace is for continuous actions; use agent=ppo or dqn" in capsys.readouterr().err
        run = tmp_path / "run"
        assert run_script(train_agent.main, ["agent=dqn", *line, f"run_dir={run}"]) == 0
        assert run_script(export_policy.main, [f"run={run}", "device=cpu"]) == 0
    finally:
        del gymnasium.registry["odd/Seen-v0"]
    (given,) = onnxruntime.InferenceSession(str(run / "policy.onnx")).get_inputs()
    assert given.type == "tensor(uint8)"
    assert given.shape[1:] == [6, 6, 5]
