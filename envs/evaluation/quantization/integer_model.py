"""An integer network between its doors: from what an environment shows to whole numbers, and back to its actions.

    observation --StateDoor or PictureDoor--> int8 --IntegerNetwork--> whole numbers --OutputDoor--> action

Doors compute with floats; nothing between them does. What a door does is a few multiplications by element, which the
ONNX file's "about" says in words and numbers for whoever runs the file elsewhere.

Shapes: B batch, D observation, A action, C x H x W pictures.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.integer import IntegerNetwork, Lookup
from envs.evaluation.quantization.integer_graph import SQUASHED
from envs.evaluation.quantization.integer_onnx import write_onnx
from rlsuite.errors import UserError, require
from rlsuite.nn.action_range import ActionRange
from rlsuite.nn.normalizer import RunningNormalizer
from rlsuite.nn.plain import PlainPolicy

STATE_RATIO = 31.75  # 127 stands for four standard deviations
PICTURE_RATIO, MIDDLE = 255.0, 128
TABLE_BITS, TABLE_LEVELS = 12, 2**15 - 1
TABLE_REACH = {"tanh": 6.0, "sigmoid": 12.0}  # what the table's ends stand for, or nearly


class Door(nn.Module):
    """What brings observations to whole numbers, or whole numbers to actions."""

    def about(self) -> dict[str, Any]:
        """Return what it does, for a file."""
        raise NotImplementedError


class StateDoor(Door):
    """Standardized observations as whole numbers: clip(round(31.75 (o - mean) / deviation), -128, 127)."""

    ratio, shift = STATE_RATIO, 0

    def __init__(self, normalizer: RunningNormalizer) -> None:
        super().__init__()
        self.normalizer = copy.deepcopy(normalizer)

    def forward(self, observation: Tensor) -> Tensor:
        """Map (B, D) to int8."""
        return (self.normalizer(observation) * self.ratio).round().clamp(-128, 127).to(torch.int8)

    def about(self) -> dict[str, Any]:
        """Return what it does, for a file."""
        center, scale = self.normalizer.center.flatten(), self.normalizer.scale.flatten()
        return {
            "observation": "clip(round(ratio * clip((o - center) * scale, -clip, clip)), -128, 127)",
            "ratio": self.ratio,
            "clip": self.normalizer.config.clip,
            "center": center.tolist(),
            "scale": scale.tolist(),
        }


class PictureDoor(Door):
    """Pictures as bytes less 128: real black is -128, which is what pads them."""

    ratio, shift = PICTURE_RATIO, MIDDLE

    def forward(self, pictures: Tensor) -> Tensor:
        """Map (B, C, H, W), uint8 or floats in [0, 1], to int8."""
        if pictures.dtype != torch.uint8:
            pictures = (pictures * self.ratio).round().clamp(0, 255)
        return (pictures.to(torch.int16) - self.shift).to(torch.int8)

    def about(self) -> dict[str, Any]:
        """Return what it does, for a file."""
        return {"observation": "byte - 128, of pixels from 0 to 255"}


class OutputDoor(Door):
    """The network's whole numbers as what the network is for: table entries, or sums times a scale.

    Attributes:
        scale: (outputs,) float64, what one unit stands for.
        offset: (outputs,) float64, added to it.

    Args:
        outputs: how many.
        action_range: of an environment, whose units are given; None for numbers as they are.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, outputs: int, action_range: ActionRange | None) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(outputs, dtype=torch.float64))
        self.register_buffer("offset", torch.zeros(outputs, dtype=torch.float64))
        self.action_range = copy.deepcopy(action_range)

    def forward(self, numbers: Tensor) -> Tensor:
        """Map whole numbers (B, A) to floats (B, A), in float64 and rounded once."""
        values = numbers.double() * self.scale + self.offset
        if self.action_range is not None:
            values = values.clamp(-1.0, 1.0) * self.action_range.half_range.double()
            values = values + self.action_range.center.double()
        return values.float()

    def about(self) -> dict[str, Any]:
        """Return what it does, for a file."""
        said: dict[str, Any] = {"action": "number * scale_of_numbers + offset"}
        if self.action_range is not None:
            said["action"] = "clip(number * scale_of_numbers + offset, -1, 1) * half_range + center_of_actions"
            said["half_range"] = self.action_range.half_range.tolist()
            said["center_of_actions"] = self.action_range.center.tolist()
        return said | {"scale_of_numbers": self.scale.tolist(), "offset": self.offset.tolist()}


class IntegerModel(nn.Module):
    """Doors around an integer network."""

    def __init__(self, enter: Door, network: IntegerNetwork, leave: OutputDoor) -> None:
        super().__init__()
        self.enter, self.network, self.leave = enter, network, leave

    def forward(self, observation: Tensor) -> Tensor:
        """Map what the network it comes from maps."""
        return self.leave(self.network(self.enter(observation)))

    def write_onnx(self, path: Path) -> None:
        """Write what lies between the doors, and what they do as JSON.

        Raises:
            UserError: if it cannot be written, or onnx is not installed.
        """
        write_onnx(self.network, path, {**self.enter.about(), **self.leave.about()})


class Deployable(nn.Module):
    """A network that learns, and the integer model that it becomes.

    Args:
        learning: the network.
        deployed: the model, its numbers of no meaning until learning is over.
    """

    def __init__(self, learning: nn.Module, deployed: IntegerModel) -> None:
        super().__init__()
        self.learning, self.deployed = learning, deployed

    def forward(self, observation: Tensor) -> Tensor:
        """Map as the network that learns."""
        return self.learning(observation)


def core_of(module: nn.Module) -> nn.Module:
    """Return the part of a network that becomes whole numbers: a policy's layers, or all of it."""
    return module.layers if isinstance(module, PlainPolicy) else module


def squash_of(module: nn.Module) -> str:
    """Return "tanh" or "sigmoid" where a policy's layers are followed by it, else "": a core may end with its own."""
    return SQUASHED.get(type(module.squash), "") if isinstance(module, PlainPolicy) else ""


def shape_of(plan: Any) -> tuple[int, ...]:
    """Return the shape of one example from a plan that a file may hold.

    Raises:
        UserError: if it says none.
    """
    shape = plan.get("shape") if isinstance(plan, dict) else None
    if not (isinstance(shape, list) and shape and all(type(size) is int and size > 0 for size in shape)):
        raise UserError("its plan is damaged: the shape of its input is not said")
    return tuple(shape)


def doors_of(module: nn.Module, outputs: int) -> tuple[StateDoor | PictureDoor, OutputDoor]:
    """Return the doors of a network.

    Raises:
        UserError: for a policy whose observations are not standardized: their size is not known.
    """
    if not isinstance(module, PlainPolicy):
        return PictureDoor(), OutputDoor(outputs, None)
    normalizer = module.normalizer
    require(
        isinstance(normalizer, RunningNormalizer),
        "observations are not standardized, so their size is not known; train with agent.normalize_observations=true",
    )
    assert isinstance(normalizer, RunningNormalizer)
    return StateDoor(normalizer), OutputDoor(outputs, module.action_range)


def require_pictures(module: nn.Module, inputs: Tensor) -> None:
    """Raise UserError where a network's door for pictures would clip what comes in (B, ...)."""
    if isinstance(module, PlainPolicy) or not inputs.is_floating_point() or not inputs.numel():
        return
    low, high = (float(end) for end in inputs.aminmax())
    require(
        low >= 0.0 and high <= 1.0,
        f"inputs lie in [{low:.3g}, {high:.3g}]: give bytes or floats in [0, 1], and normalize in the first layer",
    )


@torch.no_grad()
def fill_table(step: Lookup, door: OutputDoor, squash: str, unit: float) -> None:
    """Give a lookup the values of tanh or sigmoid, and its door their scale.

    Args:
        step: of 2^TABLE_BITS entries; entry 2^(TABLE_BITS - 1) is that of 0.
        door: behind it.
        squash: "tanh" or "sigmoid".
        unit: what one place of the table is of the squash's input.
    """
    entries = len(step.table)
    places = (torch.arange(entries, dtype=torch.float64) - entries // 2) * unit
    values = places.tanh() if squash == "tanh" else places.sigmoid()
    step.table.copy_((values * TABLE_LEVELS).round().to(torch.int16))
    door.scale.fill_(1.0 / TABLE_LEVELS)
