"""Left-right symmetry: which columns of observations and actions change places when a body is seen in a mirror."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rlsuite.errors import require


@dataclass(frozen=True)
class Mirror:
    """A symmetry that only swaps columns; mirroring twice gives what there was.

    Attributes:
        observation: Of the mirrored observation's D columns, which column of the observation each is.
        action: The same of the A columns of actions.
    """

    observation: tuple[int, ...]
    action: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("observation", "action"):
            places = getattr(self, name)
            involution = all(0 <= place < len(places) and places[place] == index for index, place in enumerate(places))
            require(involution, f"the mirror of {name}s is not its own inverse: {places}")

    def observations(self, observation: Tensor) -> Tensor:
        """Return mirrored observations (..., D)."""
        return observation[..., list(self.observation)]

    def actions(self, action: Tensor) -> Tensor:
        """Return mirrored actions (..., A)."""
        return action[..., list(self.action)]
