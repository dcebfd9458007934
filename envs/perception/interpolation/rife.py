"""RIFE: real-time intermediate flow estimation (Huang et al. 2022, arXiv:2011.06294), the final version whole.

A network goes from two frames and a time straight to the flow from the frame in between to both, blends both frames
warped by it, and corrects the blend; while it learns, a teacher that sees the true frame shows its blocks better flow
("privileged distillation"). Any time in between is learned as the paper's RIFE_m; the large variant, the test-time
average over a picture turned by 180 degrees ("2T"), and working at other scales for large or small pictures are
numbers of the config.

The first version of the paper had another network's flow for a teacher ("leakage distillation"); it is not here. The
defaults are a small network that learns and runs on a CPU; widths=[240,150,90], context=16 is the paper's.

Shapes: B batch, H and W sides of a picture; pictures (B, 3, H, W) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from envs.painting.pictures import picture_pool
from envs.perception.interpolation.ifnet import Teacher
from envs.perception.interpolation.interpolator import Interpolator, InterpolatorConfig
from envs.perception.interpolation.losses import distillation, flow_error, laplacian_difference
from envs.perception.interpolation.moving import MovingPictures
from envs.perception.interpolation.network import RIFENet, RIFENetConfig, draw
from envs.perception.interpolation.sequences import Sequences
from envs.perception.interpolation.variety import Views
from rlsuite.data.arrays import kept as keep
from rlsuite.data.clips import Clip, clips_in
from rlsuite.data.source import Source
from rlsuite.errors import require, require_finite
from rlsuite.running.seeding import derive_seed

SHIPPED = Path(__file__).parent / "shipped" / "rife.safetensors"
HALVINGS = 4  # of weights that know the middle only: other times become the nearest sixteenth
COARSE = (0.5, 0.7, 0.92)  # shares of the minibatches after which one block more learns, and then everything
TEXTURE, PICTURES, LEAST_CROP = 192, 400, 0.3  # side and number of still pictures; smallest share of a picture's side
FINENESSES = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, kw_only=True)
class RIFEConfig(InterpolatorConfig):
    """RIFE's numbers.

    Attributes:
        weights: a file that train_perceiver.py wrote; default the suite's own.
        network: its sizes.
        distillation: weight of the teacher's flow; the paper's is 0.01, the official code's for any time 0.005 or
            0.002. 0 learns without a teacher.
        true_flow: weight of the distance to the true flow, for examples that know it, such as pictures that we move
            ourselves: the blocks then need no teacher to show them flow, and learn in a fraction of the time. 0, as in
            the paper, for those that do not.
        coarse_first: with true_flow, the blocks learn flow one after another, the coarsest first, and the whole network
            in the last minibatches alone: coarse blocks cost a tenth. In the paper all learn at once.
        turned: average with the picture turned by 180 degrees: twice the time.
        fineness: 0.5 or 0.25 looks at large pictures (4K) from further away, 2 or 4 finds small things that move.
    """

    weights: str = ""
    network: RIFENetConfig = field(default_factory=RIFENetConfig)
    distillation: float = 0.005
    true_flow: float = 0.0
    coarse_first: bool = False
    turned: bool = False
    fineness: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_finite("distillation", self.distillation, low=0.0)
        require_finite("true_flow", self.true_flow, low=0.0)
        require(not self.coarse_first or self.true_flow > 0, "coarse_first=true: it needs true_flow=, such as 0.05")
        require(self.fineness in FINENESSES, f"fineness={self.fineness}: use 0.25, 0.5, 1, 2 or 4")


class RIFE(Interpolator):
    """Frames in between by RIFE.

    Args:
        config: see RIFEConfig.
        seed: of the first weights.

    Attributes:
        network: what the frames come from.
        teacher: the block that only learning needs.
    """

    Config = RIFEConfig
    shipped = str(SHIPPED) if SHIPPED.is_file() else ""

    def __init__(self, *, config: RIFEConfig, seed: int = 0) -> None:
        super().__init__(config=config)
        sizes = config.network
        self.network: RIFENet = RIFENet(sizes, derive_seed(seed, "network"))
        self.teacher = Teacher(sizes.widths[-1], sizes.timed, sizes.large)
        draw(self.teacher, derive_seed(seed, "teacher"))
        self._share = 1.0

    def between(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        """Return the frame at time (B,); weights that know the middle only get there by halving."""
        if self.config.network.timed:
            return self._once(first, second, time)
        for _ in range(HALVINGS):
            middle, late = self._once(first, second, torch.full_like(time, 0.5)), (time >= 0.5).view(-1, 1, 1, 1)
            first, second = torch.where(late, middle, first), torch.where(late, second, middle)
            time = torch.where(time >= 0.5, 2.0 * time - 1.0, 2.0 * time)
            if bool((time == 0.0).all()):  # a time that is reached is its interval's first frame
                break
        return torch.where((time < 0.5).view(-1, 1, 1, 1), first, second)

    def _once(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        fineness = self.config.fineness
        frame = self.network(first, second, time, fineness)
        if self.config.turned:
            turned = self.network(first.flip((2, 3)), second.flip((2, 3)), time, fineness)
            frame = 0.5 * (frame + turned.flip((2, 3)))
        return frame

    def source(self, data: str, size: int, seed: int, clips: Sequence[Tensor] = (), kept: int = 0) -> Source:
        """Return examples of "first", "middle", "second" and "time".

        Of clips, three of seven frames; else moving layers of still pictures: those of a folder, "scenes" (self-made)
        or "skimage" (scikit-image's and as many scenes), which "" is. A folder of clips is read as clips.
        """
        timed = self.config.network.timed
        drawn = data in ("", "skimage", "scenes")
        found: Sequence[Clip] = clips or ([] if drawn else clips_in(data))
        if found:
            source: Source = Sequences(found, size, seed=seed, timed=timed)
        else:
            pool = picture_pool(data or "skimage", TEXTURE, PICTURES, LEAST_CROP, "train")
            source = MovingPictures(pool, size, seed=seed, timed=timed)
        return Views(keep(source, kept), derive_seed(seed, "views")) if kept else source

    def progress(self, share: float) -> None:
        """Take note of which share of a training is done; it matters with coarse_first."""
        self._share = share

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the paper's loss (section 3.4) of "first", "middle", "second" (B, 3, H, W), H and W of 33 or more.

        Beside "loss" are its parts: "reconstruction" and "teacher" (of Laplacian pyramids), "distillation"
        (section 3.3) and, with the examples' "flow" (B, 4, H, W), "end_point_error", the stages' mean, in pixels, all
        before their weights. "time" (B,) is told to a network that is timed.
        """
        known = not self.config.true_flow or "flow" in batch
        require(known, "true_flow= is for examples that know their flow, and these do not; leave it out")
        door, time = self.network.door, batch["time"]
        first, middle, second = (_padded(door(batch[name])) for name in ("first", "middle", "second"))
        if self.config.coarse_first and self._share < COARSE[-1]:
            blocks = 1 + sum(self._share >= share for share in COARSE)
            stages = self.network.flow_net(first, second, time, blocks=min(blocks, len(self.config.network.widths)))
            error = flow_error(stages, batch["flow"])
            return {"loss": self.config.true_flow * error, "end_point_error": error / len(stages)}
        found = self.network.find(first, second, time)
        parts = {"reconstruction": laplacian_difference(found.frame, middle)}
        loss = parts["reconstruction"]
        if self.config.distillation:
            teacher = self.teacher(first, second, time, found.stages[-1], middle)
            parts["teacher"] = laplacian_difference(teacher.blend, middle)
            parts["distillation"] = distillation(found.stages, teacher, middle)
            loss = loss + parts["teacher"] + self.config.distillation * parts["distillation"]
        if self.config.true_flow:
            error = flow_error(found.stages, batch["flow"])
            parts["end_point_error"] = error / len(found.stages)
            loss = loss + self.config.true_flow * error
        return {"loss": loss, **parts}

    def flow(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        """Return the flow (B, 4, H, W) from the frame in between to both, in pixels; sides are multiples of 32."""
        return self.network.find(self.network.door(first), self.network.door(second), time).stages[-1].flow


def _padded(pictures: Tensor) -> Tensor:
    height, width = pictures.shape[2:]
    return functional.pad(pictures, (0, -width % 32, 0, -height % 32), mode="replicate")
