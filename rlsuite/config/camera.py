"""What an agent sees in place of its task's own observations: numbers of the cameras and of what is made of frames."""

from __future__ import annotations

from dataclasses import dataclass

from rlsuite.errors import require


@dataclass(frozen=True, kw_only=True)
class CameraConfig:
    """Pictures for an agent; size=0 leaves it the task's own observations.

    Attributes:
        size: pixels a side of what an agent sees; 0 for no pictures.
        view: one of the model's cameras by name; "" for the task's own.
        every: steps of the environments between two camera frames; between them the last one is shown again.
        samples: rays a side of each pixel, averaged: 3 takes most of the flicker off checkered floors, at nine times
            the cost.
        sees: what the agent sees: rgb, depth, ids, normals, flow, or what perception= makes of them; as bytes.
        stack: pictures seen together, of as many steps, the newest last.
    """

    size: int = 0
    view: str = ""
    every: int = 1
    samples: int = 1
    sees: tuple[str, ...] = ("rgb",)
    stack: int = 3

    def __post_init__(self) -> None:
        require(
            self.size == 0 or 8 <= self.size <= 4096,
            f"camera.size={self.size}: use 0 (no pictures), or 8 to 4096",
        )
        for name in ("every", "samples", "stack"):
            require(getattr(self, name) >= 1, f"camera.{name}={getattr(self, name)}: use 1 or more")
        require(bool(self.sees), "camera.sees=[]: name what the agent sees, such as [rgb]")
        require(len(set(self.sees)) == len(self.sees), f"camera.sees={list(self.sees)}: name each field once")
