"""The painter's speed: the exact rasterizer against plain loops, and training against the paper's loop written plainly.

what=painting measures both. Strokes: `strokes` random ones at the configured size. Training: pictures painted a second
of a loop that paints N bundles and then does the configured number of updates, ours with the soft and with the neural
renderer, against benchmarks/painting_plain.py with the neural renderer, all at equal sizes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from agents.assembly import choose_device, prepare_torch
from agents.painter.agent import Painter
from envs.painting.environment import PaintingVectorEnv
from renderers.bezier import draw_exact
from renderers.neural import NeuralRenderer
from renderers.plain import draw_stroke
from rlsuite.config.schema import TrainConfig
from rlsuite.replay.config import ReplayConfig
from rlsuite.replay.sampler import Replay
from rlsuite.running.rollout import RolloutWorker
from rlsuite.vector_env import EnvironmentFacts
from scripts.benchmarks.painting_plain import PlainPainter
from scripts.benchmarks.rounds import alternate, print_table, report

STROKES = 64


def measure_painting(config: TrainConfig, rounds: int, seconds: float) -> dict[str, Any]:
    """Print two tables; return medians and ratios."""
    prepare_torch(config)
    size = int(config.env.options.get("size", 128))
    return measure_strokes(size, rounds) | measure_training(config, size, rounds, seconds)


def measure_strokes(size: int, rounds: int) -> dict[str, Any]:
    """Measure strokes a second: batched, and one by one in NumPy, Pillow and OpenCV."""
    shapes = torch.rand(STROKES, 10, generator=torch.Generator().manual_seed(0))
    rows = shapes.double().numpy()

    def rate(work: Callable[[], Any]) -> Callable[[], float]:
        def measure() -> float:
            began = time.perf_counter()
            work()
            return STROKES / (time.perf_counter() - began)

        return measure

    contestants = {"ours": rate(lambda: draw_exact(shapes, size))}
    contestants["numpy"] = rate(lambda: [draw_stroke(row, size) for row in rows])
    contestants["pillow"] = rate(lambda: [draw_stroke_pillow(row, size) for row in rows])
    try:
        import cv2

        def fill(raster: Any, row: int, column: int, radius: int, value: float) -> None:
            cv2.circle(raster, (column, row), radius, value, -1)

        contestants["opencv"] = rate(lambda: [draw_stroke(row, size, fill=fill) for row in rows])
    except ImportError:
        pass
    rates = alternate(contestants, rounds)
    print_table(f"exact strokes, {STROKES} of {size} pixels", "strokes/s", rates)
    peers = {f"ratio_strokes_{name}": name for name in ("numpy", "pillow", "opencv")}
    return {f"strokes_{key}" if key.startswith("median") else key: value for key, value in report(rates, peers).items()}


def draw_stroke_pillow(shape: Any, size: int) -> Any:
    """Draw one stroke with Pillow's filled ellipses (whose outline is not OpenCV's; the work is alike)."""
    import numpy as np
    from PIL import Image, ImageDraw

    picture = Image.new("F", (2 * size, 2 * size))
    pen = ImageDraw.Draw(picture)

    def fill(raster: Any, row: int, column: int, radius: int, value: float) -> None:
        pen.ellipse((column - radius, row - radius, column + radius, row + radius), fill=value)

    draw_stroke(shape, size, fill=fill)
    return np.asarray(picture).reshape(size, 2, size, 2).mean(axis=(1, 3))


def measure_training(config: TrainConfig, size: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure pictures painted a second while training: ours, and the plain loop."""
    pictures = torch.randint(0, 256, (64, 3, size, size), dtype=torch.uint8)
    agent_config, length = config.agent, int(config.env.options.get("max_episode_steps", 40))
    bundle = int(config.env.options.get("bundle", 5))
    every = max(1, round(1 / (config.train_ratio * config.num_envs)))  # steps of all environments between updates
    device = choose_device(config.device)

    def ours(renderer: Any) -> Callable[[], None]:
        env = PaintingVectorEnv(
            config_options(config), config.num_envs, max_episode_steps=length, pictures=pictures, device=device
        )
        env.renderer = renderer or env.renderer
        agent: Any = Painter(
            EnvironmentFacts.of(env),
            agent_config,
            device=device,
        )
        worker = RolloutWorker(env, agent, seed=0)
        action = torch.zeros(config.num_envs, 13 * bundle)
        replay = Replay(
            ReplayConfig(capacity=4 * agent_config.batch_size),
            worker.observation,
            action,
            discount=agent_config.discount,
            seed=0,
            constant_columns=env.constant_columns,
        )

        def turn() -> None:
            for _ in range(every):
                replay.add(worker.step())
            agent.update(replay.sample(agent.sample_size))

        return turn

    plain = PlainPainter(
        pictures,
        num_envs=config.num_envs,
        batch_size=agent_config.batch_size,
        network=agent_config.network,
        width=agent_config.width,
        bundle=bundle,
        length=length,
        capacity=4 * agent_config.batch_size,
    )

    def plain_turn() -> None:
        for _ in range(every):
            plain.act()
        while len(plain.replay) < plain.batch_size:
            plain.act()
        plain.update()

    def rate(turn: Callable[[], None]) -> Callable[[], float]:
        def measure() -> float:
            began, turns = time.perf_counter(), 0
            while turns == 0 or time.perf_counter() - began < seconds:
                turn()
                turns += 1
            return turns * every * config.num_envs / (time.perf_counter() - began)

        return measure

    contestants = {"ours": rate(ours(None)), "plain": rate(plain_turn)}
    contestants["ours, neural renderer"] = rate(ours(NeuralRenderer(size).requires_grad_(False)))
    rates = alternate(contestants, rounds)
    print_table(f"training at {size} pixels, batch {agent_config.batch_size}", "pictures/s", rates)
    peers = {"ratio_training_plain": "plain", "ratio_training_neural": "ours, neural renderer"}
    found = report(rates, peers)
    return {f"training_{key}" if key.startswith("median") else key: value for key, value in found.items()}


def config_options(config: TrainConfig) -> Any:
    """Return the environment's options, without the length of its episodes."""
    from envs.painting.environment import Painting

    options = {key: value for key, value in config.env.options.items() if key != "max_episode_steps"}
    return Painting(**options)
