"""A trained painter as one small file: the actor's weights, and how they were made and how good they are.

The weights that come with the suite lie in shipped/; scripts/painter/export_painter.py makes such files from runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from agents.painter.agent import ACTOR_CHANNELS, Painter, actor_state
from agents.painter.networks import PictureNetwork, coordinate_maps
from envs.painting.environment import unpack
from renderers.strokes import BRUSHES, STROKE_SIZE
from rlsuite.errors import UserError

FORMAT = "rlsuite painter 1"
SHIPPED = Path(__file__).parent / "shipped" / "painter-32.safetensors"


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
        self.actor = PictureNetwork(
            ACTOR_CHANNELS,
            self.action_size,
            self.size,
            kind=about["network"],
            width=int(about["width"]),
            batch_norm=True,
            squash=torch.sigmoid,
        )
        self.register_buffer("coordinates", coordinate_maps(self.size), persistent=False)
        self.coordinates: Tensor
        self.eval().requires_grad_(False)

    def act(self, observation: Tensor, explore: bool = False) -> Tensor:
        """Return bundles of strokes (N, 13 k) in [0, 1] for observations (N, 6 W W + 1) uint8."""
        return self.actor(actor_state(unpack(observation), self.episode_length, self.coordinates))


def save_painter(painter: Painter, path: Path, *, brush: str, about: dict[str, Any]) -> None:
    """Write a trained painter's actor, and `about` (any JSON) beside what loading needs."""
    needed = {
        "format": FORMAT,
        "size": painter.size,
        "action_size": painter.action_size,
        "episode_length": painter.episode_length,
        "network": painter.config.network,
        "width": painter.config.width,
        "brush": brush,
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in painter.actor.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"about": json.dumps({**about, **needed})})


def load_painter(path: Path | str = SHIPPED) -> PolicyPainter:
    """Read what save_painter wrote.

    Raises:
        UserError: if the file is missing or no painter's.
    """
    try:
        with safe_open(str(path), "pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if not isinstance(about, dict) or about.get("format") != FORMAT or about.get("brush") not in BRUSHES:
            raise ValueError("it holds other weights")
        sizes = [int(about[name]) for name in ("size", "action_size", "episode_length", "width")]
        if min(sizes) < 1 or sizes[1] % STROKE_SIZE:
            raise ValueError(f"sizes {sizes} are no painter's")
        painter = PolicyPainter(about)
        painter.actor.load_state_dict(tensors)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError, UserError) as error:
        text = "it is a folder" if Path(path).is_dir() else " ".join(str(error).split())[:160]
        raise UserError(
            f"weights={path}: no painter can be read from it ({text}); make one with scripts/painter/export_painter.py"
        ) from None
    return painter
