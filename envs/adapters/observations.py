"""What an environment of another library observes, as the suite sees it: a vector, or a picture with channels first.

Dict, Tuple and Discrete observations become vectors as `gymnasium.spaces.flatten` makes them, with a name a column.

Shapes: D vector, C channels, H and W sides of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.adapters.values import described, observation_of, plain_observations
from rlsuite.errors import UserError


@dataclass(frozen=True)
class ObservationForm:
    """How one observation is read.

    Attributes:
        space: what the environment declares.
        shape: (D,), or (C, H, W) of pictures.
        kind: "vector", "picture", or "flattened".
        stacked: whether the environment's first axis is frames of the same picture, oldest first.
        names: of a flattened observation's columns, as in "arm.angle[2]"; otherwise empty.
    """

    space: gymnasium.Space
    shape: tuple[int, ...]
    kind: str
    stacked: bool = False
    names: tuple[str, ...] = field(default=())

    @property
    def is_picture(self) -> bool:
        """Whether observations are bytes (C, H, W)."""
        return self.kind == "picture"

    def read(self, value: Any) -> np.ndarray:
        """Return an observation as an array of `shape`, bytes of pictures.

        Raises:
            ValueError: if it is not what the space declares.
        """
        if self.kind == "vector":
            return observation_of(value, self.shape[0])
        if self.kind == "picture":
            return self._picture(value)
        try:
            known = not isinstance(self.space, spaces.Discrete) or self.space.contains(value)
            flat: Any = spaces.flatten(self.space, value) if known else None
        except Exception:  # a key is missing, a part has another shape
            flat = None
        if not isinstance(flat, np.ndarray) or flat.shape != self.shape or flat.dtype.kind not in "fiub":
            raise ValueError(f"its observation is {described(value)}; its observation space says {self.space}")
        return flat

    def read_all(self, values: Sequence[Any]) -> np.ndarray | None:
        """Return N observations as one array (N, *shape) at the price of one; None where each has to be read."""
        return plain_observations(values, self.shape[0]) if self.kind == "vector" else None

    def _picture(self, value: Any) -> np.ndarray:
        array = np.asarray(value)
        if array.shape != self.space.shape or array.dtype != self.space.dtype:
            raise ValueError(f"its observation is {described(value)}; its observation space says {self.space}")
        picture = _channels_first(array[None] if array.ndim == 2 else array, self.stacked)
        return picture.astype(np.uint8) * 255 if picture.dtype == bool else picture


def observation_form(env_id: str, space: Any, *, stacked: bool = False) -> ObservationForm:
    """Return how observations of a space are read.

    Args:
        env_id: for messages.
        space: of one environment.
        stacked: see ObservationForm; of pictures only.

    Raises:
        UserError: if it is a space the suite cannot use.
    """
    if isinstance(space, spaces.Box) and (space.dtype == np.uint8 or space.dtype == bool) and len(space.shape) >= 2:
        if len(space.shape) > 3 + stacked or 0 in space.shape:
            raise UserError(
                f"{env_id}: its observation space is {space}; pictures are (height, width) or (height, width, channels)"
            )
        example = np.zeros((1, *space.shape) if len(space.shape) == 2 else space.shape, dtype=bool)
        return ObservationForm(space, _channels_first(example, stacked).shape, "picture", stacked)
    if stacked and isinstance(space, spaces.Box):
        return ObservationForm(space, (int(np.prod(space.shape)),), "flattened", names=tuple(_names(space, "")))
    if isinstance(space, spaces.Box) and len(space.shape) == 1 and space.shape[0]:
        return ObservationForm(space, space.shape, "vector")
    flat = _flat_size(space)
    if not flat:
        raise UserError(
            f"{env_id}: its observation space is {space}; use vectors of numbers, pictures of bytes, or a Dict of "
            "vectors (gymnasium.wrappers.FilterObservation leaves parts out)"
        )
    return ObservationForm(space, (flat,), "flattened", names=tuple(_names(space, "")))


def _channels_first(picture: np.ndarray, stacked: bool) -> np.ndarray:
    """Return (C, H, W) of (H, W, C), (C, H, W), or frames of such: the shorter of first and last are the channels."""
    if stacked and picture.ndim == 3:  # frames (k, H, W)
        return picture
    if picture.shape[-1] < picture.shape[-3]:
        picture = np.moveaxis(picture, -1, -3)
    return np.ascontiguousarray(picture.reshape(-1, *picture.shape[-2:]))


def _flat_size(space: Any) -> int:
    """Return D of a space that becomes a vector; 0 where it cannot, or would be a picture's thousands of numbers."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = list(space.values()) if isinstance(space, spaces.Dict) else list(space)
        sizes = [_flat_size(part) for part in parts]
        return sum(sizes) if sizes and all(sizes) else 0
    if isinstance(space, spaces.Box):
        return 0 if space.dtype == np.uint8 and len(space.shape) >= 2 else int(np.prod(space.shape))
    choices = isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary)
    return int(spaces.flatdim(space)) if choices else 0


def _names(space: Any, prefix: str) -> list[str]:
    """Return a name for each column of what `gymnasium.spaces.flatten` makes of a space."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.items() if isinstance(space, spaces.Dict) else enumerate(space)
        return [name for key, part in parts for name in _names(part, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(space, spaces.Box | spaces.MultiBinary) and len(space.shape) != 1:
        return [f"{prefix}{list(place)}" if place else prefix for place in np.ndindex(*space.shape)]
    return [f"{prefix}[{place}]" for place in range(spaces.flatdim(space))]
