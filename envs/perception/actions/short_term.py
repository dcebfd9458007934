"""Short-term relation: an actor attends to all places and times of its own clip (LSTR, section 3, as recalled).

Shapes: B clips, N actors, T' times of the map, h and w its sides, D its channels, d an actor's features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

PLACES = 32  # numbers that say where a cell lies
_WAVES = (1.0, 2.0, 4.0, 8.0, 16.0)


class ShortTerm(nn.Module):
    """h' = h + W_o sum_j softmax_j(v . tanh(W_h h + W_f f_j + W_g g_j)) W_v f_j: additive attention.

    g_j is where a cell lies as seen from the actor's box at that time, in the box's sides, and when, in the clip's
    length. W_o begins at 0, so that learning starts from the plain detector (our choice).

    Args:
        features: d.
        channels: D.
        width: of the hidden layer.
    """

    def __init__(self, features: int, channels: int, width: int) -> None:
        super().__init__()
        self.actor = nn.Linear(features, width)
        self.cell = nn.Linear(channels, width, bias=False)
        self.place = nn.Linear(PLACES, width, bias=False)
        self.score = nn.Linear(width, 1, bias=False)
        self.value = nn.Linear(channels, width, bias=False)
        self.output = nn.Linear(width, features)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, actors: Tensor, maps: Tensor, boxes: Tensor) -> Tensor:
        """Return actors (B, N, d) with what they need of their clip.

        Args:
            actors: (B, N, d).
            maps: (B, D, T', h, w).
            boxes: (B, N, T', 4) of the actors at the maps' times, in cells of the map.
        """
        cells = maps.flatten(2).transpose(1, 2)  # (B, T' h w, D)
        places = relative_places(boxes, (maps.shape[3], maps.shape[4])).flatten(2, 4)  # (B, N, T' h w, PLACES)
        hidden = self.actor(actors).unsqueeze(2) + self.cell(cells).unsqueeze(1) + self.place(places)
        weights = self.score(torch.tanh(hidden)).squeeze(3).softmax(dim=2)
        return actors + self.output(weights @ self.value(cells))


def relative_places(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return where cells lie as seen from boxes (B, N, T', 4): (B, N, T', h, w, PLACES), sines and cosines.

    Of five wavelengths each across, down and in time; the last two numbers are what is left of 32.
    """
    middle, sides = 0.5 * (boxes[..., :2] + boxes[..., 2:]), (boxes[..., 2:] - boxes[..., :2]).clamp_min(1e-3)
    down, across = (torch.arange(side, device=boxes.device, dtype=boxes.dtype) + 0.5 for side in size)
    times = boxes.shape[2]
    x = (across - middle[..., :1]) / sides[..., :1]  # (B, N, T', w)
    y = (down - middle[..., 1:]) / sides[..., 1:]
    shape = (*boxes.shape[:3], *size)
    when = torch.arange(times, device=boxes.device, dtype=boxes.dtype) / times
    parts = [x.unsqueeze(3).expand(shape), y.unsqueeze(4).expand(shape), when.view(-1, 1, 1).expand(shape)]
    angles = torch.stack([part * (math.pi / wave) for part in parts for wave in _WAVES], dim=-1)
    near = torch.stack([torch.exp(-parts[0].square()), torch.exp(-parts[1].square())], dim=-1)
    return torch.cat([angles.sin(), angles.cos(), near], dim=-1)
