"""The painter's networks (Learning to Paint, arXiv:1903.04411, section 3.3), at the paper's size or small.

    resnet18: Conv3x3 -> w stride 2, norm, act; 4 stages of 2 basic blocks, widths w, 2w, 4w, 8w, each stage's first
              block stride 2; mean over what is left; Linear.   w = 64: 11,209,857 (actor), 11,178,770 (critic) weights
    small:    3 x [Conv3x3 stride 2, norm, act], widths w / 2, w, 2w; Linear over all that is left

The actor has BatchNorm and ReLU. Critics have no BatchNorm: every convolution is weight-normalized, with a bias, and
activations are TReLU(x) = ReLU(x - alpha) + alpha with a learned alpha each.

Shapes: B batch, W side of the canvas, P patches.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from rlsuite.errors import require_choice
from rlsuite.nn.vision.blocks import TReLU, WeightNormConv2d, activation, normalized_convolution, stages

NETWORKS = ("resnet18", "small")


class PictureNetwork(nn.Module):
    """Pictures (B, channels, W, W) -> numbers (B, outputs).

    Args:
        channels: of the input.
        outputs: numbers returned.
        size: W.
        kind: one of NETWORKS.
        width: w.
        batch_norm: as the actor; else weight normalization and TReLU, as the critic.
        extra: numbers (B, extra) that join what the pictures gave ("small" only).
        squash: the output's activation, such as torch.sigmoid.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        size: int,
        *,
        kind: str = "resnet18",
        width: int = 64,
        batch_norm: bool,
        extra: int = 0,
        squash: Callable[[Tensor], Tensor] = lambda output: output,
    ) -> None:
        super().__init__()
        require_choice("agent.network", kind, NETWORKS)
        self.kind, self.squash = kind, squash
        conv = functools.partial(normalized_convolution, kernel=3, stride=2, batch_norm=batch_norm)
        if kind == "resnet18":
            widths = (width, 2 * width, 4 * width, 8 * width)
            self.body = nn.Sequential(
                conv(channels, width),
                activation(batch_norm),
                stages(width, widths, (2, 2, 2, 2), batch_norm=batch_norm),
            )
            self.head: nn.Module = nn.Linear(8 * width, outputs)
            return
        layers: list[nn.Module] = []
        for wide in (width // 2, width, 2 * width):
            layers += [conv(channels, wide), activation(batch_norm)]
            channels = wide
        self.body = nn.Sequential(*layers)
        features = 2 * width * (-(-size // 8)) ** 2 + extra
        self.head = nn.Linear(features, outputs)
        if extra:
            self.head = nn.Sequential(nn.Linear(features, 4 * width), nn.ReLU(), nn.Linear(4 * width, outputs))

    def forward(self, pictures: Tensor, extra: Tensor | None = None) -> Tensor:
        """Return (B, outputs), float32."""
        # Channels last in memory: convolutions on a CPU are an eighth faster and need fewer reorderings.
        features = self.body(pictures.contiguous(memory_format=torch.channels_last))
        features = features.mean(dim=(2, 3)) if self.kind == "resnet18" else features.flatten(1)
        if extra is not None:
            features = torch.cat([features, extra.to(features.dtype)], dim=1)
        return self.squash(self.head(features).float())


class PatchCritic(nn.Module):
    """A critic of state and action with a value for each patch of the picture, or their mean (the paper's baselines).

        action, tiled to W/2 x W/2, + 2 coordinates -> 3 x [1x1, TReLU], 64, 64, 32 --+
        state (B, 9, W, W) -> Conv3x3 stride 2, 32, TReLU ----------------------------+-> stages 64 s2, 128 s2, 256 s2,
                                                                                          512 s1 -> 1x1 -> W/16 x W/16

    Args:
        channels: of the state.
        action_size: numbers of an action.
        width: w of the stages, 64 in the paper.
        patches: return each patch's value instead of their mean.
    """

    def __init__(self, channels: int, action_size: int, *, width: int = 64, patches: bool) -> None:
        super().__init__()
        self.patches = patches
        half = width // 2
        self.state = nn.Sequential(WeightNormConv2d(channels, half, 3, 2, 1), TReLU())
        layers: list[nn.Module] = []
        for inputs, outputs in ((action_size + 2, width), (width, width), (width, half)):
            layers += [WeightNormConv2d(inputs, outputs, 1), TReLU()]
        self.action = nn.Sequential(*layers)
        widths = (width, 2 * width, 4 * width, 8 * width)
        self.body = stages(2 * half, widths, (2, 2, 2, 1), batch_norm=False)
        self.head = WeightNormConv2d(8 * width, 1, 1)

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        """Map states (B, channels, W, W), the last two channels coordinates, and actions (B, A) to values (B, P)."""
        seen = self.state(state)
        tiled = action[..., None, None].expand(-1, -1, *seen.shape[2:]).to(seen.dtype)
        coordinates = state[:, -2:, ::2, ::2].to(seen.dtype)
        value = self.head(self.body(torch.cat([seen, self.action(torch.cat([tiled, coordinates], dim=1))], dim=1)))
        value = value.flatten(1).float()
        return value if self.patches else value.mean(dim=1, keepdim=True)


def coordinate_maps(size: int) -> Tensor:
    """Return CoordConv's maps (2, W, W): row and column, each from 0 to 1."""
    line = torch.linspace(0.0, 1.0, size)
    return torch.stack(torch.meshgrid(line, line, indexing="ij"))
