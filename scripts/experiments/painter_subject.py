"""The painter as a subject: the shipped painter, a convolutional policy with BatchNorm and ReLU and without cameras.

What it is shown are nine planes: the canvas, the picture, the share of the bundles done, and each pixel's place. What
it gives are five strokes. Its score is the PSNR, in dB, of what it paints in four bundles on black: self-made scenes
(envs/painting/scenes.py) whose seeds no painter has learned from or been chosen on. Students learn its strokes, on
canvases that it and they have painted (envs/evaluation/policy_task.py does the same for states).

Shapes: N canvases, W side, T bundles of an episode, A numbers of a bundle.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from agents.painter.agent import actor_state
from agents.painter.networks import coordinate_maps
from agents.painter.weights import load_painter
from envs.evaluation.recipe import network_base
from envs.evaluation.subject import Subject
from envs.painting.environment import Painting, PaintingVectorEnv, unpack
from envs.painting.scenes import dead_leaves
from rlsuite.data.arrays import Arrays
from rlsuite.errors import require
from rlsuite.metrics.pictures import decibels
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig
from rlsuite.running.seeding import derive_seed

SCENE_SIDE = 192  # of scenes, of which 32x32 pictures are made by averaging
CROPS = 16  # of one scene, to learn from
LEARNED_FROM, SCORED_ON = (
    20_000_000,
    30_000_000,
)  # first seeds of scenes; training's pools are below 11 million
SEEDS_APART = 10_000
Seen = Callable[[Tensor, Tensor], object]


class PaintingTask:
    """Painting as a task: a student learns a teacher's strokes, and is scored by how near its paintings come.

    Args:
        teacher: states (N, 9, W, W) to bundles (N, A) in [0, 1].
        scenes: painted for a score.
        states: canvases labelled for each round of learning.
        bundles: T.
        brush: whose strokes are painted.
        seed: of the canvases that are learned from.
    """

    interactive = True
    unit = "dB"
    box: tuple[float, float] | None = (0.0, 1.0)

    def __init__(
        self, teacher: nn.Module, *, scenes: int, states: int, size: int, bundles: int, brush: str, seed: int
    ) -> None:
        require(1 <= scenes <= SEEDS_APART, f"scenes={scenes}: use 1 to {SEEDS_APART}")
        require(states >= 1, f"states={states}: use 1 or more")
        self.teacher = teacher.eval().requires_grad_(False)
        self.scenes, self.states, self.size, self.bundles, self.seed = scenes, states, size, bundles, seed
        self.options = Painting(size=size, renderer="exact", brush=brush)
        self.coordinates = coordinate_maps(size)
        self._sources: dict[str, Arrays] = {}

    @property
    def floor(self) -> float:
        """The mean PSNR of canvases left black."""
        errors = (scored_scenes(self.scenes, self.size, 0).float() / 255.0).square().mean(dim=(1, 2, 3))
        return float(np.mean([decibels(float(error)) for error in errors]))

    def source(self, split: str) -> Arrays:
        """Return states that the teacher brings about, with its strokes; "test" has other scenes than "train"."""
        if split not in self._sources:
            branch = derive_seed(self.seed, f"canvases {split}")
            self._sources[split] = self._collect(self.teacher, branch)
        return self._sources[split]

    def visited(self, module: nn.Module, seed: int) -> Arrays:
        """Return states that the student brings about, with the teacher's strokes there."""
        return self._collect(module, derive_seed(seed, "canvases student"))

    def loss(self, module: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Return the mean square (B,) of the strokes' differences."""
        return (module(batch["input"]) - batch["action"]).square().mean(1)

    def score(self, module: nn.Module, seed: int) -> np.ndarray:
        """Return the PSNR (N,) in dB of the painting of each scene; the same seed asks the same scenes."""
        errors = self.paint(module, scored_scenes(self.scenes, self.size, seed))
        return np.array([decibels(float(error)) for error in errors])

    def paint(
        self,
        policy: Callable[[Tensor], Tensor],
        pictures: Tensor,
        seen: Seen | None = None,
    ) -> Tensor:
        """Paint pictures (N, 3, W, W) uint8 from black; return the mean squared errors (N,) of values in [0, 1].

        Args:
            policy: states to bundles.
            pictures: what is painted.
            seen: called at every bundle with the states and the policy's bundles.
        """
        env = PaintingVectorEnv(self.options, len(pictures), max_episode_steps=self.bundles, pictures=pictures)
        observation, _ = env.reset_to(pictures)
        error = torch.zeros(len(pictures))
        with torch.no_grad():
            for _ in range(self.bundles):
                state = actor_state(unpack(observation), self.bundles, self.coordinates)
                action = policy(state)
                if seen is not None:
                    seen(state, action)
                observation, _, _, _, info = env.step(action)
                error = info["mse"]
        env.close()
        return error

    def _collect(self, policy: nn.Module, seed: int) -> Arrays:
        states: list[Tensor] = []
        pictures = learned_scenes(-(-self.states // self.bundles), self.size, seed)
        self.paint(policy, pictures, lambda state, _: states.append(state))
        inputs = torch.cat(states)[: self.states]
        with torch.no_grad():
            labels = torch.cat([self.teacher(part) for part in inputs.split(256)])
        return Arrays({"input": inputs, "action": labels})


@functools.lru_cache(maxsize=4)
def scored_scenes(count: int, size: int, seed: int) -> Tensor:
    """Return whole scenes (count, 3, size, size) uint8 that nothing is learned from."""
    first = SCORED_ON + seed * SEEDS_APART
    return torch.cat([_reduced(_scene(first + place), size) for place in range(count)])


@functools.lru_cache(maxsize=4)
def learned_scenes(count: int, size: int, seed: int) -> Tensor:
    """Return crops (count, 3, size, size) uint8 of scenes to learn from, CROPS of each, small ones to the whole."""
    random = np.random.default_rng(seed)
    pictures = []
    for _ in range(-(-count // CROPS)):
        scene = _scene(LEARNED_FROM + int(random.integers(SEEDS_APART * SEEDS_APART // 20)))
        for _ in range(CROPS):
            side = size * int(random.integers(1, SCENE_SIDE // size + 1))
            row, column = random.integers(SCENE_SIDE - side + 1, size=2)
            pictures.append(_reduced(scene[:, :, row : row + side, column : column + side], size))
    return torch.cat(pictures)[:count]


def _scene(seed: int) -> Tensor:
    return torch.from_numpy(dead_leaves(SCENE_SIDE, np.random.default_rng(seed))).permute(2, 0, 1).unsqueeze(0)


def _reduced(picture: Tensor, size: int) -> Tensor:
    """Return a byte picture (1, 3, k size, k size) as (1, 3, size, size), its pixels averaged."""
    factor = picture.shape[-1] // size
    return torch.nn.functional.avg_pool2d(picture.float(), factor).round().to(torch.uint8)


def painter_subject(*, scenes: int = 32, states: int = 4096, seed: int = 0) -> Subject:
    """Return the shipped painter as a subject, an exact copy of its actor.

    Args:
        scenes: painted for a score.
        states: canvases labelled for each round of learning.
        seed: of the canvases.
    """
    painter = load_painter()
    width, actions = int(painter.about["width"]), painter.action_size
    config = ConvNetConfig(widths=(width // 2, width, 2 * width), hidden=0, batch_norm=True, squash="sigmoid")
    module = ConvNet(9, painter.size, actions, config, 0)
    theirs, own = list(painter.actor.state_dict().values()), list(module.state_dict())
    module.load_state_dict(dict(zip(own, theirs, strict=True)), strict=True)  # the same layers in the same order
    module.eval()
    task = PaintingTask(
        copy.deepcopy(module),
        scenes=scenes,
        states=states,
        size=painter.size,
        bundles=painter.episode_length,
        brush=painter.brush,
        seed=seed,
    )
    picture = learned_scenes(1, painter.size, seed)
    blank = torch.cat([torch.zeros_like(picture), picture], dim=1).float() / 255.0
    example = torch.cat([blank, torch.zeros(1, 1, *picture.shape[-2:]), task.coordinates.unsqueeze(0)], dim=1)
    assert math.prod(example.shape) == 9 * painter.size**2
    base = network_base("conv", channels=9, size=painter.size, outputs=actions, config=config)
    return Subject(module, example, task, base, gained=frozenset({"policy"}))
