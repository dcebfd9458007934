"""M-LVC's networks, put together (Lin, Liu, Li & Wu 2020, arXiv:2004.10290): one frame after another, none from later.

    past fields -> predicted field -+- difference coded -> decoded field -> refined field
    past frames, refined field -> predicted frame -+- residual coded -> refined residual -> frame

Each width is the paper's divided by one number.

Shapes: B batch, R references, H and W sides, multiples of 64; frames (B, 3, H, W) in [0, 1]; fields (B, 2, H, W) in
units of 20 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from envs.perception.codec.autoencoders import Hyperprior, Transform
from envs.perception.codec.channel import Channel, FarTables, far_tables
from envs.perception.codec.compensation import Compensated, MotionCompensation
from envs.perception.codec.factorized import FactorizedPrior
from envs.perception.codec.fusion import Block
from envs.perception.codec.prediction import MotionPrediction
from envs.perception.codec.refinement import MotionRefinement, ResidualRefinement
from rlsuite.errors import require
from rlsuite.nn.vision.blocks import draw_weights
from rlsuite.running.seeding import derive_seed

MULTIPLE = 64
FRAMES, FIELDS = 4, 3  # that are remembered
GAIN, SOFT, QUIET = 16.0, 0.1, 0.01


@dataclass(frozen=True, kw_only=True)
class MLVCNetConfig:
    """The networks' sizes, and which of them there are.

    Attributes:
        divisor: each width is the paper's divided by this: 1 is the paper's size.
        prediction: whether motion is predicted from past motion; without, it is coded itself.
        references: decoded frames that the next one is predicted from, 1 to 4.
        refinement: whether decoded motion and residuals are refined.
    """

    divisor: int = 4
    prediction: bool = True
    references: int = FRAMES
    refinement: bool = True

    def __post_init__(self) -> None:
        require(self.divisor in (1, 2, 4, 8), f"divisor={self.divisor}: use 1 (the paper's widths), 2, 4 or 8")
        require(1 <= self.references <= FRAMES, f"references={self.references}: use 1 to {FRAMES}")


class Past(NamedTuple):
    """What encoder and decoder remember.

    Attributes:
        frames: four decoded ones, the newest first.
        fields: three decoded ones, likewise.
    """

    frames: tuple[Tensor, ...]
    fields: tuple[Tensor, ...]

    def then(self, frame: Tensor, field: Tensor) -> Past:
        """Return it with one more of each, and without the oldest."""
        return Past((frame, *self.frames[:-1]), (field, *self.fields[:-1]))


class Motion(NamedTuple):
    """Fields of one frame: predicted from past ones, decoded, and refined, which is what counts."""

    predicted: Tensor
    decoded: Tensor
    refined: Tensor


def past_of(frame: Tensor) -> Past:
    """Return what is remembered after a frame that was coded by itself: that frame four times, and no motion."""
    still = torch.zeros_like(frame[:, :2])
    return Past((frame,) * FRAMES, (still,) * FIELDS)


def to_bytes_and_back(frame: Tensor) -> Tensor:
    """Return a frame as it is remembered and shown: in 256 steps, what is beyond cut off; gradients pass the steps."""
    frame = frame.clamp(0.0, 1.0)
    return frame + (torch.round(255.0 * frame) / 255.0 - frame).detach()


class MLVCNet(nn.Module):
    """Codes a frame, given what is remembered.

    Args:
        config: see MLVCNetConfig.
        seed: of the first weights.
    """

    Config = MLVCNetConfig

    def __init__(self, config: MLVCNetConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config

        def width(of_paper: int) -> int:
            return of_paper // config.divisor

        thin, wide, latent = width(32), width(192), width(192)
        levels = [width(channels) for channels in (16, 24, 24, 24)]
        self.prediction = MotionPrediction(levels, thin) if config.prediction else None
        self.motion_transform = Transform(2, wide, wide, 2)
        self.motion_prior = FactorizedPrior(wide)
        dilated = [width(channels) for channels in (64, 64, 64, 48, 32, 32)]
        self.motion_refinement = MotionRefinement(thin, dilated) if config.refinement else None
        self.compensation = MotionCompensation(config.references, thin, width(64))
        decoded = thin if config.refinement else 3
        self.residual_transform = Transform(3, width(128), latent, decoded)
        self.hyperprior = Hyperprior(latent, width(128))
        warped = config.references * thin
        self.residual_refinement = ResidualRefinement(decoded, warped, thin, width(48)) if config.refinement else None
        draw(self, seed)

    def forward(
        self, channel: Channel, past: Past, frame: Tensor | None = None, field: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the decoded frame, in bytes' steps, and the decoded field.

        Args:
            channel: what becomes of latents.
            past: decoded frames and fields.
            frame: the true one; a decoder has none.
            field: from the true frame to the last decoded one; likewise.
        """
        motion = self.code_motion(channel, past, field)
        predicted = self.compensate(past, motion.refined)
        return to_bytes_and_back(self.code_residual(channel, predicted, frame)), motion.refined

    def code_motion(self, channel: Channel, past: Past, field: Tensor | None) -> Motion:
        """Return the motion as it is decoded (the paper's steps of MAMVP-Net, MVD coding and MV Refine-Net)."""
        last = past.frames[0]
        predicted = torch.zeros_like(last[:, :2]) if self.prediction is None else self.prediction(past.fields)
        latents = None if field is None else self.motion_transform.analysis(field - predicted)
        shape = self.motion_transform.shape(len(last), (last.shape[2], last.shape[3]))
        coded = channel.factorized("motion", self.motion_prior, latents, shape)
        decoded = predicted + self.motion_transform.synthesis(coded)
        refined = decoded
        if self.motion_refinement is not None:
            refined = self.motion_refinement(decoded, past.fields, last)
        return Motion(predicted, decoded, refined)

    def compensate(self, past: Past, field: Tensor) -> Compensated:
        """Return the predicted frame (MMC-Net)."""
        return self.compensation(past.frames, field, past.fields)

    def code_residual(self, channel: Channel, predicted: Compensated, frame: Tensor | None) -> Tensor:
        """Return the frame with its decoded residual, its range free (residual coding and Residual Refine-Net)."""
        size = (predicted.frame.shape[2], predicted.frame.shape[3])
        latents = None if frame is None else self.residual_transform.analysis(frame - predicted.frame)
        hyper = None if latents is None else self.hyperprior.analysis(latents.abs())
        shape = self.hyperprior.shape(len(predicted.frame), size)
        deviations = self.hyperprior.deviations(channel.factorized("hyper", self.hyperprior.prior, hyper, shape))
        residual = self.residual_transform.synthesis(channel.gaussian("residual", latents, deviations))
        if self.residual_refinement is not None:
            residual = self.residual_refinement(residual, predicted)
        return predicted.frame + residual

    def tables(self) -> FarTables:
        """Return what writers and readers know."""
        return far_tables(self.motion_prior, self.hyperprior.prior)


@torch.no_grad()
def draw(net: MLVCNet, seed: int) -> None:
    """Draw first weights by He's rule; all that is added to something passes a head that is a hundredth as large.

    So at first the predicted frame is nearly the last one warped, and the decoded one nearly the predicted one.
    Residual blocks begin as nearly nothing: as He draws them each would double the variance, and twelve are in a row.
    Latents begin `GAIN` times as large, what comes of them `SOFT` times, and deviations at 1, where their last ReLU
    passes gradients. A residual that is refined passes a quiet head, too: what comes of latents is made as much larger
    before it, or they would begin a hundred times as faint as without refinement, and be taught to cost nothing first.
    """
    draw_weights(net, derive_seed(seed, "weights"))
    heads: list[nn.Module] = [net.compensation.fusion.head]
    if net.prediction is not None:
        heads += list(net.prediction.heads)
    if net.motion_refinement is not None:
        heads.append(net.motion_refinement.head)
    if net.residual_refinement is not None:
        heads.append(net.residual_refinement.fusion.head)
    for head in heads:
        head.weight.mul_(QUIET)  # type: ignore[operator]
    for part in net.modules():
        if isinstance(part, Block):
            part.second.weight.mul_(SOFT)
    net.motion_transform.scale(GAIN, SOFT)
    net.residual_transform.scale(GAIN, SOFT if net.residual_refinement is None else SOFT / QUIET)
    last = net.hyperprior.synthesis[4]
    last.bias.fill_(1.0)  # type: ignore[operator]
    last.weight.mul_(QUIET)  # type: ignore[operator]
