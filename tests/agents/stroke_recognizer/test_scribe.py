"""The scribe: the painter's algorithm among characters. Targets by hand; no policy sees the clean glyph."""

import copy
from typing import Any

import pytest
import torch
from host_waits import NoHostSync

from agents.assembly import check_fit, make_env
from agents.painter.agent import Painter
from agents.painter.model_free import ModelFreePainter
from agents.stroke_recognizer.agent import ModelFreeStrokeRecognizer, StrokeRecognizer
from agents.stroke_recognizer.policy import PolicyStrokes
from agents.stroke_recognizer.weights import Readers, save_readers
from envs.characters.task import Characters, unpack_written
from envs.painting.environment import Painting
from renderers.glyph import write
from rlsuite.config.compose import compose_train
from rlsuite.errors import UserError
from rlsuite.optim.state import optimizer_tensors
from rlsuite.replay.buffer import Batch
from rlsuite.running.cuda_graph import GraphedUpdate, stand_in
from rlsuite.vector_env import EnvironmentFacts

SIZE, LENGTH = 16, 4
KINDS = [StrokeRecognizer, ModelFreeStrokeRecognizer]


def environment(**options):
    env = Characters(size=SIZE, data="digits", strokes=2, **options).make_vector(6, max_episode_steps=LENGTH)
    return env, env.reset(seed=0)[0]


def agent(env, kind: Any = StrokeRecognizer, **changes):
    config = {"network": "small", "width": 4, "batch_size": 6, "precision": "float32", **changes}
    return kind(EnvironmentFacts.of(env), kind.Config(**config))


def transitions(env, observation):
    action = torch.rand(6, 18, generator=torch.Generator().manual_seed(1)) * 0.5
    _, reward, _, _, info = env.step(action)
    return Batch(observation, action, reward, torch.full((6,), 0.5), info["final_obs"], torch.ones(6), torch.arange(6))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("privileged", [True, False])
def test_no_policy_sees_the_clean_glyph(kind, privileged):
    env, observation = environment(noise="light")
    scribe = agent(env, kind, privileged_critic=privileged)
    other = observation.clone()
    other[:, -SIZE * SIZE :] = torch.randint(0, 256, (6, SIZE * SIZE), dtype=torch.uint8)
    assert torch.equal(scribe.act(observation, False), scribe.act(other, False))
    policy = PolicyStrokes.of(scribe)
    assert torch.equal(policy.act(observation), policy.act(other))
    # The critic does, where it is privileged.
    one, two = unpack_written(observation), unpack_written(other)
    seen = [scribe.world.for_critic(scene) for scene in (one, two)]
    assert torch.equal(*seen) != privileged
    assert seen[0].shape[1] == (4 if privileged else 3)


def test_the_critics_target_by_hand():
    """y = gamma (V'(C1, C2, noisy, clean, t + 2) + r), r the share of the blank paper's error that is gone."""
    env, observation = environment()
    scribe, batch = agent(env, target_rate=0.0, privileged_critic=True), transitions(env, observation)
    with torch.no_grad():
        for parameter in scribe.target_critic.parameters():
            parameter.add_(0.1)
    following, scene = unpack_written(batch.next_observation), unpack_written(batch.observation)
    with torch.no_grad():
        after = write(following.canvas, scribe.target_actor(scribe.state(following)), env.renderer)
        gain = (following.canvas - following.target).square() - (after - following.target).square()
        share = gain.mean((1, 2, 3)) / (1 - following.target).square().mean((1, 2, 3))
        maps = [torch.full((6, 1, SIZE, SIZE), 2 / LENGTH), scribe.coordinates.expand(6, -1, -1, -1)]
        seen = torch.cat([following.canvas, after, following.noisy, following.target, *maps], dim=1)
        target = batch.discount * (scribe.target_critic(seen)[:, 0] + share)
        maps[0] = torch.full((6, 1, SIZE, SIZE), 1 / LENGTH)
        seen = torch.cat([scene.canvas, following.canvas, scene.noisy, scene.target, *maps], dim=1)
        value = scribe.critic(seen)[:, 0]
    torch.testing.assert_close(scribe.update(batch)["td_error"], value - target)


def test_rewards_are_the_environments_own():
    env, observation = environment()
    scribe, batch = agent(env), transitions(env, observation)
    scene, following = unpack_written(batch.observation), unpack_written(batch.next_observation)
    torch.testing.assert_close(scribe.gain(scene, following.canvas).squeeze(1), batch.reward)


def test_the_last_bundle_hears_the_recognizer(tmp_path):
    about = {"size": SIZE, "strokes": 2, "network": "small", "names": "0123456789"}
    save_readers(Readers(about), tmp_path / "reader.safetensors", {})
    env, observation = environment()
    path = str(tmp_path / "reader.safetensors")
    plain, scribe = agent(env), agent(env, recognizer_weight=0.1, recognizer=path)
    scene = unpack_written(observation)
    after = scene.canvas * 0.5
    assert torch.equal(scribe.gain(scene, after), plain.gain(scene, after))  # not yet
    late = scene._replace(step=torch.full((6,), LENGTH - 1.0))
    reader = scribe.frozen
    log_prob = reader(after).log_softmax(1)[torch.arange(6), reader(scene.target).argmax(1)]
    torch.testing.assert_close((scribe.gain(late, after) - plain.gain(late, after))[:, 0], 0.1 * log_prob)
    before = copy.deepcopy(reader.state_dict())
    scribe.update(transitions(env, observation))
    assert all(torch.equal(value, before[name]) for name, value in reader.state_dict().items())
    assert not any(name.startswith("frozen") for name in scribe.state_dict())


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (StrokeRecognizer, {}),
        (StrokeRecognizer, {"network": "resnet18", "privileged_critic": False}),
        (ModelFreeStrokeRecognizer, {}),
        (ModelFreeStrokeRecognizer, {"network": "resnet18"}),
        (StrokeRecognizer, {"reward": "psnr"}),
    ],
)
def test_every_kind_updates_and_goes_on_from_its_state(kind, changes):
    env, observation = environment()
    scribe, batch = agent(env, kind, **changes), transitions(env, observation)
    scribe.act(observation, True)
    for _ in range(2):
        metrics = scribe.update(batch)
    assert all(bool(torch.isfinite(value).all()) for value in metrics.values())
    twin = agent(env, kind, **changes)
    twin.load_state_dict(scribe.state_dict())
    assert torch.equal(twin.act(observation, True), scribe.act(observation, True))
    assert twin.num_updates == 2


EVERY_KIND = [*KINDS, Painter, ModelFreePainter]


def world_of(kind):
    """Return an environment of a kind, what its config needs, and transitions."""
    if kind in KINDS:
        env, observation = environment()
        return env, {}, transitions(env, observation)
    env = Painting(size=SIZE, num_pictures=8, bundle=2).make_vector(6, max_episode_steps=LENGTH)
    observation = env.reset(seed=0)[0]
    action = torch.rand(6, 26, generator=torch.Generator().manual_seed(1))
    _, reward, _, _, info = env.step(action)
    discount = torch.full((6,), 0.5)
    batch = Batch(observation, action, reward, discount, info["final_obs"], torch.ones(6), torch.arange(6))
    return env, {"reward": "wgan"}, batch


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_graphed_updates_leave_what_eager_ones_leave(kind):
    """With the stand-in for a CUDA graph; over a milestone of the learning rates, and painters with a discriminator."""
    env, changes, batch = world_of(kind)
    changes |= {"milestones": (2,), "actor_learning_rates": (1e-3, 1e-4), "critic_learning_rates": (1e-3, 1e-4)}
    eager, graphed = agent(env, kind, **changes), agent(env, kind, **changes)
    update = GraphedUpdate(graphed, record=stand_in)
    for _ in range(4):
        wanted, got = eager.update(batch), update(batch)
        assert wanted.keys() == got.keys()
        assert all(torch.equal(value, got[name]) for name, value in wanted.items())
    for one, other in (
        (eager.state_dict(), graphed.state_dict()),
        (optimizer_tensors(eager.optimizers), optimizer_tensors(graphed.optimizers)),
    ):
        assert one.keys() == other.keys()
        assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_what_is_recorded_never_waits_for_the_host(kind, tmp_path):
    """Nor with a frozen recognizer, whose file is read before."""
    env, changes, batch = world_of(kind)
    if kind in KINDS:
        about = {"size": SIZE, "strokes": 2, "network": "small", "names": "0123456789"}
        save_readers(Readers(about), tmp_path / "reader.safetensors", {})
        changes = {"recognizer_weight": 0.1, "recognizer": str(tmp_path / "reader.safetensors")}
    painter = agent(env, kind, **changes)
    assert painter.recordable
    painter.update(batch)  # optimizers make their state, as in a warm-up
    for _ in range(2):
        variant = painter.prepare_update()
        with NoHostSync():
            painter.learn(batch, variant)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["agent=scribe", "env=Painting"], "agent=scribe writes characters; use env=Characters"),
        (["agent=painter", "env=Characters"], "agent=painter paints; use env=Painting"),
        (["agent=scribe", "env=Characters", "env.renderer=exact"], "no gradients"),
    ],
)
def test_agents_and_tasks_that_do_not_go_together_are_refused(arguments, message):
    config, _ = compose_train([*arguments, "device=cpu"])
    with pytest.raises(UserError, match=message):
        check_fit(config, make_env(config, 1))


def test_presets_compose():
    for preset in ("none", "debug", "paper"):
        for name in ("scribe", "scribe_ddpg"):
            config, _ = compose_train([f"agent={name}", "env=Characters", f"preset={preset}", "device=cpu"])
            assert config.agent.reward == "share"
            assert config.env.options.get("noise") == ("all" if preset == "paper" else None)


def test_a_policy_unrolled_is_the_policy_stepped():
    """Strokes of a whole episode from one call: what stepping the environment gives, but for its bytes."""
    env, observation = environment(noise="clean")
    scribe = agent(env)
    policy = PolicyStrokes.of(scribe)
    scene = unpack_written(observation)
    numbers = policy(scene.noisy)
    assert numbers.shape == (6, LENGTH * 18)
    stepped = []
    for _ in range(LENGTH):
        action = scribe.act(observation, False)
        stepped.append(action)
        observation = env.step(action)[4]["final_obs"]
    torch.testing.assert_close(numbers, torch.cat(stepped, dim=1), atol=0.01, rtol=0)
    leaf = scene.noisy.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(policy(leaf).sum(), leaf)
    assert float(gradient.abs().sum()) > 0


def test_it_learns_to_write_sixty_glyphs():
    """Within seconds: digits of 16 pixels, two strokes at once."""
    torch.manual_seed(0)
    env = Characters(size=SIZE, data="digits", strokes=2, noise="gauss:0.2").make_vector(16, max_episode_steps=2)
    env.glyphs  # noqa: B018 (they are read)
    env._glyphs = env.glyphs._replace(picture=env.glyphs.picture[:60], label=env.glyphs.label[:60])
    config = StrokeRecognizer.Config(network="small", width=24, batch_size=32, target_rate=0.01, precision="float32")
    scribe = StrokeRecognizer(EnvironmentFacts.of(env), config, seed=0)
    observation, rows = env.reset(seed=0)[0], []
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        action = scribe.act(observation, True)
        before = observation
        observation, reward, ended, _, info = env.step(action)
        rows.append((before, action, reward, 0.95 * (~ended).float(), info["final_obs"]))
        rows = rows[-40:]
        if len(rows) >= 4:
            pick = torch.randint(len(rows) * 16, (32,), generator=generator)
            parts: Any = [torch.cat(part)[pick] for part in zip(*rows, strict=True)]
            scribe.update(Batch(*parts, weight=torch.ones(32), index=torch.arange(32)))
    total = torch.zeros(16)
    observation = env.reset(seed=1)[0]
    for _ in range(2):
        observation, reward, *_ = env.step(scribe.act(observation, False))
        total += reward
    assert float(total.mean()) > 0.6
