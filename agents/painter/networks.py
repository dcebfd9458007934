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
from typing import Any

import torch
from torch import Tensor, nn

from rlsuite.errors import require_choice

NETWORKS = ("resnet18", "small")


class TReLU(nn.Module):
    """Translated ReLU: max(x, alpha) with a learned alpha, 0 at first (Xiang & Li 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return relu(x - alpha) + alpha, any shape."""
        shifted: Tensor = _TranslatedReLU.apply(inputs, self.alpha)  # type: ignore[assignment]
        return shifted


class _TranslatedReLU(torch.autograd.Function):
    """relu(x - alpha) + alpha, with one sum for alpha's gradient: in bfloat16 a tenth of the time of autograd's own."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, alpha: Tensor) -> Tensor:  # type: ignore[override]
        alpha = alpha.to(inputs.dtype)
        above = torch.relu_(inputs - alpha)
        ctx.save_for_backward(above)
        return above + alpha

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        (above,) = ctx.saved_tensors
        # Itself differentiable, as the gradient penalty needs.
        passed = torch.ops.aten.threshold_backward(gradient, above, 0)
        return passed, (gradient - passed).sum(dtype=torch.float32).reshape(1)


class WeightNormConv2d(nn.Conv2d):
    """A convolution whose filters' directions (`weight`) and lengths (`scale`) are learned apart."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding)
        self.scale = nn.Parameter(_filter_norms(self.weight.detach()))

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H', W')."""
        weight = self.weight * (self.scale / _filter_norms(self.weight))
        return self._conv_forward(input, weight, self.bias)


def _filter_norms(weight: Tensor) -> Tensor:
    return weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def _normalized(inputs: int, outputs: int, kernel: int, stride: int, *, batch_norm: bool) -> nn.Module:
    padding = kernel // 2
    if not batch_norm:
        return WeightNormConv2d(inputs, outputs, kernel, stride, padding)
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, the shortcut a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, batch_norm: bool) -> None:
        super().__init__()
        conv = functools.partial(_normalized, batch_norm=batch_norm)
        self.first, self.second = conv(inputs, outputs, 3, stride), conv(outputs, outputs, 3, 1)
        changes = stride != 1 or inputs != outputs
        self.shortcut = conv(inputs, outputs, 1, stride) if changes else nn.Identity()
        self.inner, self.outer = activation(batch_norm), activation(batch_norm)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        return self.outer(self.second(self.inner(self.first(inputs))) + self.shortcut(inputs))


def activation(batch_norm: bool) -> nn.Module:
    """Return the activation that goes with BatchNorm, or with weight normalization."""
    return nn.ReLU() if batch_norm else TReLU()


def stages(inputs: int, widths: tuple[int, ...], strides: tuple[int, ...], *, batch_norm: bool) -> nn.Sequential:
    """Return stages of two basic blocks each."""
    blocks: list[nn.Module] = []
    for outputs, stride in zip(widths, strides, strict=True):
        blocks += [
            BasicBlock(inputs, outputs, stride, batch_norm=batch_norm),
            BasicBlock(outputs, outputs, 1, batch_norm=batch_norm),
        ]
        inputs = outputs
    return nn.Sequential(*blocks)


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
        conv = functools.partial(_normalized, kernel=3, stride=2, batch_norm=batch_norm)
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
