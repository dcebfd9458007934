import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from agents.painter.agent import Painter
from agents.painter.config import PainterConfig
from agents.painter.paint import (
    Level,
    divided_plan,
    grid,
    make_plan,
    paint_picture,
    plan_for,
    policy,
    tile_weights,
    worst_tiles,
)
from agents.painter.refine import Limits, RefineConfig, refine
from agents.painter.weights import load_painter, save_painter
from envs.painting.environment import Painting
from renderers.soft import draw_soft
from renderers.strokes import composite
from rlsuite.errors import UserError
from rlsuite.vector_env import EnvironmentFacts


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    env = Painting(size=16, bundle=5).make_vector(1, max_episode_steps=4)
    config = PainterConfig(network="small", width=4)
    painter = Painter(EnvironmentFacts.of(env), config, seed=3)
    path = tmp_path_factory.mktemp("weights") / "painter.safetensors"
    save_painter(painter, path, brush="bezier", about={"made": "for tests"})
    return painter, path


def picture(height=40, width=56):
    rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([rows, columns, 0.5 + 0.5 * torch.sin(9 * (rows + columns))])


def test_a_weights_file_acts_as_the_agent_did(weights):
    painter, path = weights
    loaded = load_painter(path)
    observation = torch.randint(0, 256, (3, 6 * 256 + 1), generator=torch.Generator().manual_seed(0))
    observation = observation.to(torch.uint8)
    assert torch.equal(loaded.act(observation), painter.act(observation, False))
    assert (loaded.about["made"], loaded.episode_length) == ("for tests", 4)
    with pytest.raises(UserError, match="no painter can be read"):
        load_painter(path.with_name("nowhere"))


def test_weights_with_odd_metadata_are_refused_in_one_line(weights, tmp_path):
    about = {name: value for name, value in load_painter(weights[1]).about.items() if name != "made"}
    odd = ({"size": None}, {"brush": "oil"}, {"action_size": 64}, {"episode_length": 0}, {"width": [4]})
    for found in ([1], None, {"size": 16}, *({**about, **change} for change in odd)):
        save_file({"weight": torch.zeros(1)}, tmp_path / "odd", metadata={"about": json.dumps(found)})
        with pytest.raises(UserError, match="no painter can be read") as refusal:
            load_painter(tmp_path / "odd")
        assert "\n" not in str(refusal.value)


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(st.integers(8, 40), st.integers(8, 600)),  # also pictures smaller than the finest tiles
    st.one_of(st.integers(8, 40), st.integers(8, 600)),
    st.integers(5, 6000),
    st.sampled_from([4, 16, 40, 1000]),
    st.sampled_from([1, 20, 200]),
)
def test_plans_spend_no_more_strokes_than_allowed_and_nearly_all(height, width, strokes, smallest, each):
    levels = make_plan(height, width, strokes, smallest, each)
    spent = sum(level.tiles * level.strokes for level in levels)
    assert spent <= strokes
    assert levels
    assert spent > strokes - each
    assert all(level.strokes == min(each, strokes) for level in levels)
    assert all(0 < level.tiles <= len(grid(height, width, level.side, level.offset)) for level in levels)
    sides = [level.side for level in levels]
    assert sides == sorted(sides, reverse=True)
    assert sides[0] == max(height, width)


def test_finest_tiles_are_no_larger_than_a_small_picture():
    sides = [level.side for level in make_plan(10, 12, 200, 40, 20)]
    assert sides == [12] * len(sides)


def test_a_plan_follows_its_painter(weights):
    """Strokes of the painter's own episodes on every tile, and half of its canvas at the finest."""
    painter = load_painter(weights[1])  # 16 pixels, 4 bundles of 5
    assert (painter.strokes, painter.brush) == (20, "bezier")
    levels = plan_for(painter, 64, 64, 3000)
    assert {level.strokes for level in levels} == {20}
    assert levels[-1].side == 8
    assert plan_for(painter, 64, 64, 3000, 12)[-1].side == 12
    painter.episode_length, painter.strokes, painter.size = 40, 200, 128
    levels = plan_for(painter, 512, 512, 40_000)
    assert (levels[-1].side, {level.strokes for level in levels}) == (64, {200})
    assert [level.strokes for level in plan_for(painter, 512, 512, 150)] == [150]


def test_the_shipped_painters_plan_is_its_measured_one():
    levels = plan_for(load_painter(), 341, 512, 5000)
    assert [(level.side, level.tiles, level.strokes) for level in levels] == [
        (512, 1, 20),
        (41, 117, 20),
        (20, 132, 20),
    ]


def test_a_policy_is_told_the_steps_of_its_own_episode_and_sees_what_will_be_painted():
    shown = []

    class Told:
        size, action_size, episode_length, strokes, brush = 16, 65, 40, 200, "bezier"

        def act(self, observation):
            shown.append(observation)
            return torch.rand(len(observation), 65, generator=torch.Generator().manual_seed(len(shown)))

    black, limits = torch.zeros(2, 3, 16, 16), Limits(0.5, 0.6, True)
    strokes = policy(Told(), "circle", limits)(black, black + 0.5, 200)
    assert [int(seen[0, 768]) for seen in shown] == list(range(40))
    assert 0.5 <= float(strokes[..., 6:8].min()) <= float(strokes[..., 6:8].max()) <= 0.6 + 1e-6
    painted = composite(black, draw_soft(strokes[:, :5, :10], 16, brush="circle"), strokes[:, :5, 10:])
    assert torch.equal(shown[1][:, :768], (painted * 255).round().to(torch.uint8).flatten(1))
    shown.clear()
    policy(Told())(black, black, 20)
    assert [int(seen[0, 768]) for seen in shown] == [0, 10, 20, 30]  # fewer bundles than it learned with


def test_the_papers_plan_gives_every_tile_as_many_strokes():
    whole, tiles = divided_plan(400, 400, 4250, 4)
    assert (whole.side, whole.tiles, whole.strokes) == (400, 1, 250)
    assert (tiles.side, tiles.tiles, tiles.strokes) == (100, 16, 250)
    assert [level.strokes for level in divided_plan(400, 400, 1000, 1)] == [1000]
    assert divided_plan(200, 400, 900, 4)[1].tiles == 2 * 4  # squares: fewer than 4 x 4
    with pytest.raises(UserError, match="use 17 strokes or more"):
        divided_plan(400, 400, 10, 4)


def test_the_tiles_with_the_largest_errors_are_painted():
    target, canvas = torch.zeros(3, 20, 30), torch.zeros(3, 20, 30)
    target[:, 12, 7] = 1.0
    target[:, 3, 25] = 0.5
    level = Level(side=10, tiles=2, strokes=1, offset=(0, 0))
    assert worst_tiles(target, canvas, level).tolist() == [[10, 0], [0, 20]]
    shifted = Level(side=10, tiles=1, strokes=1, offset=(-5, -5))
    assert worst_tiles(target, canvas, shifted).tolist() == [[5, 5]]
    assert tile_weights(torch.tensor([[-5, 25]]), 10, 20, 30, 10).sum() == 25


def test_refining_lowers_every_tiles_error_and_keeps_limits():
    random = torch.Generator().manual_seed(0)
    strokes, target = torch.rand(6, 5, 13, generator=random), torch.rand(6, 3, 1, 1, generator=random)
    target = target.expand(-1, -1, 16, 16).clone()
    canvas, weight = torch.zeros_like(target), torch.ones(6, 1, 16, 16)

    def errors(bundle):
        painted = composite(canvas, draw_soft(bundle[..., :10], 16, edge=0.7), bundle[..., 10:])
        return (painted - target).square().sum(dim=(1, 2, 3))

    better = refine(strokes, canvas, target, weight, RefineConfig(steps=30), "bezier")
    assert (errors(better) < 0.6 * errors(strokes)).all()
    assert float(better.min()) >= 0.0
    assert float(better.max()) <= 1.0
    limited = refine(strokes, canvas, target, weight, RefineConfig(steps=5), "bezier", Limits(0.2, 0.4, True))
    moved = (limited != strokes).flatten(2).any(dim=2).any(dim=1)
    assert moved.any()
    assert 0.2 - 1e-6 <= float(limited[moved][..., 6:8].min()) <= float(limited[moved][..., 6:8].max()) <= 0.4 + 1e-6
    assert float(limited[moved][..., 8:10].min()) == 1.0
    stopped = refine(strokes, canvas, target, weight, RefineConfig(steps=30), "bezier", until=0.0)
    assert torch.equal(stopped, strokes)


def test_a_painting_is_what_its_strokes_draw_and_refining_helps(weights):
    _, path = weights
    propose, target = policy(load_painter(path)), picture()
    levels = make_plan(40, 56, 400, 10, 20)
    reports = []
    plain = paint_picture(target, propose, levels, size=16, report=lambda done, total: reports.append((done, total)))
    refined = paint_picture(target, propose, levels, size=16, refinement=RefineConfig(steps=10))
    assert reports[-1] == (len(plain), len(plain))
    assert len(plain) == len(refined) <= 400
    errors = [float((painting.draw() - target).square().mean()) for painting in (plain, refined)]
    assert errors[1] < 0.7 * errors[0]
    opaque = paint_picture(target, propose, levels, size=16, limits=Limits(0.1, 0.3, True))
    for layer in opaque.layers:
        assert float(layer.strokes[..., 8:10].min()) == 1.0
        radii = layer.strokes[..., 6:8]
        assert 0.1 - 1e-6 <= float(radii.min()) <= float(radii.max()) <= 0.3 + 1e-6
