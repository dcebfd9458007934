"""A trained painter as one small file: the actor's weights, and how they were made and how good they are.

The weights that come with the suite lie in shipped/; scripts/painter/export_painter.py makes such files from runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from agents.painter.agent import ACTOR_CHANNELS, Painter, actor_state
from agents.painter.networks import PictureNetwork, coordinate_maps
from envs.painting.environment import unpack
from renderers.strokes import BRUSHES, STROKE_SIZE
from rlsuite.weights_file import read_weights, write_weights

FORMAT = "rlsuite painter 1"
SHIPPED = Path(__file__).parent / "shipped" / "painter-32.safetensors"


FIELDS = {"size": int, "action_size": int, "episode_length": int, "network": str, "width": int, "brush": str}
LARGEST_CANVAS = 1024


def build_actor(about: dict[str, Any]) -> PictureNetwork:
    """Return an untrained actor of the sizes that a file's `about` names."""
    return PictureNetwork(
        ACTOR_CHANNELS,
        about["action_size"],
        about["size"],
        kind=about["network"],
        width=about["width"],
        batch_norm=True,
        squash=torch.sigmoid,
    )


class PolicyPainter(nn.Module):
    """The trained actor alone.

    Args:
        about: "size" W, "action_size" 13 k, "episode_length" T, "network" and "width" of the actor, "brush".

    Attributes:
        strokes: of an episode, k T.
        brush: whose strokes it learned to paint with.
    """

    def __init__(self, about: dict[str, Any]) -> None:
        super().__init__()
        self.about = about
        self.size, self.action_size = int(about["size"]), int(about["action_size"])
        self.episode_length, self.brush = int(about["episode_length"]), str(about["brush"])
        self.strokes = self.action_size // STROKE_SIZE * self.episode_length
        self.actor = build_actor(about)
        self.register_buffer("coordinates", coordinate_maps(self.size), persistent=False)
        self.coordinates: Tensor
        self.eval().requires_grad_(False)

    def act(self, observation: Tensor, explore: bool = False) -> Tensor:
        """Return bundles of strokes (N, 13 k) in [0, 1] for observations (N, 6 W W + 1) uint8."""
        return self.actor(actor_state(unpack(observation), self.episode_length, self.coordinates))


def save_painter(painter: Painter, path: Path, *, brush: str, about: dict[str, Any]) -> None:
    """Write a trained painter's actor, and `about` (any JSON) beside what loading needs."""
    needed = {
        "size": painter.size,
        "action_size": painter.action_size,
        "episode_length": painter.episode_length,
        "network": painter.config.network,
        "width": painter.config.width,
        "brush": brush,
    }
    write_weights(path, painter.actor.state_dict(), {**about, **needed}, format=FORMAT)


def load_painter(path: Path | str = SHIPPED) -> PolicyPainter:
    """Read what save_painter wrote.

    Raises:
        UserError: if the file is missing or no painter's.
    """
    about, tensors = read_weights(
        path,
        format=FORMAT,
        fields=FIELDS,
        expected=_expected,
        refusal=lambda reason: (
            f"weights={path}: no painter can be read from it ({reason}); make one with "
            "scripts/painter/export_painter.py"
        ),
    )
    painter = PolicyPainter(about)
    painter.actor.load_state_dict(tensors)
    return painter


def _expected(about: dict[str, Any]) -> dict[str, Tensor]:
    """Return the state of the actor that a file describes."""
    if about["brush"] not in BRUSHES:
        raise ValueError(f"its brush is {about['brush'][:40]!r}")
    if about["size"] > LARGEST_CANVAS or about["action_size"] % STROKE_SIZE:
        raise ValueError(f"sizes {about['size']}, {about['action_size']} are no painter's")
    return build_actor(about).state_dict()
