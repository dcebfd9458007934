"""Goal environments told in words: goals by hand, new episodes, what is not understood, resuming, things of a model."""

import mujoco
import pytest
import torch

import envs
from envs.perception.language.grammar import Thing
from envs.perception.language.instructions import InstructionConfig, InstructionGoalWrapper
from envs.perception.language.scene import bodies_of, landmark_places, named
from rlsuite.errors import UserError

MARKS = ("red cube", "green ball")


class Words:
    """Translates what it has been told."""

    def __init__(self, known):
        self.known, self.asked = known, []

    def translate(self, sentences):
        self.asked += sentences
        return [self.known.get(sentence, "what") for sentence in sentences]


def make(name="FetchReach", count=3, translator=None, limit=3, **settings):
    flat = envs.make_vector(name, count, num_threads=1, flat=True, max_episode_steps=limit)
    return InstructionGoalWrapper(flat, translator, InstructionConfig(landmarks=MARKS, **settings))


def desired(env, observation):
    return env.goals.split(observation)[1]


def test_goals_are_where_the_words_say():
    words = Words({"rot": "reach the red cube up", "grün": "move the red cube left of the green ball"})
    env = make(translator=words)
    observation, info = env.reset(seed=0, options={"instruction": ["rot", "grün", "rot"]})
    assert words.asked == ["rot", "grün"]  # each once
    assert info["instruction/parsed"].all()
    assert info["instruction/translation"][1] == "move the red cube left of the green ball"
    assert info["instruction/meaning"][0].thing == Thing("red", "cube")
    places, up, left = env.places(), torch.tensor([0.0, 0.0, 0.1]), torch.tensor([0.0, 0.1, 0.0])
    expected = torch.stack([places[0, 0] + up, places[1, 1] + left, places[2, 0] + up])
    torch.testing.assert_close(desired(env, observation).double(), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(env.observation(), observation)
    # The reward judges by it: the gripper put there is rewarded.
    _, reward, *_, info = env.step(torch.zeros(3, 4))
    achieved = env.goals.achieved(info["final_obs"])
    torch.testing.assert_close(reward, env.goals.compute_reward(achieved, expected.to(achieved)))


def test_new_episodes_are_asked_the_same_where_things_are_then():
    env = make()
    env.reset(seed=0, options={"instruction": "reach the red cube to the green ball"})
    first = env.places()
    for _ in range(3):
        observation, _, _, truncated, info = env.step(torch.zeros(3, 4))
    assert truncated.all()
    torch.testing.assert_close(desired(env, info["final_obs"]).double(), first[:, 1], atol=1e-6, rtol=0)
    assert not torch.allclose(env.places(), first)
    torch.testing.assert_close(desired(env, observation).double(), env.places()[:, 1], atol=1e-6, rtol=0)
    again, _ = env.reset(seed=0)
    torch.testing.assert_close(env.places(), first)
    torch.testing.assert_close(desired(env, again).double(), first[:, 1], atol=1e-6, rtol=0)


def test_what_is_not_understood_changes_nothing_and_is_said():
    env, plain = make(), envs.make_vector("FetchReach", 3, num_threads=1, flat=True, max_episode_steps=3)
    drawn, _ = plain.reset(seed=1)
    said = ["gibberish", "push the blue ring up", "turn the red cube up"]
    observation, info = env.reset(seed=1, options={"instruction": said})
    assert not info["instruction/parsed"].any()
    assert torch.equal(observation, drawn)
    assert torch.equal(env.reset(seed=1)[0], drawn)
    observation, info = env.instruct("push the red cube up")
    assert info["instruction/parsed"].all()
    with pytest.raises(UserError, match="2 instructions"):
        env.instruct(["a", "b"])


def test_resuming_bit_for_bit():
    env, other = make(limit=4), make(limit=4)
    env.reset(seed=3, options={"instruction": "push the green ball forward"})
    actions = 2 * torch.rand(9, 3, 4, generator=torch.Generator().manual_seed(0)) - 1
    env.step(actions[0])
    state = env.state()
    other.reset(seed=8)
    other.load_state(state)
    for action in actions[1:]:
        one, two = env.step(action), other.step(action)
        assert all(torch.equal(a, b) for a, b in zip(one[:4], two[:4], strict=True))
        assert torch.equal(env.places(), other.places())
    with pytest.raises(ValueError, match="InstructionGoalWrapper"):
        other.load_state(other.env.state())


def test_an_instruction_does_not_disturb_the_physics():
    env, plain = make("FetchPush", 2, limit=50), envs.make_vector("FetchPush", 2, num_threads=1, flat=True)
    one, two = env.reset(seed=2)[0], plain.reset(seed=2)[0]
    actions = 2 * torch.rand(4, 2, 4, generator=torch.Generator().manual_seed(1)) - 1
    for action in actions:
        env.instruct("push the black cube to the left")
        one, two = env.step(action)[0], plain.step(action)[0]
        own, _, achieved = env.goals.split(one)
        expected, _, place = env.goals.split(two)
        assert torch.equal(own, expected)
        assert torch.equal(achieved, place)


def test_the_block_of_fetch_push_is_a_thing():
    env = make("FetchPush", 2)
    assert env.things == (Thing("black", "cube"), Thing("red", "cube"), Thing("green", "ball"))
    observation, _ = env.reset(seed=0, options={"instruction": "push the black cube to the left"})
    achieved = env.goals.achieved(observation)
    torch.testing.assert_close(desired(env, observation), achieved + torch.tensor([0.0, 0.1, 0.0]), atol=1e-4, rtol=0)
    observation, _ = env.instruct("push the black cube to the green ball")
    torch.testing.assert_close(desired(env, observation).double(), env.places()[:, 2], atol=1e-6, rtol=0)
    observation, _ = env.instruct("push the black cube up")
    torch.testing.assert_close(desired(env, observation), achieved + torch.tensor([0.0, 0.0, 0.1]), atol=1e-4, rtol=0)


def test_things_of_a_model_by_name_or_by_look():
    model = mujoco.MjModel.from_xml_string(
        """<mujoco><worldbody>
        <geom name="floor" type="plane" size="1 1 1"/>
        <body name="table"><geom type="box" size="1 1 1"/></body>
        <body name="big_blue_star"><geom type="box" size="1 1 1"/></body>
        <body><joint type="free"/><geom type="sphere" size="1" rgba="1 0 0 1"/></body>
        <body><joint type="free"/><geom type="capsule" size="1 1" rgba="1 0 0 1"/></body>
        <body><joint type="free"/><geom name="plate-green-2" type="cylinder" size="1 1" rgba="1 0 0 1"/></body>
        </worldbody></mujoco>"""
    )
    assert bodies_of(model) == {Thing("blue", "star"): 2, Thing("red", "ball"): 3, Thing("green", "plate"): 5}
    assert named("infrared cube") is None


def test_landmarks_lie_within_their_spread_and_anew_in_each_episode():
    places = landmark_places(5, torch.arange(40), 30, (0.1, 0.2, 0.0))
    assert places.shape == (40, 30, 3)
    assert (places.abs() <= torch.tensor([0.1, 0.2, 0.0])).all()
    assert places[..., 1].abs().max() > 0.19
    assert abs(float(places[..., 0].mean())) < 0.005
    assert len(places[..., 0].unique()) == 1200


def test_wrong_uses_are_refused():
    flat = envs.make_vector("Reacher", 1, num_threads=1)
    with pytest.raises(UserError, match="Reacher has goals of 0"):
        InstructionGoalWrapper(flat, None, InstructionConfig())
    with pytest.raises(UserError, match="no things to speak of"):
        InstructionGoalWrapper(envs.make_vector("FetchReach", 1, num_threads=1, flat=True), None, InstructionConfig())
    for settings in ({"landmarks": ("ball",)}, {"landmarks": ("red ball", "ball red")}, {"spread": (0.1, 0.1, -1.0)}):
        with pytest.raises(UserError, match=f"{next(iter(settings))}="):
            InstructionConfig(**settings)
