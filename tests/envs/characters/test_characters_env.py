"""Writing as an environment: rewards, rows, streams, state, Gymnasium's checker, and a policy that cannot peek."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import envs
from envs.characters.glyphs import Glyphs
from envs.characters.task import Characters, unpack_written
from renderers.glyph import write
from rlsuite.errors import UserError


def characters(num_envs=3, *, steps=4, glyphs=None, **options):
    chosen = {"size": 16, "data": "digits", **options}
    return Characters(**chosen).make_vector(num_envs, max_episode_steps=steps, glyphs=glyphs)


def actions(env, seed=0):
    return torch.rand(env.num_envs, env.action_size, generator=torch.Generator().manual_seed(seed)) * 0.4


def test_the_return_is_the_share_of_the_error_that_was_written_away():
    env = characters(strokes=2)
    observation, _ = env.reset(seed=1)
    first = unpack_written(observation)
    total = torch.zeros(3)
    for step in range(4):
        observation, reward, terminated, truncated, info = env.step(actions(env, step))
        total += reward
        assert terminated.all() == (step == 3)
        assert not truncated.any()
    last = unpack_written(info["final_obs"])
    assert torch.equal(last.target, first.target)
    assert torch.equal(last.noisy, first.noisy)
    assert last.step.tolist() == [4.0] * 3
    error = (last.canvas - last.target).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(info["mse"], error)
    torch.testing.assert_close(total, 1 - error / (1 - first.target).square().mean(dim=(1, 2, 3)))
    again = unpack_written(observation)
    assert (again.canvas == 1).all()
    assert again.step.tolist() == [0.0] * 3


def test_a_row_is_paper_step_picture_and_glyph_and_the_last_two_are_constant():
    env = characters(noise="light")
    observation, _ = env.reset(seed=0)
    assert observation.shape == (3, 5 * 256 + 1)
    assert observation.dtype == torch.uint8
    assert env.constant_columns == 4 * 256
    scene = unpack_written(env.step(actions(env))[0])
    assert torch.equal((scene.canvas * 255).round().to(torch.uint8), env.canvas)
    assert torch.equal((scene.noisy * 255).round().to(torch.uint8), env.noisy)
    assert torch.equal((scene.target * 255).round().to(torch.uint8), env.target)
    assert set(scene.target.unique().tolist()) == {0.0, 1.0}


def test_paper_is_floored_bytes_of_what_was_written():
    env = characters(renderer="exact", strokes=3)
    env.reset(seed=0)
    bundle = actions(env)
    observation = env.step(bundle)[0]
    expected = torch.floor(255 * write(torch.ones(3, 1, 16, 16), bundle, env.renderer))
    assert torch.equal((unpack_written(observation).canvas * 255).round(), expected)


def test_an_environment_writes_the_same_characters_whatever_their_number():
    for noise in ("gauss:0.3+saltpepper:0.15", "all"):
        many, few = characters(5, noise=noise), characters(2, noise=noise)
        one, other = many.reset(seed=3)[0], few.reset(seed=3)[0]
        for _ in range(6):
            assert int((one[:2].int() - other.int()).abs().max()) <= 1  # sums of other lengths round otherwise
            one, other = many.step(actions(many))[0], few.step(actions(many)[:2])[0]


def test_it_goes_on_from_its_state():
    env, twin = characters(noise="clutter"), characters(noise="clutter")
    env.reset(seed=5)
    for step in range(3):
        env.step(actions(env, step))
    twin.load_state(env.state())
    for step in range(5):
        one, other = env.step(actions(env, step)), twin.step(actions(env, step))
        assert all(torch.equal(left, right) for left, right in zip(one[:4], other[:4], strict=True))
    assert np.array_equal(env.gallery(), twin.gallery())
    assert env.gallery().shape == (3 * 16, 3 * 16, 3)
    assert env.render(1).shape == (16, 3 * 16, 3)
    with pytest.raises(ValueError, match="canvases"):
        characters(2).load_state(env.state())


def test_attacked_characters_go_on_from_a_state(monkeypatch):
    monkeypatch.setattr("envs.characters.attacked.STEPS", 20)
    env, twin = characters(noise="gauss:0.1+attack:pgd:0.1"), characters(noise="gauss:0.1+attack:pgd:0.1")
    noisy = unpack_written(env.reset(seed=5)[0])
    assert float((noisy.noisy - noisy.target).abs().mean()) > 0.05
    env.step(actions(env))
    twin.load_state(env.state())
    for step in range(5):
        one, other = env.step(actions(env, step)), twin.step(actions(env, step))
        assert all(torch.equal(left, right) for left, right in zip(one[:4], other[:4], strict=True))


def test_local_search_finds_strokes_of_a_high_return():
    """One glyph of two strokes: drawing at random and keeping what is better writes it."""
    generator = torch.Generator().manual_seed(0)
    strokes = torch.tensor(
        [[0.2, 0.3, 0.5, 0.3, 0.8, 0.3, 0.3, 0.3, 0.3], [0.5, 0.3, 0.5, 0.5, 0.5, 0.8, 0.3, 0.3, 0.3]]
    )
    draw = characters(renderer="exact").renderer
    target = write(torch.ones(1, 1, 16, 16), strokes.view(1, 18), draw)
    glyphs = Glyphs((255 * target).round().to(torch.uint8), torch.zeros(1, dtype=torch.int64), ("t",))

    env = characters(64, renderer="exact", strokes=2, steps=1, noise="clean", glyphs=glyphs)
    env.reset(seed=0)
    best, value = torch.full((18,), 0.5), -torch.inf
    for turn in range(60):
        tried = (best + 0.3 * 0.95**turn * torch.randn(64, 18, generator=generator)).clamp(0, 1)
        tried[0] = best
        reward = env.step(tried)[1]
        if float(reward.max()) > value:
            best, value = tried[int(reward.argmax())].clone(), float(reward.max())
    assert value > 0.9


def test_gymnasium_makes_it_and_its_checker_is_content():
    env = gymnasium.make("rlsuite/Characters", size=16, data="digits", episode_length=3)
    check_env(env.unwrapped, skip_render_check=True)
    observation, info = env.reset(seed=0)
    assert set(observation) == {"canvas", "noisy", "step"}
    assert info["clean"].shape == (1, 16, 16)
    ended = [env.step(env.action_space.sample())[2] for _ in range(3)]
    assert ended == [False, False, True]
    assert envs.make_vector("Characters", 2, size=16, data="digits").reset(seed=0)[0].shape == (2, 5 * 256 + 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 4}, "env.size=4"),
        ({"strokes": 0}, "env.strokes=0"),
        ({"noise": "fog"}, "there is no 'fog'"),
        ({"noise": "attack:fog"}, "there is no attack 'fog'"),
        ({"noise": "attack:pgd:-0.3"}, "'-0.3' is no strength"),
        ({"characters": "runes"}, "env.characters=runes"),
        ({"split": "valid"}, "env.split=valid"),
        ({"renderer": "neural"}, "env.renderer_weights=FILE"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, message):
    with pytest.raises(UserError, match=message):
        characters(**options)
    with pytest.raises(UserError, match="max_episode_steps=256"):
        characters(steps=256)


def test_a_folder_that_is_not_there_is_refused():
    env = characters(data="/nowhere")
    with pytest.raises(UserError, match="there is no such folder"):
        env.reset(seed=0)
