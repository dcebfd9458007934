"""What cameras give and perceivers take and return, by name: shape, kind of numbers, range, and how it becomes bytes.

Shapes: B batch, C channels of the field, H and W sides; rows run down, columns right.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Field:
    """A kind of picture (B, C, H, W).

    Attributes:
        name: as `sees`, `inputs` and `outputs` say it.
        channels: C.
        dtype: of its numbers.
        low: the number that byte 0 stands for.
        high: the number that byte 255 stands for; what lies beyond is cut off, in bytes alone.
        meaning: of the numbers, with their unit.
        drawn: whether cameras give it; others are made by perceivers.
    """

    name: str
    channels: int
    dtype: torch.dtype
    low: float
    high: float
    meaning: str
    drawn: bool = True

    def to_bytes(self, values: Tensor) -> Tensor:
        """Return values (B, C, H, W) as bytes, as an agent sees them; a round trip loses at most half a step."""
        scaled = (values.float() - self.low) * (255.0 / (self.high - self.low))
        return scaled.round_().clamp_(0.0, 255.0).to(torch.uint8)

    def from_bytes(self, values: Tensor) -> Tensor:
        """Return bytes (B, C, H, W) as the field's numbers."""
        numbers = values.float() * ((self.high - self.low) / 255.0) + self.low
        return numbers.to(self.dtype) if self.dtype.is_floating_point else numbers.round_().to(self.dtype)

    def check(self, values: Tensor, batch: int, size: tuple[int, int]) -> None:
        """Raise ValueError unless values are (batch, C, *size), of the field's dtype."""
        shape = (batch, self.channels, *size)
        if tuple(values.shape) != shape or values.dtype != self.dtype:
            raise ValueError(f"{self.name} is {values.dtype} {tuple(values.shape)}, not {self.dtype} {shape}")


FIELDS = {
    field.name: field
    for field in (
        Field("rgb", 3, torch.float32, 0.0, 1.0, "red, green, blue as a screen takes them"),
        Field(
            "depth", 1, torch.float32, 0.0, 10.0, "metres along the line of sight's forward axis; 0 where nothing is"
        ),
        Field("ids", 1, torch.int64, -1.0, 254.0, "which geometry of the model; -1 where nothing is"),
        Field("normals", 3, torch.float32, -1.0, 1.0, "the surface's unit normal: right, up, toward the camera; or 0"),
        Field("flashes", 48, torch.float32, 0.0, 1.0, "linear red, green, blue under each of 16 lights (envs.flashes)"),
        Field("flow", 2, torch.float32, -16.0, 16.0, "pixels, right and down, to where it was one camera frame before"),
        Field("hole", 1, torch.float32, 0.0, 1.0, "1 where the camera lost what it should show, else 0", drawn=False),
        Field("tracks", 1, torch.int64, -1.0, 254.0, "which object, by a number it keeps; -1 for none", drawn=False),
        Field("target", 1, torch.float32, 0.0, 1.0, "1 inside the box of the object that is followed", drawn=False),
        Field("objects", 1, torch.float32, 0.0, 1.0, "how surely an object's middle is here", drawn=False),
    )
}
