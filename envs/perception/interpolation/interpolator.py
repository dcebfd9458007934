"""What all interpolators share: two frames kept, cuts that nothing is made across, and frames at any time.

Shapes: B batch, H and W sides of a picture; pictures (B, 3, H, W) float32 in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from envs.perception.perceiver import Perceiver, Seen, State
from rlsuite.errors import require_finite
from rlsuite.metrics.pictures import psnr, ssim

SMALL = 32  # side of the pictures on which two frames are compared, as in the official code


@dataclass(frozen=True, kw_only=True)
class InterpolatorConfig:
    """What all interpolators have.

    Attributes:
        cut_below: two frames whose likeness (SSIM of both at 32x32, pans undone) is below this are of different scenes:
            the nearer one is shown in between. -1 for never.
    """

    cut_below: float = 0.2

    def __post_init__(self) -> None:
        require_finite("cut_below", self.cut_below)


def likeness(first: Tensor, second: Tensor) -> Tensor:
    """Return the SSIM (B,) of pictures (B, 3, H, W), both at 32x32; above 0.996 the second only repeats the first."""
    return ssim(_small(first), _small(second))


def scene_likeness(first: Tensor, second: Tensor) -> Tensor:
    """Return how much two pictures (B, 3, H, W) may be of one scene, (B,); below 0.2 they are of two.

    The official video script takes the likeness itself, for which a pan over fine texture is a cut. Here the second
    picture may also be shifted over the first one, by what phase correlation finds (Kuglin & Hines 1975); what leaves
    at one side comes in at the other.
    """
    one, other = _small(first), _small(second)
    spectra = [torch.fft.rfft2(planes.sum(dim=1) - planes.sum(dim=1).mean((1, 2), True)) for planes in (one, other)]
    cross = spectra[0] * spectra[1].conj()
    peak = torch.fft.irfft2(cross / cross.abs().clamp_min(1e-9), s=(SMALL, SMALL)).flatten(1).argmax(dim=1)
    places = torch.arange(SMALL, device=one.device)
    rows = (places - (peak // SMALL).unsqueeze(1)) % SMALL
    columns = (places - (peak % SMALL).unsqueeze(1)) % SMALL
    batch = torch.arange(len(other), device=one.device).view(-1, 1, 1)
    shifted = other.permute(0, 2, 3, 1)[batch, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)
    return torch.maximum(ssim(one, other), ssim(one, shifted))


def _small(pictures: Tensor) -> Tensor:
    return functional.adaptive_avg_pool2d(pictures.float(), SMALL)


class Interpolator(Perceiver):
    """Shows what was one camera frame ago: the frame then, or one in between that one and the newest.

    A concrete one has `between`. Each pair of frames is judged by itself, so that a cut spoils no other pair.
    """

    Config = InterpolatorConfig
    lookahead = 1

    def between(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        """Return the frame (B, 3, H, W) at time (B,) in (0, 1) from the first to the second, whatever they show."""
        raise NotImplementedError

    def interpolated(self, first: Tensor, second: Tensor, time: Tensor) -> Tensor:
        """Return the frame at time (B,) in [0, 1]; across a cut the nearer of both, at 0 and 1 the frame itself."""
        found = self.between(first, second, time).clamp(0.0, 1.0)
        kept = (time <= 0.0) | (time >= 1.0) | (scene_likeness(first, second) < self.config.cut_below)
        nearer = torch.where(_rows(time < 0.5), first, second)
        return torch.where(_rows(kept), nearer, found)

    def init_state(self, batch: int, size: tuple[int, int]) -> State:
        """Return no frames: `seen` is how many camera frames an episode has had, 2 at most."""
        device = next((value.device for value in self.network.parameters()), torch.device("cpu"))
        blank = torch.zeros(batch, 3, *size, device=device)
        return {"first": blank, "second": blank.clone(), "seen": torch.zeros(batch, dtype=torch.int64, device=device)}

    def forward(self, seen: Seen, state: State) -> tuple[Seen, State]:
        """Return "rgb" as it was one camera frame ago; see Perceiver."""
        rgb, phase = seen["rgb"], seen["phase"]
        fresh, new = phase == 0.0, state["seen"] == 0
        first = torch.where(_rows(fresh), torch.where(_rows(new), rgb, state["second"]), state["first"])
        second = torch.where(_rows(fresh), rgb, state["second"])
        number = (state["seen"] + fresh.long()).clamp(max=2)
        shown = first.clone()
        # Most rows show a frame that is there already, and a network would take as long over them.
        rows = ((number == 2) & ~fresh).nonzero().squeeze(1)
        if len(rows):
            shown[rows] = self.interpolated(first[rows], second[rows], phase[rows])
        return {"rgb": shown}, {"first": first, "second": second, "seen": number}

    def metrics(self, predicted: Seen, truth: Seen) -> dict[str, Tensor]:
        """Return "psnr" in dB and, from sides of 11 on, "ssim"."""
        found = {"psnr": psnr(predicted["rgb"], truth["rgb"])}
        if min(truth["rgb"].shape[-2:]) >= 11:
            found["ssim"] = ssim(predicted["rgb"], truth["rgb"])
        return found


def _rows(condition: Tensor) -> Tensor:
    return condition.view(-1, 1, 1, 1)
