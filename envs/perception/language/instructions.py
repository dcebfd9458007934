"""Goal environments that are told in words what to do.

    env = InstructionGoalWrapper(envs.make_vector("FetchReach", 8, flat=True), translator, InstructionConfig(...))
    observation, info = env.reset(seed=0, options={"instruction": "schiebe den roten würfel nach links"})

The sentence is translated, read by `goal_parser.py`, and becomes the desired goal, in the observation and for the
reward. An instruction holds until it is replaced: in the next episode the same words aim at where things are then.
Where one is not understood, the environment keeps the goal that it drew, and info says so: ask again, with `instruct`.

Shapes: N environments, F a flat observation, K things.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from envs.perception.language.goal_parser import Aims, aims, parse
from envs.perception.language.scene import bodies_of, landmark, landmark_places
from envs.wrapper import VectorWrapper
from rlsuite.errors import require


class Translates(Protocol):
    """What turns sentences into canonical English; `translator.Translator` does."""

    def translate(self, sentences: Sequence[str]) -> list[str]:
        """Return one translation each."""
        ...


@dataclass(frozen=True, kw_only=True)
class InstructionConfig:
    """What is spoken of beside the things of the simulation.

    Attributes:
        landmarks: names of places, such as "red cube"; they lie anew in each episode.
        spread: metres along x, y and z that they lie away from what is achieved as an episode begins, at most.
        seed: of where they lie.
    """

    landmarks: tuple[str, ...] = ()
    spread: tuple[float, float, float] = (0.1, 0.1, 0.1)
    seed: int = 0

    def __post_init__(self) -> None:
        things = [landmark(name) for name in self.landmarks]
        require(len(set(things)) == len(things), f"landmarks={list(self.landmarks)}: name each one once")
        require(
            len(self.spread) == 3 and min(self.spread) >= 0.0,
            f"spread={list(self.spread)}: use three lengths of 0 or more",
        )


class InstructionGoalWrapper(VectorWrapper):
    """A goal environment whose goals are points, told what to do in words.

    Args:
        env: flat environments of such a task; they are stepped through this view from now on.
        translator: of the sentences; None where they are canonical English.
        config: see InstructionConfig.

    Attributes:
        things: K, what may be spoken of: those of the model first, then the landmarks.

    Raises:
        UserError: if the task has no goals, or goals that are no points.
    """

    def __init__(self, env: Any, translator: Translates | None, config: InstructionConfig) -> None:
        super().__init__(env)
        goals = env.goals
        size = goals.goal_size if goals is not None else 0
        require(
            size == 3,
            f"instructions name points, and {env.task.name} has goals of {size} numbers; use FetchReach, FetchPush, "
            "FetchSlide or FetchPickAndPlace",
        )
        self.translator, self.config = translator, config
        bodies = bodies_of(env.simulation.model)
        landmarks = [thing for thing in map(landmark, config.landmarks) if thing not in bodies]
        self.things = (*bodies, *landmarks)
        require(bool(self.things), f"{env.task.name} has no things to speak of; name some with landmarks=")
        self._bodies = torch.tensor(list(bodies.values()), dtype=torch.int64)
        self._landmarks = torch.zeros(env.num_envs, len(landmarks), 3, dtype=torch.float64)
        self._begun = torch.zeros(env.num_envs, dtype=torch.int64)
        self._aims = aims([None] * env.num_envs, self.things)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Begin a new episode in every environment.

        Args:
            seed: as `VectorEnv.reset`; with one, landmarks begin anew, too.
            options: "instruction": a sentence for all environments or one for each; without it the last ones hold.

        Returns:
            The observation, and info; with an instruction see `instruct` for what is added.
        """
        rest = {name: value for name, value in (options or {}).items() if name != "instruction"}
        observation, info = self.env.reset(seed=seed, options=rest or None)
        if seed is not None:
            self._begun.zero_()
        everyone = torch.ones(self.num_envs, dtype=torch.bool)
        self._lay_out(everyone, observation)
        if options and "instruction" in options:
            return self.instruct(options["instruction"], info)
        return self._ask(everyone, observation), info

    def instruct(
        self, sentences: str | Sequence[str], info: dict[str, Any] | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Ask for something else, now.

        Args:
            sentences: one for all environments, or one for each.
            info: what to add to.

        Returns:
            The observation (N, F), and info with "instruction/translation" (strings), "instruction/meaning" (what was
            read, None where nothing was) and "instruction/parsed" (N,) bool: whether a goal was made of it.

        Raises:
            UserError: if there are not as many sentences as environments.
        """
        said = [sentences] * self.num_envs if isinstance(sentences, str) else list(sentences)
        require(len(said) == self.num_envs, f"{len(said)} instructions: give one, or {self.num_envs}, for each its own")
        translated = said if self.translator is None else self._translated(said)
        meanings = [parse(sentence) for sentence in translated]
        self._aims = aims(meanings, self.things)
        observation = self._ask(torch.ones(self.num_envs, dtype=torch.bool), self.env.observation())
        added = {
            "instruction/translation": translated,
            "instruction/meaning": meanings,
            "instruction/parsed": self._aims.understood.clone(),
        }
        return observation, {**(info or {}), **added}

    def step(self, actions: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every environment once; see `VectorEnv.step`. Episodes that begin are asked for the same in words."""
        observation, reward, terminated, truncated, info = self.env.step(actions)
        ended = (terminated | truncated).cpu()
        if ended.any():
            self._lay_out(ended, observation)
            observation = self._ask(ended, observation)
        return observation, reward, terminated, truncated, info

    def places(self) -> Tensor:
        """Return where the things are now, (N, K, 3) float64."""
        bodies = self.env.simulation.field("xpos")[:, self._bodies].cpu().double()
        return torch.cat([bodies, self._landmarks], dim=1)

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that stepping depends on."""
        return {**self.env.state(), **{f"{self._prefix}{name}": value.clone() for name, value in self._own().items()}}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            ValueError: if it was of environments that were told nothing.
        """
        if f"{self._prefix}begun" not in state:
            raise ValueError(f"the state is not of environments seen through a {type(self).__name__}")
        self.env.load_state({name: value for name, value in state.items() if not name.startswith(self._prefix)})
        own = {name: state[f"{self._prefix}{name}"].clone() for name in self._own()}
        self._begun, self._landmarks = own["begun"], own["landmarks"]
        self._aims = Aims(own["thing"], own["offset"], own["understood"])

    def _own(self) -> dict[str, Tensor]:
        return {"begun": self._begun, "landmarks": self._landmarks, **self._aims._asdict()}

    @property
    def _prefix(self) -> str:
        return f"{type(self).__name__}{self.depth}/"

    def _translated(self, said: list[str]) -> list[str]:
        """Translate each sentence once, however many environments it is for."""
        assert self.translator is not None
        distinct = list(dict.fromkeys(said))
        known = dict(zip(distinct, self.translator.translate(distinct), strict=True))
        return [known[sentence] for sentence in said]

    def _lay_out(self, rows: Tensor, observation: Tensor) -> None:
        """Lay landmarks of environments (N,) bool, whose episodes begin so, around what is achieved."""
        count = self._landmarks.shape[1]
        middle = self.env.goals.achieved(observation).cpu().double().unsqueeze(1)
        drawn = middle + landmark_places(self.config.seed, self._begun, count, self.config.spread)
        self._landmarks = torch.where(rows.view(-1, 1, 1), drawn, self._landmarks)
        self._begun = self._begun + rows

    def _ask(self, rows: Tensor, observation: Tensor) -> Tensor:
        """Make goals of what was understood for environments (N,) bool; return observations (N, F) that ask so."""
        rows = rows & self._aims.understood
        if not rows.any():
            return observation
        state, goals = self.env.state(), self.env.goals
        asked = torch.where(rows.unsqueeze(1), self._aims.points(self.places()), state["memory.goal"].cpu().double())
        state["memory.goal"] = asked.to(state["memory.goal"])
        state["observation"] = goals.with_goal(state["observation"], asked.to(state["observation"]))
        self.env.load_state(state)
        return self.env.observation()
