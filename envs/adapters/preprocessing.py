"""Gymnasium's wrappers of pictures, as options of an environment: what is usual on Atari and on other pictures.

Their names are such as no environment has for an option of its own: Gymnasium's robots have a frame_skip.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import gymnasium
from gymnasium import wrappers

from rlsuite.errors import UserError, first_line, require


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """Options beside the environment's own, env.<option>=<value>; each is a wrapper of `gymnasium.wrappers`.

    Attributes:
        atari: AtariPreprocessing (Mnih et al. 2015; Machado et al. 2018): up to 30 random no-ops at the start, frames
            skipped and the last two's maximum taken, 84 by 84 grey; needs an environment made with frameskip=1.
        action_repeat: steps for which an action is kept, the frame skip: MaxAndSkipObservation, which observes the last
            two's maximum, or with atari its own (4 unless it is said). 1 for none.
        grey: GrayscaleObservation.
        picture_side: ResizeObservation to this many pixels a side; 0 for not.
        frame_stack: FrameStackObservation: the newest so many observations are one; the first of an episode repeats.
    """

    atari: bool = False
    action_repeat: int = 1
    grey: bool = False
    picture_side: int = 0
    frame_stack: int = 1

    def __post_init__(self) -> None:
        for name, kind in (("atari", bool), ("grey", bool)):
            require(isinstance(getattr(self, name), kind), f"env.{name}={getattr(self, name)}: use true or false")
        for name, low in (("action_repeat", 1), ("picture_side", 0), ("frame_stack", 1)):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            require(whole and low <= value <= 4096, f"env.{name}={value}: use a whole number from {low} to 4096")
        require(
            not self.atari or not (self.grey or self.picture_side),
            "env.atari=true makes grey pictures of 84 by 84; leave out env.grey and env.picture_side",
        )

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> PictureOptions:
        """Return what is said among an environment's options, and take it out of them.

        Raises:
            UserError: for a value that is none.
        """
        names = [entry.name for entry in dataclasses.fields(cls) if entry.name in options]
        return cls(**{name: options.pop(name) for name in names})

    def wrap(self, env: gymnasium.Env, env_id: str) -> gymnasium.Env:
        """Return the environment in the wrappers that are asked for.

        Raises:
            UserError: where one does not fit, such as grey of what is no picture in colours.
        """
        try:
            if self.atari:
                skip = 4 if self.action_repeat == 1 else self.action_repeat
                env = wrappers.AtariPreprocessing(env, frame_skip=skip)
            elif self.action_repeat > 1:
                env = wrappers.MaxAndSkipObservation(env, skip=self.action_repeat)
            if self.grey:
                env = wrappers.GrayscaleObservation(env)
            if self.picture_side:
                env = wrappers.ResizeObservation(env, (self.picture_side, self.picture_side))
            if self.frame_stack > 1:
                env = wrappers.FrameStackObservation(env, self.frame_stack)
        except Exception as error:  # a wrapper's assertion, a package that is missing
            asked = ", ".join(
                f"env.{entry.name}={getattr(self, entry.name)}"
                for entry in dataclasses.fields(self)
                if getattr(self, entry.name) != entry.default
            )
            raise UserError(f"{env_id} cannot be observed so ({asked}): {first_line(error)}") from None
        return env
