"""M-LVC: learned video compression from several past frames (Lin, Liu, Li & Wu 2020, arXiv:2004.10290), whole.

A frame's motion is predicted from past motion, the difference is coded, decoded motion is refined; the frame is
predicted from four decoded ones, its residual is coded, decoded and refined. Every step is a network; together they
minimize D + lambda R, D the mean squared error in steps of 256, R in bits a pixel. Nothing later than the frame itself
is needed, so an agent sees every frame at once, as it came through a thin link.

What stands in for other people's networks: ME-Net, the paper's FlowNet 2.0, is the simulation's exact flow or OpenCV's
dense inverse search; the first frame of every `gop`, the paper's BPG, is JPEG.

Shapes: B batch, T frames of a clip, H and W sides; H' and W' the next multiples of 64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from envs.painting.pictures import picture_pool
from envs.perception.codec.channel import Estimate
from envs.perception.codec.clips import MovingClips, Windows
from envs.perception.codec.jpeg import through_jpeg
from envs.perception.codec.motion_fields import moved, to_units
from envs.perception.codec.network import FIELDS, FRAMES, MLVCNet, MLVCNetConfig, Past, past_of, to_bytes_and_back
from envs.perception.codec.stream import Settings, padded, read_stream, write_stream
from envs.perception.dense_search import dense_search
from envs.perception.perceiver import Perceiver, Seen, State
from envs.perception.weights import digest
from rlsuite.data.arrays import kept as keep
from rlsuite.data.clips import Clip, clips_in
from rlsuite.data.source import Source
from rlsuite.errors import require, require_choice
from rlsuite.metrics.pictures import psnr
from rlsuite.running.seeding import derive_seed

QUALITIES = {16: 88, 24: 83, 40: 74, 64: 64}  # JPEG's of first frames, where it pays lambda itself for a bit a pixel
MOTIONS = ("exact", "dis")
STAGES = ("motion", "compensation", "residual", "joint")
TEXTURE, PICTURES, LEAST_CROP = 192, 400, 0.3  # side and number of still pictures; smallest share of a picture's side


@dataclass(frozen=True, kw_only=True)
class MLVCConfig:
    """M-LVC's numbers.

    Attributes:
        weights: a file that train_perceiver.py wrote.
        network: its sizes.
        rate_weight: lambda, what a bit a pixel costs: 16 (the best pictures), 24, 40 or 64 (the fewest bits).
        motion: where the encoder has motion from: "exact", the cameras' flow, or "dis" (OpenCV).
        gop: every so many frames one is coded by itself, so that errors do not add up for ever.
        stages: shares of the minibatches after which motion has been learned, then motion compensation, then residuals,
            each with what came before held still; the rest learns all together, as the paper's step-by-step training.
    """

    weights: str = ""
    network: MLVCNetConfig = field(default_factory=MLVCNetConfig)
    rate_weight: int = 16
    motion: str = "exact"
    gop: int = 12
    stages: tuple[float, ...] = (0.3, 0.5, 0.7)

    def __post_init__(self) -> None:
        known = ", ".join(map(str, QUALITIES))
        require(self.rate_weight in QUALITIES, f"rate_weight={self.rate_weight}: use one of {known}")
        require_choice("motion", self.motion, MOTIONS)
        require(1 <= self.gop <= 255, f"gop={self.gop}: use 1 to 255")
        ordered = len(self.stages) == 3 and 0.0 <= self.stages[0] <= self.stages[1] <= self.stages[2] <= 1.0
        require(ordered, f"stages={list(self.stages)}: use three rising shares, such as [0.3,0.5,0.7]")


class MLVC(Perceiver):
    """What is left of camera frames after M-LVC, and clips as bytes.

    Its state holds the decoded frames and fields, how many frames of the episode were "coded", and the "bits" that they
    take by the entropy models' estimate (of first frames JPEG's own bytes, without its tables).

    Args:
        config: see MLVCConfig.
        seed: of the first weights.

    Attributes:
        inputs: "rgb", and "flow" where motion is exact.
        stage: which of STAGES is learning.
    """

    Config = MLVCConfig

    def __init__(self, *, config: MLVCConfig, seed: int = 0) -> None:
        super().__init__(config=config)
        self.network: MLVCNet = MLVCNet(config.network, derive_seed(seed, "network"))
        self.inputs = ("rgb", "flow") if config.motion == "exact" else ("rgb",)  # type: ignore[misc]
        self.stage = STAGES[-1]

    # -- between cameras and an agent -----------------------------------------------------------------------------

    def init_state(self, batch: int, size: tuple[int, int]) -> State:
        """Return no frames."""
        blank = padded(torch.zeros(batch, 5, *size, device=next(self.network.parameters()).device))
        counts = torch.zeros(batch, device=blank.device)
        return {
            "frames": blank[:, None, :3].repeat(1, FRAMES, 1, 1, 1),
            "fields": blank[:, None, 3:].repeat(1, FIELDS, 1, 1, 1),
            "coded": counts.long(),
            "bits": counts,
        }

    def forward(self, seen: Seen, state: State) -> tuple[Seen, State]:
        """Return "rgb" as it was decoded; see Perceiver. Nothing is written: `compress` gives the same frames."""
        rgb = seen["rgb"]
        new = {name: value.clone() for name, value in state.items()}
        due = (seen["phase"] == 0.0) | (state["coded"] == 0)
        alone = state["coded"] % self.config.gop == 0
        rows = (due & alone).nonzero().squeeze(1)
        if len(rows):
            decoded, bits = through_jpeg(rgb[rows], self.quality)
            self._remember(new, rows, past_of(padded(decoded)), bits)
        rows = (due & ~alone).nonzero().squeeze(1)
        if len(rows):
            past, current = _past(state, rows), padded(rgb[rows])
            flow = seen["flow"][rows] if self.config.motion == "exact" else None
            channel = Estimate(noisy=False)
            past = past.then(*self.network(channel, past, current, self._field(current, past, flow)))
            self._remember(new, rows, past, channel.total())
        height, width = rgb.shape[2:]
        return {"rgb": new["frames"][:, 0, :, :height, :width].clone()}, new

    def _remember(self, state: State, rows: Tensor, past: Past, bits: Tensor) -> None:
        state["frames"][rows] = torch.stack(past.frames, dim=1)
        state["fields"][rows] = torch.stack(past.fields, dim=1)
        state["coded"][rows] += 1
        state["bits"][rows] += bits

    def _field(self, current: Tensor, past: Past, flow: Tensor | None) -> Tensor:
        """Return the motion (B, 2, H', W') of frames, in units, from flow (B, 2, H, W) in pixels or from pictures."""
        if flow is None:
            flow = dense_search(current, past.frames[0], "medium", "m_lvc.motion=dis")
        return to_units(padded(flow))

    # -- clips ------------------------------------------------------------------------------------------------------

    def compress(self, frames: Tensor, flow: Tensor | None = None) -> bytes:
        """Return a clip as bytes.

        Args:
            frames: (T, 3, H, W) uint8.
            flow: (T - 1, 2, H, W) in pixels, from each frame but the first to the one before it; OpenCV's without.

        Raises:
            UserError: if there are no frames, or OpenCV is missing and there is no flow.
        """
        return self.coded(frames, flow)[0]

    def coded(self, frames: Tensor, flow: Tensor | None = None) -> tuple[bytes, Tensor]:
        """Return what `compress` does, and the frames (T, 3, H, W) uint8 that `decompress` will return."""

        def estimate(number: int, current: Tensor, reference: Tensor) -> Tensor:
            given = None if flow is None else flow[number - 1 : number].to(current)
            return self._field(current, past_of(reference), given)

        config = self.config
        rate = list(QUALITIES).index(config.rate_weight)
        settings = Settings(rate, self.quality, config.gop, self._digest())
        return write_stream(self.eval().network, frames, estimate, settings)

    def decompress(self, data: bytes) -> Tensor:
        """Return a clip's frames (T, 3, H, W) uint8.

        Raises:
            UserError: if the bytes are not what `compress` wrote with these weights, or decode to something else here.
        """
        return read_stream(self.eval().network, data, self._digest())

    def _digest(self) -> bytes:
        return bytes(digest(self)[:4].tolist())

    # -- learning ---------------------------------------------------------------------------------------------------

    def source(self, data: str, size: int, seed: int, clips: Sequence[Tensor] = (), kept: int = 0) -> Source:
        """Return examples of "frames", and of "flow" where pictures are moved by ourselves.

        Of clips, seven frames that follow each other; else moving layers of still pictures: those of a folder, "scenes"
        (self-made) or "skimage" (scikit-image's and as many scenes), which "" is. A folder of clips is read as clips.
        """
        drawn = data in ("", "skimage", "scenes")
        found: Sequence[Clip] = clips or ([] if drawn else clips_in(data))
        if found:
            source: Source = Windows(found, size, seed=seed)
        else:
            pool = picture_pool(data or "skimage", TEXTURE, PICTURES, LEAST_CROP, "train")
            source = MovingClips(pool, size, seed=seed)
        return keep(source, kept) if kept else source

    def progress(self, share: float) -> None:
        """Take note of which share of a training is done: it decides which stage learns."""
        self.stage = STAGES[sum(share >= end for end in self.config.stages)]

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss of "frames" (B, T, 3, H, W), bytes or in [0, 1], and where there is "flow", of that motion.

        With lambda the weight, D mean squared errors in steps of 256 and R in bits a pixel, means over a clip's frames
        but the first: "motion" learns D(the last frame warped) + lambda R(motion), "compensation" D(the predicted
        frame), "residual" and "joint" D(the decoded frame) + lambda R. The first two see true past frames; the last one
        learns through all frames of a clip, so that it learns what errors do to later frames.
        """
        given = batch["frames"]
        frames = [padded(self._door(frame)) for frame in given.unbind(dim=1)]
        height, width = given.shape[3:]
        staged = self.stage in STAGES[:2]
        past = past_of(frames[0] if staged else padded(through_jpeg(frames[0][:, :, :height, :width], self.quality)[0]))
        errors, bits = [], []
        for number, frame in enumerate(frames[1:]):
            flow = batch["flow"][:, number] if "flow" in batch else None
            past, error, taken = self._learn(past, frame, self._field(frame, past, flow))
            errors.append(error)
            bits.append(taken)
        distortion = 255.0**2 * torch.stack(errors).mean()
        rate = torch.stack(bits).mean() / (height * width)
        return {"loss": distortion + self.config.rate_weight * rate, "distortion": distortion, "bits_per_pixel": rate}

    def _learn(self, past: Past, frame: Tensor, field: Tensor) -> tuple[Past, Tensor, Tensor]:
        """Return what is remembered next, the squared error and the bits (B,) of one frame in the present stage."""
        net, channel = self.network, Estimate(noisy=True)
        with torch.set_grad_enabled(self.stage in ("motion", "joint") and torch.is_grad_enabled()):
            motion = net.code_motion(channel, past, field)
        if self.stage == "motion":
            error = (moved(past.frames[0], motion.refined) - frame).square().mean()
            return past.then(frame, motion.refined.detach()), error, channel.total()
        with torch.set_grad_enabled(self.stage in ("compensation", "joint") and torch.is_grad_enabled()):
            predicted = net.compensate(past, motion.refined)
        if self.stage == "compensation":
            error = (predicted.frame - frame).square().mean()
            return past.then(frame, motion.refined), error, torch.zeros_like(channel.total())
        decoded = net.code_residual(channel, predicted, frame)
        error = (decoded - frame).square().mean()
        shown = to_bytes_and_back(decoded)
        return past.then(shown if self.stage == "joint" else shown.detach(), motion.refined), error, channel.total()

    @property
    def quality(self) -> int:
        """JPEG's of first frames."""
        return QUALITIES[self.config.rate_weight]

    def _door(self, frames: Tensor) -> Tensor:
        return frames.float() / 255.0 if frames.dtype == torch.uint8 else frames

    def metrics(self, predicted: Seen, truth: Seen) -> dict[str, Tensor]:
        """Return "psnr" in dB."""
        return {"psnr": psnr(predicted["rgb"], truth["rgb"])}


def _past(state: State, rows: Tensor) -> Past:
    return Past(tuple(state["frames"][rows].unbind(dim=1)), tuple(state["fields"][rows].unbind(dim=1)))
