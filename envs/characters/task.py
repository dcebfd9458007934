"""Writing characters as an environment: a noisy picture and the paper are seen, an action is a bundle of strokes.

The paper begins white; ink covers it, and what counts is how near it comes to the clean glyph (arXiv:1806.08990; the
first version's environment is a reconstruction, docs/characters.md). Bytes, reward and state are those of
envs/painting/canvas.py.

A row of the observation is bytes: the paper (W W), the number of bundles written, the noisy picture, channels first
(3 W W), and the clean glyph (W W). The last is for rewards and critics; no policy looks at it.

Shapes: N environments, k strokes a bundle, W side of the paper.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import gymnasium
import torch
from torch import Tensor

from envs.characters.attacked import Attacks
from envs.characters.geometry import Draw
from envs.characters.glyphs import CHARACTERS, Glyphs, glyph_pool
from envs.characters.noise import befall, parse_noise
from envs.painting.canvas import CanvasVectorEnv
from renderers.choice import make_renderer
from renderers.glyph import write
from renderers.strokes import GLYPH, GLYPH_SIZE
from rlsuite.data.counters import to_float32
from rlsuite.errors import require, require_choice


class WrittenScene(NamedTuple):
    """What a row of the observation says.

    Attributes:
        canvas: (B, 1, W, W) float in [0, 1], the paper; 1 where it is blank.
        step: (B,) float, bundles written.
        noisy: (B, 3, W, W) float in [0, 1].
        target: (B, 1, W, W) float in [0, 1], the clean glyph.
    """

    canvas: Tensor
    step: Tensor
    noisy: Tensor
    target: Tensor


def unpack_written(observation: Tensor) -> WrittenScene:
    """Return the parts of observations (B, 5 W W + 1) uint8."""
    pixels = observation.shape[1] // 5
    side = round(pixels**0.5)
    canvas, step, noisy, target = observation.split([pixels, 1, 3 * pixels, pixels], dim=1)
    pictures = [part.unflatten(1, (-1, side, side)).float() / 255.0 for part in (canvas, noisy, target)]
    return WrittenScene(pictures[0], step.squeeze(1).float(), pictures[1], pictures[2])


@dataclasses.dataclass(frozen=True)
class Characters:
    """The options of the characters environment.

    Attributes:
        size: W, pixels of the paper's side.
        strokes: k, strokes an action.
        renderer: "soft", "neural" or "exact".
        renderer_weights: file of the neural renderer's weights; see scripts/painter/train_renderer.py.
        data: "fonts", "digits" (scikit-learn's), "mnist", "shipped" (fonts and digits), or a folder or zip file of
            pictures, each class in a folder of its own.
        characters: of fonts: "digits", "letters" or "both".
        variants: of each font and character, moved at random.
        noise: what befalls the picture, such as gauss:0.3+saltpepper:0.15, light, clutter, all or attack:fgsm:0.2
            (then mi_fgsm, pgd, deepfool and cw2); see envs/characters/noise.py.
        split: "train" or "test": which glyphs. Evaluation takes "test", unless a run sets this.
        seed: of the pool's variants.
    """

    name: ClassVar[str] = "Characters"
    max_episode_steps: ClassVar[int] = 4
    ends_itself: ClassVar[bool] = True

    size: int = 32
    strokes: int = 1
    renderer: str = "soft"
    renderer_weights: str = ""
    data: str = "shipped"
    characters: str = "digits"
    variants: int = 20
    noise: str = "gauss:0.3+saltpepper:0.15"
    split: str = "train"
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.size >= 8, f"env.size={self.size}: use 8 or more")
        require(self.strokes >= 1, f"env.strokes={self.strokes}: use 1 or more")
        require(self.variants >= 1, f"env.variants={self.variants}: use 1 or more")
        require_choice("env.characters", self.characters, CHARACTERS)
        require_choice("env.split", self.split, ("train", "test"))
        parse_noise(self.noise)

    @staticmethod
    def evaluation_options(options: dict[str, Any]) -> dict[str, Any]:
        """Return a run's options for judging its agent: test glyphs, unless env.split is chosen."""
        return {"split": "test", **options}

    @staticmethod
    def make_single(**arguments: Any) -> gymnasium.Env:
        """Return one environment, as `gymnasium.make` asks for it."""
        from envs.characters.single import CharacterSingleEnv

        return CharacterSingleEnv(**arguments)

    def make_vector(self, num_envs: int, **arguments: Any) -> CharactersVectorEnv:
        """Return the environments."""
        return CharactersVectorEnv(self, num_envs, **arguments)


class CharactersVectorEnv(CanvasVectorEnv):
    """N papers written on together, wholly on one device.

    Args:
        options: see Characters.
        num_envs: N.
        max_episode_steps: T, bundles an episode, below 256; episodes terminate there.
        device: where papers and glyphs lie.
        dtype: of rewards and info.
        render_mode: "rgb_array" or None.
        glyphs: to write, instead of those that the options name.
    """

    exhibits = 3  # the noisy picture, the glyph, the paper

    def __init__(
        self,
        options: Characters,
        num_envs: int,
        *,
        max_episode_steps: int | None = Characters.max_episode_steps,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        render_mode: str | None = None,
        glyphs: Glyphs | None = None,
    ) -> None:
        renderer = make_renderer(
            options.renderer, options.size, brush=GLYPH, weights=options.renderer_weights, device=device
        )
        super().__init__(
            options,
            "rlsuite/Characters",
            num_envs,
            renderer=renderer,
            channels=1,
            constants={"noisy": 3, "target": 1},
            action_size=options.strokes * GLYPH_SIZE,
            max_episode_steps=max_episode_steps,
            device=device,
            dtype=dtype,
            render_mode=render_mode,
        )
        self.noisy: Tensor
        self.levels = parse_noise(options.noise)
        self._glyphs = glyphs

    @property
    def glyphs(self) -> Glyphs:
        """The clean glyphs, read when first needed; on the CPU, where they befall what befalls them."""
        if self._glyphs is None:
            options = self.options
            self._glyphs = glyph_pool(
                options.data, options.size, options.split, options.characters, options.variants, options.seed
            )
        return self._glyphs

    @functools.cached_property
    def attacks(self) -> Attacks:
        """Attacks on a reader of the clean glyphs."""
        return Attacks(self.glyphs, self.options.seed)

    def begin(self, env_ids: Tensor) -> dict[str, Tensor]:
        """Return blank paper, a noisy picture and the clean glyph in it."""
        pick = (self.random.uniform(env_ids, 3) * len(self.glyphs.label)).long()
        ink, left, right = (1.0 - self.glyphs.picture[index].float() / 255.0 for index in pick.unbind(1))
        attack = functools.partial(self.attacks, label=self.glyphs.label[pick[:, 0]])
        noisy, clean = befall(ink, (left, right), self.levels, self._drawer(env_ids), attack)
        found = {"canvas": torch.ones_like(clean), "noisy": noisy, "target": clean}
        return {name: (255.0 * value).round().to(torch.uint8).to(self.device) for name, value in found.items()}

    def _drawer(self, env_ids: Tensor) -> Draw:
        return lambda count: to_float32(self.random.uniform(env_ids, count))

    def draw(self, canvas: Tensor, action: Tensor) -> Tensor:
        """Write bundles of strokes."""
        return write(canvas, action, self.renderer)

    def exhibit(self, env_ids: Tensor) -> Tensor:
        """Return noisy pictures, glyphs and papers of environments (n,): (n, 3, 3, W, W) uint8."""
        grey = [part[env_ids].expand(-1, 3, -1, -1) for part in (self.target, self.canvas)]
        return torch.stack([self.noisy[env_ids], *grey], dim=1)
