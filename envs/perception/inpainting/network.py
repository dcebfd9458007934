"""TSAM's network: a clip with holes to the clip without (arXiv:2104.03507), for pictures of any size.

With encoder="resnet50", width=64 it is the paper's. The default, "plain", is small enough for a CPU: gated 3x3
convolutions at full size, the inner ones shifted and aligned, with shortcuts.

Shapes: B clips, L frames, H and W sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.perception.inpainting.alignment import Alignment, Flows
from envs.perception.inpainting.convolution import Clip, Shift, TSAMConv
from envs.perception.inpainting.decoder import SLOPE, Decoder
from envs.perception.inpainting.encoder import CHANNELS, ResNetEncoder
from rlsuite.errors import require, require_choice
from rlsuite.nn.spectra import normalize_spectra
from rlsuite.nn.vision.blocks import draw_weights
from rlsuite.nn.vision.doors import FromBytes
from rlsuite.running.seeding import derive_seed

MULTIPLE = 8  # of the sides, for the ResNet
ENCODER_DIV, DECODER_DIV = 8, 4
ENCODERS = ("plain", "resnet50")
SHIFTS = ("aligned", "plain", "none")


@dataclass(frozen=True, kw_only=True)
class TSAMNetConfig:
    """The network.

    Attributes:
        encoder: "plain", or the paper's "resnet50" with its decoder.
        width: channels of the plain network's layers; of the ResNet's first stage inside (the paper's 64).
        depth: convolutions of the plain network.
        shift: "aligned" by the flow, "plain" (the temporal shift alone) or "none" (each frame by itself).
        causal: a frame sees earlier ones only, as an agent's eye must; false as in the paper.
        own_at_ends: what a clip's ends lack of a neighbour is their own feature; false for zeros, as in the code.
    """

    encoder: str = "plain"
    width: int = 32
    depth: int = 6
    shift: str = "aligned"
    causal: bool = True
    own_at_ends: bool = False

    def __post_init__(self) -> None:
        require_choice("encoder", self.encoder, ENCODERS)
        require_choice("shift", self.shift, SHIFTS)
        require(self.width >= 8, f"width={self.width}: use 8 or more, of which a neighbour has an eighth")
        require(self.depth >= 3, f"depth={self.depth}: use 3 or more")


class Plain(nn.Module):
    """Gated 3x3 convolutions at full size: one in, `depth - 2` with shortcuts that are shifted, one out.

    Args:
        width: channels.
        depth: convolutions.
        shift: of the inner ones.
    """

    def __init__(self, width: int, depth: int, shift: Shift) -> None:
        super().__init__()
        alone, act = Shift(0), nn.LeakyReLU(SLOPE)
        self.first = TSAMConv(nn.Conv2d(CHANNELS, width, 3, padding=1), alone, activation=act)
        self.inner = nn.ModuleList(
            TSAMConv(nn.Conv2d(width, width, 3, padding=1), shift, activation=act) for _ in range(depth - 2)
        )
        self.last = TSAMConv(nn.Conv2d(width, 3, 3, padding=1), alone)

    def forward(self, seen: Tensor, clip: Clip) -> Tensor:
        """Map (B L, 5, H, W) to colors (B L, 3, H, W)."""
        hidden = self.first(seen, clip)
        for conv in self.inner:
            hidden = hidden + conv(hidden, clip)
        return self.last(hidden, clip)


class TSAMNet(nn.Module):
    """Clips with holes to clips.

    Args:
        config: see TSAMNetConfig.
        seed: of the first weights.
    """

    Config = TSAMNetConfig

    def __init__(self, config: TSAMNetConfig, seed: int = 0) -> None:
        super().__init__()
        self.config, self.door = config, FromBytes()
        if config.encoder == "plain":
            self.body: nn.Module = Plain(config.width, config.depth, self._shift(DECODER_DIV))
            draw_weights(self, derive_seed(seed, "body"))
        else:
            self.encoder = ResNetEncoder(config.width, self._shift(ENCODER_DIV))
            self.decoder = Decoder(config.width, self._shift(DECODER_DIV))
            draw_weights(self.encoder, derive_seed(seed, "encoder"))
            _draw_uniform(self.decoder, derive_seed(seed, "decoder"))
            spared = tuple(name for name, _ in self.decoder.named_modules() if name.startswith("last"))
            normalize_spectra(self.decoder, derive_seed(seed, "spectral norm"), spared)
        for part in self.modules():
            if isinstance(part, TSAMConv) and part.gate_shifted:
                part.gate.load_state_dict(part.conv.state_dict())  # a copy, as in the code

    def _shift(self, div: int) -> Shift:
        config = self.config
        div = 0 if config.shift == "none" else div
        return Shift(div, config.shift == "aligned", config.causal, config.own_at_ends)

    def forward(self, frames: Tensor, known: Tensor, flows: Flows | None = None) -> Tensor:
        """Return frames (B, L, 3, H, W) whose known pixels are the given ones, bit for bit.

        Args:
            frames: (B, L, 3, H, W), uint8 or in [0, 1]; what they hold in holes does not matter.
            known: (B, L, 1, H, W) bool, false in holes.
            flows: of the clip; needed by shift="aligned".

        Returns:
            Colors, in [0, 1] but for holes while learning: there they are what the network says, in evaluation mode cut
            off.

        Raises:
            ValueError: if flows are missing.
        """
        if self.config.shift == "aligned" and flows is None and frames.shape[1] > 1:
            raise ValueError("shift=aligned: the flows of the clip are missing; give them, or take shift=plain")
        frames = self.door(frames)
        batch, length, _, height, width = frames.shape
        multiple = 1 if self.config.encoder == "plain" else MULTIPLE
        pads = (0, -width % multiple, 0, -height % multiple)
        told = known.to(frames.dtype)
        seen = torch.cat([frames * told, told, torch.zeros_like(told)], dim=2).flatten(0, 1)  # the last one: guidance
        clip = Clip(length, None if flows is None or length == 1 else Alignment(_padded(flows, pads)))
        found = self._colours(functional.pad(seen, pads, mode="replicate"), clip)
        found = found[..., :height, :width].unflatten(0, (batch, length))
        return torch.where(known, frames, found if self.training else found.clamp(0.0, 1.0))

    def _colours(self, seen: Tensor, clip: Clip) -> Tensor:
        if self.config.encoder == "plain":
            return self.body(seen, clip)
        return self.decoder(self.encoder(seen, clip), clip)


def _padded(flows: Flows, pads: tuple[int, int, int, int]) -> Flows:
    if not any(pads):
        return flows
    lead = flows.forward.shape[:2]
    return Flows(
        *(
            functional.pad(value.flatten(0, 1).float(), pads, mode="replicate").unflatten(0, lead).to(value.dtype)
            for value in flows
        )
    )


@torch.no_grad()
def _draw_uniform(module: nn.Module, seed: int) -> None:
    """Draw the decoder's weights as the official code does: uniform by fan-in (a = 1), biases 0."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_uniform_(part.weight, a=1.0, generator=generator)
            if part.bias is not None:
                part.bias.zero_()
