"""Is what a policy signs readable? Its episodes are watched by a recognizer, and compared with the words asked for.

    env -> pictures -> GestureScore: words are drawn when an episode begins, and told in info; when it ends, the
    recognizer reads the pictures, and info has the word error rate (WER)

The reward of an episode's last step can be raised by weight * (1 - min(1, WER)).

Shapes: N environments, L the most words of a command, T frames kept of an episode, S side of a picture.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.perception.gestures.stmc import STMC
from envs.random import EnvironmentRandom
from envs.wrapper import VectorWrapper
from rlsuite.errors import require, require_finite
from rlsuite.metrics.text import word_error_rate
from rlsuite.running.seeding import derive_seed

_CHANNELS = 3


class GestureScore(VectorWrapper):
    """Environments whose observations are pictures (C, S, S) uint8, the newest frame's three channels last.

    `info` has "gesture/words" (N, L) int64, the words asked for in the episode that goes on, as classes from 1 on with
    zeros after the last; at reset, too. And where an episode ends, "gesture/word_error_rate" (N,), NaN elsewhere, and
    "gesture/read" (N, T // 4) int64, classes as they were read, zeros after the last.

    Args:
        env: its episodes are what is read; for simulated tasks, `envs.make_vector(..., camera=)`.
        recognizer: in evaluation mode, for pictures of that size.
        least: words of a command.
        most: L.
        frames: T; what an episode shows after so many is not looked at.
        weight: of the reward at an episode's end; 0 leaves rewards alone.

    Raises:
        UserError: if the observations are no such pictures.
    """

    def __init__(
        self, env: Any, recognizer: STMC, *, least: int = 2, most: int = 4, frames: int = 64, weight: float = 0.0
    ) -> None:
        super().__init__(env)
        space = env.single_observation_space
        pictures = len(space.shape) == 3 and space.shape[0] % _CHANNELS == 0 and space.dtype == np.uint8
        require(pictures, f"gestures are read from pictures, not from {space}; give the task camera.size=")
        require(1 <= least <= most, f"least={least}, most={most}: use 1 or more, most the larger")
        require(frames >= 2**recognizer.config.blocks, f"frames={frames}: use {2**recognizer.config.blocks} or more")
        require_finite("weight", weight, low=0.0)
        self.recognizer, self.least, self.most, self.weight = recognizer, least, most, weight
        count = env.num_envs
        self._random = EnvironmentRandom(count, derive_seed(env.seed, "commands"))
        self._words = torch.zeros(count, most, dtype=torch.int64)
        self._video = torch.zeros(count, frames, _CHANNELS, *space.shape[1:], dtype=torch.uint8)
        self._length = torch.zeros(count, dtype=torch.int64)

    # -- commands -----------------------------------------------------------------------------------------------

    @property
    def words(self) -> Tensor:
        """What is asked for now (N, L), as `info["gesture/words"]`."""
        return self._words.clone()

    def commanded(self, rows: Tensor) -> list[list[str]]:
        """Return the words asked for in environments `rows` (n,)."""
        return [self._spelled(row) for row in self._words[rows]]

    def _begin(self, rows: Tensor) -> None:
        """Ask for new words in environments `rows` (n,)."""
        draws = self._random.uniform(rows, self.most + 1)
        count = self.least + (draws[:, :1] * (self.most - self.least + 1)).long()
        words = 1 + (draws[:, 1:] * len(self.recognizer.vocabulary)).long()
        self._words[rows] = torch.where(torch.arange(self.most) < count, words, 0)
        self._length[rows] = 0

    def _spelled(self, classes: Tensor) -> list[str]:
        return [self.recognizer.vocabulary[label - 1] for label in classes.tolist() if label]

    # -- episodes -----------------------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Begin a new episode in every environment; see `VectorEnv.reset`."""
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._random.first = self.env.first
            self._random.reseed(derive_seed(seed, "commands"))
        everyone = torch.arange(self.num_envs)
        self._begin(everyone)
        self._watch(everyone, observation)
        return observation, {**info, "gesture/words": self.words}

    def step(self, actions: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every environment once; see `VectorEnv.step`."""
        observation, reward, terminated, truncated, info = self.env.step(actions)
        self._watch(torch.arange(self.num_envs), info["final_obs"])
        ended = (terminated | truncated).cpu().nonzero().flatten()
        rates = torch.full((self.num_envs,), float("nan"), dtype=reward.dtype, device=reward.device)
        read = torch.zeros(self.num_envs, self._video.shape[1] >> self.recognizer.config.blocks, dtype=torch.int64)
        if len(ended):
            found = self._read(ended)
            for row, words in zip(ended.tolist(), found, strict=True):
                rates[row] = word_error_rate([self._spelled(self._words[row])], [words])
                classes = [self.recognizer.vocabulary.index(word) + 1 for word in words]
                read[row, : len(classes)] = torch.tensor(classes)
            if self.weight:
                reward = reward + self.weight * torch.nan_to_num(1.0 - rates.clamp(max=1.0), nan=0.0)
            self._begin(ended)
            self._watch(ended, observation[ended.to(observation.device)])
        told = {"gesture/words": self.words, "gesture/word_error_rate": rates, "gesture/read": read}
        return observation, reward, terminated, truncated, {**info, **told}

    def _watch(self, rows: Tensor, pictures: Tensor) -> None:
        """Keep the newest frame of environments `rows` (n,), those of pictures (n, C, S, S), while there is room."""
        fits = self._length[rows] < self._video.shape[1]
        rows, newest = rows[fits], pictures.cpu()[fits, -_CHANNELS:]
        self._video[rows, self._length[rows]] = newest
        self._length[rows] += 1

    def _read(self, rows: Tensor) -> list[list[str]]:
        """Return the words read from the episodes of environments `rows` (n,); none from one shorter than a step."""
        device = next(self.recognizer.parameters()).device
        lengths = self._length[rows]
        return self.recognizer.decode(self._video[rows, : int(lengths.max())].to(device), lengths.to(device))

    # -- state --------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that stepping depends on, but for the recognizer."""
        own = {
            "words": self._words.clone(),
            "video": self._video.clone(),
            "length": self._length.clone(),
            **{f"random.{name}": value for name, value in self._random.state().items()},
        }
        return {**self.env.state(), **{f"{self._prefix}{name}": tensor for name, tensor in own.items()}}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            ValueError: If it is not of environments scored so, or of others.
        """
        prefix = self._prefix
        own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        if "video" not in own or own["video"].shape != self._video.shape or own["words"].shape != self._words.shape:
            raise ValueError(f"the state is not of environments seen through a {type(self).__name__} like this one")
        self.env.load_state({name: tensor for name, tensor in state.items() if not name.startswith(prefix)})
        self._random.load_state({name: own[f"random.{name}"] for name in ("seed", "counters")})
        self._words, self._video = own["words"].clone(), own["video"].clone()
        self._length = own["length"].clone()

    @property
    def _prefix(self) -> str:
        return f"{type(self).__name__}{self.depth}/"
