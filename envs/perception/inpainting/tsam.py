"""TSAM: progressive temporal feature alignment for video inpainting (Zou et al. 2021, arXiv:2104.03507), as an eye.

A window of the last frames lies in its state; each new frame is filled with what the others show, their features moved
by the flow to where they belong now, layer by layer. Only earlier frames are known in a control loop, so the network is
causal by default; `windows.inpaint_clip` fills whole clips with one that is not (tsam.network.causal=false).

Left out: weights of ImageNet and VGG-16, which are not here. The encoder begins with drawn weights, and the perceptual
and the style loss, whose published weights are 1 and 2, need a file (vgg=) and are 0 by default. The published stages
are trainings with other numbers: 1 (pretraining) tsam.network.shift=plain hole=0 adversarial=0, 2 hole=6 adversarial=1
and half the learning rate, 3 both again with shift=aligned. The official code learns by Adam with amsgrad, its rate
times 0.97 every 1000 epochs (StepLR); train_perceiver.py has AdamW and a falling rate. The default is small and learns
without a discriminator.

Shapes: B batch (clips), L frames of the window, H and W sides of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from envs.painting.pictures import picture_pool
from envs.perception.dense_search import dense_search
from envs.perception.inpainting.alignment import Flows, checked, reversed_flow
from envs.perception.inpainting.clips import FoundClips, MovingClips, Panning
from envs.perception.inpainting.discriminator import Discriminator
from envs.perception.inpainting.flow_completion import completed
from envs.perception.inpainting.inpainter import Inpainter, is_hole
from envs.perception.inpainting.losses import (
    adversarial,
    difference,
    discriminator_loss,
    hole_difference,
    perceptual,
    style,
)
from envs.perception.inpainting.network import TSAMNet, TSAMNetConfig
from envs.perception.inpainting.vgg import load_vgg
from envs.perception.interpolation.moving import MovingPictures
from envs.perception.perceiver import Seen, State
from rlsuite.data.arrays import kept as keep
from rlsuite.data.clips import Clip, clips_in
from rlsuite.data.source import Source
from rlsuite.errors import require, require_choice, require_finite
from rlsuite.running.seeding import derive_seed

FLOWS = ("exact", "completed", "found")
TEXTURE, PICTURES, LEAST_CROP = 192, 400, 0.3  # side and number of still pictures; smallest share of a picture's side


@dataclass(frozen=True, kw_only=True)
class TSAMConfig:
    """TSAM's numbers.

    Attributes:
        weights: a file that train_perceiver.py wrote.
        network: its sizes, and whether it looks ahead.
        window: L, frames that are seen together.
        flow: "exact" is the simulation's, also in holes; "completed" takes none from holes and fills it in smoothly;
            "found" is that of OpenCV's DIS between the pictures with their holes, completed, for cameras of the real
            world.
        threshold: pixels by which flow forth and back may miss home.
        difference: weight of the mean absolute difference of all pixels.
        hole: the same in holes.
        perceptual: of VGG's features; needs vgg=. Published: 1.
        style: of their Gram matrices; needs vgg=. Published: 2.
        adversarial: of a discriminator, which learns beside. Published: 1, in the second stage.
        judge_width: channels of the discriminator's first layer; the paper's has 64.
        vgg: a safetensors file of VGG-16's weights, your own.
    """

    weights: str = ""
    network: TSAMNetConfig = field(default_factory=TSAMNetConfig)
    window: int = 5
    flow: str = "exact"
    threshold: float = 1.0
    difference: float = 1.0
    hole: float = 6.0
    perceptual: float = 0.0
    style: float = 0.0
    adversarial: float = 0.0
    judge_width: int = 64
    vgg: str = ""

    def __post_init__(self) -> None:
        require(self.window >= 2, f"window={self.window}: use 2 or more")
        require(self.judge_width >= 4, f"judge_width={self.judge_width}: use 4 or more")
        require_choice("flow", self.flow, FLOWS)
        require_finite("threshold", self.threshold, above=0.0)
        for name in ("difference", "hole", "perceptual", "style", "adversarial"):
            require_finite(name, getattr(self, name), low=0.0)
        wanted = self.perceptual > 0 or self.style > 0
        require(
            not wanted or bool(self.vgg), "perceptual=, style=: they need vgg=FILE of VGG-16's weights; leave them 0"
        )


class TSAM(Inpainter):
    """Holes filled by TSAM.

    Args:
        config: see TSAMConfig.
        seed: of the first weights.

    Attributes:
        network: what fills clips.
        judge: the discriminator, which only learning needs; None without.
    """

    Config = TSAMConfig
    inputs = ("rgb", "hole", "flow")

    def __init__(self, *, config: TSAMConfig, seed: int = 0) -> None:
        super().__init__(config=config)
        self.network: TSAMNet = TSAMNet(config.network, derive_seed(seed, "network"))
        self.judge = Discriminator(config.judge_width, derive_seed(seed, "judge")) if config.adversarial else None
        self._vgg = [load_vgg(config.vgg)] if config.perceptual or config.style else []  # a list: no part of the state

    # -- as an eye ------------------------------------------------------------------------------------------------

    def init_state(self, batch: int, size: tuple[int, int]) -> State:
        """Return no frames: the window's last L with what is known of them, the flow from each but the first back."""
        device = next(self.network.parameters()).device
        length = self.config.window
        return {
            "frames": torch.zeros(batch, length, 3, *size, device=device),
            "known": torch.zeros(batch, length, 1, *size, dtype=torch.bool, device=device),
            "flow": torch.zeros(batch, length - 1, 2, *size, device=device),
            "began": torch.zeros(batch, dtype=torch.bool, device=device),
        }

    def forward(self, seen: Seen, state: State) -> tuple[Seen, State]:
        """Return "rgb" without holes; an episode's first frame stands for those before it."""
        hole = is_hole(seen["hole"])
        rgb, known = torch.where(hole, 0.0, seen["rgb"]), ~hole
        flow = self._flow(seen, hole, rgb, state)
        frames, told, moved = (
            torch.cat([state[name][:, 1:], value.unsqueeze(1)], dim=1)
            for name, value in (("frames", rgb), ("known", known), ("flow", flow))
        )
        new, same = _rows(~state["began"]), _rows(seen["phase"] != 0.0)
        frames = torch.where(new, rgb.unsqueeze(1), torch.where(same, state["frames"], frames))
        told = torch.where(new, known.unsqueeze(1), torch.where(same, state["known"], told))
        moved = torch.where(new, 0.0, torch.where(same, state["flow"], moved))
        after = {"frames": frames, "known": told, "flow": moved, "began": torch.ones_like(state["began"])}
        filled = self.network(frames, told, self._flows(moved))[:, -1]
        return {"rgb": filled.clamp(0.0, 1.0)}, after

    def _flow(self, seen: Seen, hole: Tensor, rgb: Tensor, state: State) -> Tensor:
        """Return the flow (B, 2, H, W) from this frame to the one before, as `flow` says."""
        if self.config.flow == "exact":
            return seen["flow"]
        found = (
            dense_search(rgb, state["frames"][:, -1], "medium", "tsam.flow=found")
            if self.config.flow == "found"
            else seen["flow"]
        )
        return completed(found, hole)

    def _flows(self, backward: Tensor) -> Flows:
        """Return the flows of windows; where nobody knows the forward flow, it is the backward one's way home."""
        forward = reversed_flow(backward.flatten(0, 1)).view_as(backward)
        return checked(forward, backward, self.config.threshold)

    # -- learning -------------------------------------------------------------------------------------------------

    def source(self, data: str, size: int, seed: int, clips: Sequence[Tensor] = (), kept: int = 0) -> Source:
        """Return clips with holes: real ones, with the flow that DIS finds; else layers of still pictures that move.

        Pictures are those of a folder, "scenes" (self-made) or "skimage" (scikit-image's and as many scenes), which ""
        is; "textures" are drawn ones that pan.
        """
        length = self.config.window
        drawn = data in ("", "skimage", "scenes", "textures")
        found: Sequence[Clip] = clips or ([] if drawn else clips_in(data))
        if found:
            source: Source = FoundClips(found, size, length, seed=seed)
        elif data == "textures":
            source = Panning(size, length, hole=max(1, size // 5), seed=seed)
        else:
            pool = picture_pool(data or "skimage", TEXTURE, PICTURES, LEAST_CROP, "train")
            source = MovingClips(MovingPictures(pool, size, seed=seed), length)
        return keep(source, kept) if kept else source

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the losses of clips as `clips.py` has them: "loss" and its parts before their weights.

        A discriminator's own loss, "judge", is part of "loss", too: neither it nor the network has a gradient of what
        the other minimizes, so that one optimizer serves both.
        """
        config, known = self.config, batch["known"]
        truth = self.network.door(batch["frames"])
        flows = checked(batch["forward"], batch["backward"], config.threshold)
        filled = self.network(truth, known, flows)
        parts = {"difference": difference(filled, truth), "hole": hole_difference(filled, truth, known)}
        if self._vgg:
            vgg = self._vgg[0].to(truth.device)
            found, wanted = vgg(filled.flatten(0, 1)), vgg(truth.flatten(0, 1))
            parts["perceptual"] = perceptual(found, wanted)
            parts["style"] = style(found, wanted, truth.shape[1])
        if self.judge is not None:
            parts["adversarial"] = adversarial(self.judge, filled, known)
            parts["judge"] = discriminator_loss(self.judge, filled, truth, known)
        loss = torch.stack([value * getattr(config, name, 1.0) for name, value in parts.items()]).sum()
        return {"loss": loss, **parts}


def _rows(flags: Tensor) -> Tensor:
    return flags.view(-1, 1, 1, 1, 1)
