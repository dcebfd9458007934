import copy

import pytest
import torch

from agents.assembly import check_fit
from agents.painter.agent import Painter
from agents.painter.config import ModelFreePainterConfig, PainterConfig
from agents.painter.discriminator import Discriminator
from agents.painter.model_free import ModelFreePainter
from agents.painter.networks import PatchCritic, PictureNetwork, coordinate_maps
from envs.painting.environment import Painting, paint, unpack
from rlsuite.config.compose import compose_train
from rlsuite.errors import UserError
from rlsuite.nn.vision.blocks import TReLU, WeightNormConv2d
from rlsuite.replay.buffer import Batch
from rlsuite.vector_env import EnvironmentFacts

SIZE, LENGTH = 16, 4


def environment(**options):
    env = Painting(size=SIZE, num_pictures=8, bundle=2, **options).make_vector(6, max_episode_steps=LENGTH)
    return env, env.reset(seed=0)[0]


def agent(env, kind=Painter, **changes):
    config = {"network": "small", "width": 4, "batch_size": 6, "reward": "l2", "precision": "float32", **changes}
    return kind(EnvironmentFacts.of(env), kind.Config(**config))


def transitions(env, observation, *, terminated=False):
    action = torch.rand(6, 26, generator=torch.Generator().manual_seed(1))
    _, reward, _, _, info = env.step(action)
    discount = torch.full((6,), 0.0 if terminated else 0.5)
    weight, index = torch.ones(6), torch.arange(6)
    return Batch(observation, action, reward, discount, info["final_obs"], weight, index)


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_networks_have_the_papers_sizes():
    assert parameters(PictureNetwork(9, 65, 128, batch_norm=True)) == 11_209_857
    assert parameters(PictureNetwork(12, 1, 128, batch_norm=False)) == 11_178_770
    assert parameters(Discriminator()) == 274_886
    pictures, state = torch.rand(2, 12, 128, 128), torch.rand(2, 9, 128, 128)
    assert PictureNetwork(12, 1, 128, batch_norm=False)(pictures).shape == (2, 1)
    assert PatchCritic(9, 65, patches=True)(state, torch.rand(2, 65)).shape == (2, 64)
    assert Discriminator(patches=True)(pictures[:, :3], pictures[:, 3:6]).shape == (2, 64)


def test_translated_relu_has_autograds_derivatives_also_the_second():
    activation = TReLU()
    activation.alpha.data.fill_(0.3)
    inputs = torch.randn(4, 2, 3, 3, requires_grad=True)
    plain = torch.relu(inputs - activation.alpha) + activation.alpha

    def derivatives(output):
        """Of a gradient penalty, which is a function of first derivatives."""
        first = torch.autograd.grad(output.pow(3).sum(), (inputs, activation.alpha), create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), (inputs, activation.alpha))
        return (*first, *second)

    for own, reference in zip(derivatives(activation(inputs)), derivatives(plain), strict=True):
        torch.testing.assert_close(own, reference)


def test_trelu_and_weight_normalization_by_hand():
    activation = TReLU()
    with torch.no_grad():
        activation.alpha.fill_(-1.0)
    assert activation(torch.tensor([-3.0, -0.5, 2.0])).tolist() == [-1.0, -0.5, 2.0]
    convolution = WeightNormConv2d(1, 1, 1)
    with torch.no_grad():
        convolution.weight.fill_(-4.0)
        convolution.scale.fill_(3.0)
        convolution.bias.fill_(0.5)
    assert convolution(torch.full((1, 1, 1, 1), 2.0)).item() == pytest.approx(-5.5)


def test_the_actor_sees_canvas_picture_step_and_coordinates():
    env, observation = environment(start="mixed")
    scene = unpack(env.step(torch.rand(6, 26))[0])
    state = agent(env).state(scene)
    assert state.shape == (6, 9, SIZE, SIZE)
    assert torch.equal(state[:, :3], scene.canvas)
    assert torch.equal(state[:, 3:6], scene.target)
    assert state[:, 6].unique().tolist() == [1 / LENGTH]
    assert state[0, 7, 5, 0].item() == pytest.approx(5 / 15)
    assert state[0, 8, 0, 15].item() == 1.0
    assert coordinate_maps(128)[0, 1, 0].item() == pytest.approx(1 / 127)
    assert observation.dtype == torch.uint8


def test_the_critics_target_by_hand():
    """y = gamma (V'(C1, C2, I, t + 2) + r(C1, C2)) with C2 = render(C1, actor'(s')); 0 where the episode ended."""
    env, observation = environment()
    for terminated in (False, True):
        painter, batch = (
            agent(env, reward_scale=20.0, target_rate=0.0),
            transitions(env, observation, terminated=terminated),
        )
        with torch.no_grad():
            for parameter in painter.target_critic.parameters():
                parameter.add_(0.1)
        following, scene = unpack(batch.next_observation), unpack(batch.observation)
        with torch.no_grad():
            after = paint(following.canvas, painter.target_actor(painter.state(following)), env.renderer)
            gain = (following.canvas - following.target).square() - (after - following.target).square()
            maps = [torch.full((6, 1, SIZE, SIZE), 2 / LENGTH), painter.coordinates.expand(6, -1, -1, -1)]
            later = painter.target_critic(torch.cat([following.canvas, after, following.target, *maps], dim=1))
            target = batch.discount * (later[:, 0] + 20.0 * gain.mean(dim=(1, 2, 3)))
            maps[0] = torch.full((6, 1, SIZE, SIZE), 1 / LENGTH)
            value = painter.critic(torch.cat([scene.canvas, following.canvas, scene.target, *maps], dim=1))[:, 0]
        td_error = painter.update(batch)["td_error"]
        torch.testing.assert_close(td_error, value - target)
        env.reset(seed=0)


def test_the_actor_ascends_value_and_reward_through_the_renderer_and_moves_alone():
    env, observation = environment()
    painter, batch = agent(env, reward_scale=20.0), transitions(env, observation)
    before = copy.deepcopy(painter.state_dict())
    metrics = painter.update(batch)
    moved = {name.split(".")[0] for name, value in painter.state_dict().items() if not torch.equal(value, before[name])}
    assert moved >= {"actor", "critic", "target_actor", "target_critic"}
    assert not moved & {"discriminator", "target_discriminator"}  # reward=l2 has none
    assert not any(parameter.requires_grad for parameter in painter.target_critic.parameters())
    assert all(value.dim() == 0 for name, value in metrics.items() if name != "td_error")
    rewards = [painter.update(batch)["reward"].item() for _ in range(60)]
    assert sum(rewards[-5:]) > sum(rewards[:5]) + 1.0  # one picture, one step: it learns to paint it


def test_a_perfect_canvas_has_the_highest_reward():
    env, observation = environment()
    painter, scene = agent(env), unpack(observation)
    perfect = painter.reward(scene.target, scene.canvas, scene.target)
    for seed in range(5):
        other = torch.rand(scene.canvas.shape, generator=torch.Generator().manual_seed(seed))
        assert (painter.reward(scene.target, scene.canvas, other) < perfect).all()


def test_the_discriminators_loss_by_hand():
    """A discriminator w . canvas has the gradient w everywhere: the penalty is (|w| - 1)^2."""
    discriminator = Discriminator()
    weight = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    discriminator.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6 * 64, 1))
    with torch.no_grad():
        discriminator.layers[1].weight.copy_(torch.cat([torch.zeros(192), weight.flatten()]).unsqueeze(0))
    target, canvas = torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8)
    discriminator.patches = True  # no mean over a map that is none
    loss, distance = discriminator.loss(target, canvas, penalty=10.0, generator=torch.Generator().manual_seed(1))
    expected = ((target - canvas) * weight).sum(dim=(1, 2, 3)).mean()
    torch.testing.assert_close(distance, expected)
    torch.testing.assert_close(loss, 10.0 * (weight.norm() - 1) ** 2 - expected)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (Painter, {"reward": "wgan"}),
        (Painter, {"reward": "wgan", "network": "resnet18"}),
        (ModelFreePainter, {}),
        (ModelFreePainter, {"reward": "wgan", "network": "resnet18"}),
        (ModelFreePainter, {"patches": True, "network": "resnet18"}),
        (ModelFreePainter, {"patches": True, "network": "resnet18", "reward": "wgan"}),
        (Painter, {"precision": "bfloat16"}),
    ],
)
def test_every_kind_updates_and_goes_on_from_its_state(kind, changes):
    env, observation = environment()
    painter, batch = agent(env, kind, **changes), transitions(env, observation)
    painter.act(observation, True)
    for _ in range(2):
        metrics = painter.update(batch)
    assert all(bool(torch.isfinite(value).all()) for value in metrics.values())
    assert metrics["td_error"].shape == (6,)
    twin = agent(env, kind, **changes)
    twin.load_state_dict(painter.state_dict())
    assert torch.equal(twin.act(observation, False), painter.act(observation, False))
    assert torch.equal(twin.act(observation, True), painter.act(observation, True))
    assert twin.num_updates == 2


def test_batch_norm_learns_in_updates_alone_and_its_statistics_reach_the_slow_actor():
    env, observation = environment()
    painter, batch = agent(env), transitions(env, observation)
    before = painter.act(observation, False)
    assert torch.equal(before, painter.act(observation, False))
    painter.update(batch)
    for own, slow in zip(painter.actor.buffers(), painter.target_actor.buffers(), strict=True):
        assert torch.equal(own, slow)
        assert own.data_ptr() != slow.data_ptr()


def test_learning_rates_change_at_their_milestones():
    env, observation = environment()
    painter = agent(
        env, milestones=(1, 2), actor_learning_rates=(3e-3, 2e-3, 1e-3), critic_learning_rates=(6e-3, 5e-3, 4e-3)
    )
    batch, found = transitions(env, observation), []
    for _ in range(3):
        painter.update(batch)
        found.append([painter.optimizers[name].param_groups[0]["lr"] for name in ("actor", "critic")])
    assert found == [[3e-3, 6e-3], [2e-3, 5e-3], [1e-3, 4e-3]]


def test_model_free_painters_explore_with_noise_of_each_episode():
    env, observation = environment()
    painter = agent(env, ModelFreePainter)
    greedy, explored = painter.act(observation, False), painter.act(observation, True)
    scale = painter.noise_scale.clone()
    assert 0.0 < float((explored - greedy).abs().mean()) < 0.06
    assert (scale >= 0.0).all()
    assert (scale <= 0.05).all()
    observation = env.step(explored)[0]
    painter.act(observation, True)
    assert torch.equal(scale, painter.noise_scale)  # until the next episode
    assert isinstance(painter.config, ModelFreePainterConfig)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["agent=ace", "env=Painting"], "use agent=painter"),
        (["agent=painter", "env=Hopper"], "use env=Painting"),
        (["agent=painter", "env=Painting", "env.renderer=exact"], "no gradients"),
        (
            ["agent=painter_ddpg", "env=Painting", "env.size=40", "agent.patches=true", "agent.network=resnet18"],
            "env.size=40: agent.patches=true has patches of 16 pixels; use a multiple of 16",
        ),
    ],
)
def test_agents_and_tasks_that_do_not_go_together_are_refused(arguments, message):
    from agents.assembly import make_env

    config, _ = compose_train([*arguments, "device=cpu"])
    with pytest.raises(UserError, match=message):
        check_fit(config, make_env(config, 1))


def test_painters_are_judged_on_test_pictures_from_black_canvases(tmp_path):
    import contextlib

    from agents import training
    from agents.assembly import make_evaluation_env

    arguments = ["agent=painter", "env=Painting", "preset=debug", "device=cpu", "env.start=mixed"]
    config, _ = compose_train(arguments)
    env = make_evaluation_env(config, 2, options={"renderer": "exact"})
    assert (env.options.split, env.options.start, env.options.renderer) == ("test", "black", "exact")
    assert env.options.size == config.env.options["size"]
    assert config.env.options["start"] == "mixed"  # the run's own stay
    with contextlib.ExitStack() as stack:
        trainer = training.make_trainer(config, tmp_path, stack)
        assert trainer.env.options.split == "train"
        assert trainer.env.options.start == "mixed"
        judge = trainer.make_evaluation_env()
        assert (judge.options.split, judge.options.start, judge.num_envs) == ("test", "black", config.evaluate.episodes)
    chosen, _ = compose_train([*arguments, "env.split=train"])
    assert make_evaluation_env(chosen, 1).options.split == "train"
    hopper, _ = compose_train(["agent=ddpg", "env=Hopper", "device=cpu"])
    assert make_evaluation_env(hopper, 1, num_threads=1).max_episode_steps == 1000  # others have nothing to change


def test_bad_numbers_are_refused():
    for changes, message in (
        ({"reward": "l1"}, "agent.reward"),
        ({"milestones": (1,)}, "one more than"),
        ({"width": 1}, "width"),
    ):
        with pytest.raises(UserError, match=message):
            PainterConfig(**changes)
    with pytest.raises(UserError, match=r"agent\.patches=true"):
        ModelFreePainterConfig(patches=True, network="small")
