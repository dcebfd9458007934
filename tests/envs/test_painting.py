import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from PIL import Image

import envs
from envs.painting.environment import Painting, coarsened, paint, unpack
from envs.painting.pictures import picture_pool
from envs.painting.scenes import dead_leaves
from rlsuite.errors import UserError


def painting(num_envs=3, *, steps=4, pictures=None, **options):
    chosen = {"size": 16, "num_pictures": 8, "bundle": 2, **options}
    return Painting(**chosen).make_vector(num_envs, max_episode_steps=steps, pictures=pictures)


def actions(env, seed=0):
    return torch.rand(env.num_envs, env.single_action_space.shape[0], generator=torch.Generator().manual_seed(seed))


def test_the_return_is_the_share_of_the_error_that_was_painted_away():
    env = painting()
    observation, _ = env.reset(seed=1)
    first = unpack(observation)
    total = torch.zeros(3)
    for step in range(4):
        observation, reward, terminated, truncated, info = env.step(actions(env, step))
        total += reward
        assert terminated.all() == (step == 3)
        assert not truncated.any()
    last = unpack(info["final_obs"])
    assert torch.equal(last.target, first.target)
    assert last.step.tolist() == [4.0] * 3
    error = (last.canvas - last.target).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(info["mse"], error)
    torch.testing.assert_close(total, 1 - error / first.target.square().mean(dim=(1, 2, 3)))
    assert unpack(observation).canvas.sum() == 0  # the next episode has begun
    assert unpack(observation).step.tolist() == [0.0] * 3


def test_canvases_are_floored_bytes_of_what_was_painted():
    env = painting(renderer="exact")
    env.reset(seed=0)
    bundle = actions(env)
    observation = env.step(bundle)[0]
    expected = torch.floor(255 * paint(torch.zeros(3, 3, 16, 16), bundle, env.renderer))
    assert torch.equal((unpack(observation).canvas * 255).round(), expected)


def test_an_environment_paints_the_same_pictures_whatever_their_number():
    many, few = painting(5), painting(2)
    one, other = many.reset(seed=3)[0], few.reset(seed=3)[0]
    bundle = actions(many)
    for _ in range(6):  # over an episode's end
        assert torch.equal(one[:2], other)
        one, other = many.step(bundle)[0], few.step(bundle[:2])[0]


@pytest.mark.parametrize("start", ["black", "mixed"])
def test_it_goes_on_from_its_state(start):
    env, twin = painting(start=start), painting(start=start)
    env.reset(seed=5)
    for step in range(3):
        env.step(actions(env, step))
    twin.load_state(env.state())
    for step in range(5):
        one, other = env.step(actions(env, step)), twin.step(actions(env, step))
        assert all(torch.equal(left, right) for left, right in zip(one[:4], other[:4], strict=True))
    assert np.array_equal(env.gallery(), twin.gallery())
    with pytest.raises(ValueError, match="canvases"):
        painting(2).load_state(env.state())


def test_mixed_starts_are_black_or_coarse():
    picture = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, -1, -1).contiguous()
    env = painting(64, start="mixed", pictures=picture, flip=False)
    canvas = (unpack(env.reset(seed=0)[0]).canvas * 255).round()
    black = canvas.flatten(1).sum(dim=1) == 0
    assert 20 < int(black.sum()) < 44
    found = {tuple(row.tolist()) for row in canvas[~black].flatten(1)}
    assert found == {tuple(coarsened(picture, factor).float().flatten().tolist()) for factor in (4, 8, 16)}


def test_gymnasium_makes_it_and_its_checker_is_content():
    env = gymnasium.make("rlsuite/Painting", size=16, num_pictures=4, episode_length=3)
    check_env(env.unwrapped, skip_render_check=True)
    env.reset(seed=0)
    ended = [env.step(env.action_space.sample())[2] for _ in range(3)]
    assert ended == [False, False, True]
    assert envs.make_vector("Painting", 2, size=16, num_pictures=4).reset(seed=0)[0].shape == (2, 6 * 256 + 1)


def test_folders_are_read_split_and_refused(tmp_path):
    for index in range(20):
        Image.new("RGB", (20, 12), (index, 0, 0)).save(tmp_path / f"{index:02}.png")
    Image.new("L", (12, 12), 50).save(tmp_path / "grey.bmp")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    train, test = (picture_pool(str(tmp_path), 8, 100, 1.0, split) for split in ("train", "test"))
    reds = [sorted(pool[:, 0, 0, 0].tolist()) for pool in (train, test)]
    assert sorted(reds[0] + reds[1]) == sorted([*range(20), 50])
    assert reds[1] == [0, 10]  # every tenth file; the third of them is broken
    assert len(picture_pool(str(tmp_path), 8, 100, 0.5, "train")) == 100  # several crops of each
    assert torch.equal(train, picture_pool.__wrapped__(str(tmp_path), 8, 100, 1.0, "train"))
    (tmp_path / "00.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"none of its 1 pictures for split=test can be read, such as 00\.png"):
        picture_pool(str(tmp_path), 8, 1, 1.0, "test")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no picture"):
        picture_pool(str(tmp_path / "empty"), 8, 10, 1.0, "train")
    with pytest.raises(UserError, match="no such folder"):
        picture_pool(str(tmp_path / "nowhere"), 8, 10, 1.0, "train")
    with pytest.raises(UserError, match="or fewer"):
        picture_pool("scenes", 512, 10**9, 0.5, "train")


def test_folders_named_train_and_test_are_the_splits(tmp_path):
    for split, value in (("train", 10), ("test", 20)):
        (tmp_path / split).mkdir()
        Image.new("RGB", (8, 8), (value, 0, 0)).save(tmp_path / split / "0.png")
        assert picture_pool(str(tmp_path), 8, 5, 1.0, "train").numel() if split == "test" else True
        if split == "test":
            for name, wanted in (("train", 10), ("test", 20)):
                assert int(picture_pool(str(tmp_path), 8, 6, 1.0, name)[0, 0, 0, 0]) == wanted


def test_training_pictures_are_read_as_photos_are(tmp_path, monkeypatch):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
    Image.fromarray(np.full((8, 8), 128 * 257, np.uint16)).save(tmp_path / "train" / "grey16.png")
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "train" / "transparent.png")
    pool = picture_pool(str(tmp_path), 8, 10, 1.0, "train")
    assert sorted(pool[:, 0, 0, 0].tolist()) == [128, 255]
    for error in (SyntaxError, ValueError, EOFError, OSError):
        (tmp_path / "test" / f"{error.__name__}.png").write_bytes(b"")
    Image.new("RGB", (8, 8), (7, 7, 7)).save(tmp_path / "test" / "whole.png")
    plain_open = Image.open

    def damaged(path, **options):
        name = str(path).rpartition("/")[2].removesuffix(".png")
        kinds = {error.__name__: error for error in (SyntaxError, ValueError, EOFError, OSError)}
        if name in kinds:
            raise kinds[name]("damaged")
        return plain_open(path, **options)

    monkeypatch.setattr(Image, "open", damaged)
    assert picture_pool(str(tmp_path), 8, 10, 1.0, "test")[:, 0, 0, 0].tolist() == [7]


@pytest.mark.parametrize(("number", "held_out"), [(1, 1), (2, 1), (9, 1), (11, 2)])
def test_small_folders_too_hold_pictures_out(tmp_path, number, held_out):
    for index in range(number):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / f"{index:02}.png")
    # Memory is judged by the pictures that there are.
    train, test = (
        set(picture_pool(str(tmp_path), 8, 10**12, 1.0, split)[:, 0, 0, 0].tolist()) for split in ("train", "test")
    )
    assert len(test) == held_out
    assert train | test == set(range(number))
    assert not train & test or number == 1


def test_a_pool_is_shuffled_in_place_as_by_its_permutation(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    for index in range(20):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / "train" / f"{index:02}.png")
    order = np.random.default_rng([8, 30, 0]).permutation(20)
    pool = picture_pool(str(tmp_path), 8, 30, 1.0, "train")
    assert pool[:, 0, 3, 3].tolist() == order.tolist()
    assert pool.untyped_storage().nbytes() == pool.numel()  # no copy


def test_scenes_cover_the_canvas_and_differ():
    one, other = (dead_leaves(48, np.random.default_rng(seed)) for seed in (0, 1))
    assert one.shape == (48, 48, 3)
    assert one.dtype == np.uint8
    assert not np.array_equal(one, other)
    assert np.array_equal(one, dead_leaves(48, np.random.default_rng(0)))
    assert one.std() > 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 4}, "env.size=4"),
        ({"brush": "oil"}, "env.brush=oil"),
        ({"crop": 0.0}, "env.crop=0.0"),
        ({"renderer": "neural"}, "env.renderer_weights=FILE"),
        ({"renderer": "neural", "renderer_weights": "nowhere"}, "renderer_weights=nowhere"),
        ({"start": "white"}, "env.start=white"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, message):
    with pytest.raises(UserError, match=message):
        painting(**options)
    with pytest.raises(UserError, match="max_episode_steps=256"):
        painting(steps=256)
