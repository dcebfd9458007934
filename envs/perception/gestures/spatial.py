"""The spatial multi-cue module of STMC (arXiv:2002.03187): each frame as full picture, hands, face and pose.

A VGG-like backbone in three parts. Crops are cut from the map after `stem`, around key points that a pose branch finds
in what follows `middle`: two deconvolutions to heat maps, then a soft-argmax over plain logits,

    p_k = sum_ij softmax(h_k)_ij (x_ij, y_ij)

which has neither a temperature nor a ReLU before it: that would draw key points to the middle. Hands share weights.
Places of crops are whole pixels, so no gradient reaches key points through them; the pose cue has one.

Coordinates are in [-1, 1], x to the right, y down; a map's cells stand for their middles, so x of column j of w is
(2 j + 1) / w - 1.

Shapes: F frames, K key points, C channels, h x w cells of a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsuite.errors import require, require_choice
from rlsuite.nn.vision.doors import FromBytes

Convolution = TypeVar("Convolution", nn.Conv2d, nn.ConvTranspose2d)
CUES = ("full", "hands", "face", "pose")
POOL = 0  # in lists of widths: max pooling by 2


@dataclass(frozen=True, kw_only=True)
class SpatialConfig:
    """The spatial module; the defaults are the paper's, whose frames are 224 x 224.

    Attributes:
        stem: widths of the first 3x3 convolutions (VGG-11's conv1 to conv4), 0 a pooling by 2; crops are cut after it.
        middle: conv5 to conv7; the pose branch begins after it.
        top: conv8 and conv9; their mean over the picture is the cue "full".
        keypoints: K.
        pose_width: channels between the two deconvolutions.
        hands: key points that the crops of the cue "hands" lie around; they share weights.
        face: key point that the crop of the cue "face" lies around.
        hand_crop: side of a hand's crop in cells of the stem's map.
        face_crop: of the face's.
        crop_width: channels of the two convolutions over a crop.
        pose_cue: width of the cue "pose".
        cues: which are used, in their order.
        anchors: (x, y) of fixed places for the crops, those of `hands` and then that of `face`, in [-1, 1]; empty for
            the key points, as the paper has it.
        normalize: whether each cue is batch-normalized over the frames before time is looked at. The paper does not say
            so, but begins with VGG's learned weights; without them cues are nearly the same in every frame at first,
            and CTC stays where it writes nothing.
    """

    stem: tuple[int, ...] = (64, 0, 128, 0, 256, 256)
    middle: tuple[int, ...] = (0, 512, 512, 0, 512)
    top: tuple[int, ...] = (512, 512)
    keypoints: int = 7
    pose_width: int = 256
    hands: tuple[int, ...] = (5, 6)
    face: int = 0
    hand_crop: int = 24
    face_crop: int = 16
    crop_width: int = 256
    pose_cue: int = 256
    cues: tuple[str, ...] = CUES
    anchors: tuple[tuple[float, float], ...] = ()
    normalize: bool = False

    def __post_init__(self) -> None:
        for name in ("stem", "middle", "top"):
            widths = getattr(self, name)
            require(min(widths, default=0) >= 0 < max(widths, default=0), f"{name}={list(widths)}: use widths, 0 pools")
        for name in ("keypoints", "pose_width", "hand_crop", "face_crop", "crop_width", "pose_cue"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        for cue in self.cues:
            require_choice("cues", cue, CUES)
        require(
            bool(self.cues) and list(self.cues) == sorted(set(self.cues), key=CUES.index),
            f"cues={list(self.cues)}: name one or more of {', '.join(CUES)}, each once, in this order",
        )
        for place in (*self.hands, self.face):
            require(0 <= place < self.keypoints, f"hands, face: there is no key point {place} of {self.keypoints}")
        require(
            len(self.anchors) in (0, len(self.hands) + 1),
            f"anchors: give {len(self.hands) + 1} places, one a hand and then the face's, or none",
        )

    @property
    def sizes(self) -> dict[str, int]:
        """How many numbers each cue has a frame."""
        last = [width for width in self.top if width != POOL][-1]
        all_cues = (last, self.crop_width * len(self.hands), self.crop_width, self.pose_cue)
        return {cue: size for cue, size in zip(CUES, all_cues, strict=True) if cue in self.cues}


def soft_argmax(logits: Tensor) -> Tensor:
    """Return the mean places (F, K, 2), x and y, under the softmax of heat maps (F, K, h, w), in float32."""
    height, width = logits.shape[-2:]
    share = logits.float().flatten(2).softmax(2).unflatten(2, (height, width))
    x = (share.sum(2) * cell_places(width, share.device)).sum(2)
    y = (share.sum(3) * cell_places(height, share.device)).sum(2)
    return torch.stack([x, y], dim=2)


def cell_places(count: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the coordinates of cells' middles, (count,) in [-1, 1]."""
    return (2.0 * torch.arange(count, device=device) + 1.0) / count - 1.0


def crops(maps: Tensor, centres: Tensor, side: int) -> Tensor:
    """Cut a square around a place of each map, moved to lie inside: (F, C, side, side).

    Args:
        maps: (F, C, h, w).
        centres: (F, 2) x and y; no gradient goes to them.
        side: in cells, no more than h and w.
    """
    cut = maps
    for axis, length in ((0, maps.shape[3]), (1, maps.shape[2])):
        first = ((centres[:, axis].detach() + 1.0) * (length / 2.0) - side / 2.0).round().clamp(0, length - side)
        places = first.long().unsqueeze(1) + torch.arange(side, device=maps.device)
        # A product with zeros and ones picks cells exactly, and its gradient is faster than an index's.
        chosen = functional.one_hot(places, length).to(maps.dtype).unsqueeze(1)
        cut = cut @ chosen.mT if axis == 0 else chosen @ cut
    return cut


class SpatialMultiCue(nn.Module):
    """Frames to cues and key points.

    Args:
        config: its numbers.

    Attributes:
        config: as given.
    """

    def __init__(self, config: SpatialConfig) -> None:
        super().__init__()
        self.config = config
        self.door = FromBytes()
        self.stem, after_stem = _convolutions(3, config.stem)
        self.middle, after_middle = _convolutions(after_stem, config.middle)
        self.pose = PoseBranch(after_middle, config.pose_width, config.keypoints) if _looks_for_pose(config) else None
        if "full" in config.cues:
            self.top, _ = _convolutions(after_middle, config.top)
        if "hands" in config.cues:
            self.hand, _ = _convolutions(after_stem, (config.crop_width,) * 2)
        if "face" in config.cues:
            self.face, _ = _convolutions(after_stem, (config.crop_width,) * 2)
        if "pose" in config.cues:
            self.read_pose = nn.Sequential(
                nn.Linear(2 * config.keypoints, config.pose_cue),
                nn.ReLU(),
                nn.Linear(config.pose_cue, config.pose_cue),
                nn.ReLU(),
            )

        self.normalize = nn.ModuleList(nn.BatchNorm1d(size) for size in config.sizes.values() if config.normalize)

    def forward(self, frames: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Return the cues (F, size) each, and the key points (F, K, 2), or None where nothing looks for them.

        Args:
            frames: (F, 3, H, W), bytes or in [0, 1].
        """
        config = self.config
        stem = self.stem(2.0 * self.door(frames) - 1.0)
        middle = self.middle(stem) if self.pose is not None or "full" in config.cues else stem
        keypoints = self.pose(middle) if self.pose is not None else None
        found: list[Tensor] = []
        if "full" in config.cues:
            found.append(self.top(middle).mean((2, 3)))
        if "hands" in config.cues:
            around = [self._centre(place, keypoints, stem) for place in range(len(config.hands))]
            cut = torch.cat([crops(stem, centre, config.hand_crop) for centre in around])
            read = self.hand(cut).mean((2, 3))
            found.append(torch.cat(read.chunk(len(around)), dim=1))
        if "face" in config.cues:
            centre = self._centre(len(config.hands), keypoints, stem)
            found.append(self.face(crops(stem, centre, config.face_crop)).mean((2, 3)))
        if "pose" in config.cues:
            assert keypoints is not None
            found.append(self.read_pose(keypoints.flatten(1)))
        if self.normalize:
            found = [layer(cue) for layer, cue in zip(self.normalize, found, strict=True)]
        return found, keypoints

    def _centre(self, place: int, keypoints: Tensor | None, like: Tensor) -> Tensor:
        """Return where the crop number `place` lies, (F, 2)."""
        if self.config.anchors:
            return like.new_tensor(self.config.anchors[place]).expand(len(like), 2)
        assert keypoints is not None
        return keypoints[:, (*self.config.hands, self.config.face)[place]]


class PoseBranch(nn.Module):
    """Two deconvolutions to heat maps of four times the side, and their soft-argmax.

    Args:
        channels: of the map it reads.
        width: between the deconvolutions.
        keypoints: K.
    """

    def __init__(self, channels: int, width: int, keypoints: int) -> None:
        super().__init__()
        self.first = _started(nn.ConvTranspose2d(channels, width, 4, stride=2, padding=1))
        self.second = _started(nn.ConvTranspose2d(width, keypoints, 4, stride=2, padding=1))

    def forward(self, maps: Tensor) -> Tensor:
        """Return key points (F, K, 2) of maps (F, C, h, w)."""
        return soft_argmax(self.second(functional.relu(self.first(maps))))


def _looks_for_pose(config: SpatialConfig) -> bool:
    crops_need_it = not config.anchors and ("hands" in config.cues or "face" in config.cues)
    return "pose" in config.cues or crops_need_it


def _convolutions(channels: int, widths: Sequence[int]) -> tuple[nn.Sequential, int]:
    """Return 3x3 convolutions with ReLUs and poolings, without normalization (the paper's VGG-11), and their width."""
    layers: list[nn.Module] = []
    for width in widths:
        if width == POOL:
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [_started(nn.Conv2d(channels, width, 3, padding=1)), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers), channels


def _started(layer: Convolution) -> Convolution:
    """Begin as VGG does without weights from elsewhere: with He's variance, so that depth keeps the signal's size."""
    height, width = layer.kernel_size
    adds = layer.in_channels * height * width
    if isinstance(layer, nn.ConvTranspose2d):
        adds //= layer.stride[0] * layer.stride[1]  # so many inputs an output sees; torch's own start divides by others
    nn.init.normal_(layer.weight, std=(2.0 / adds) ** 0.5)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
