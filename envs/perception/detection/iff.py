"""Inference-aware feature filtering (iffDetector, arXiv:2006.12708): a head's own predictions clean its features.

    y1 = h(x)    x' = x + back(phi(y1))    y2 = h(x')

Raw predictions of a dense head go through one convolution back to the features' width and are added to them; the same
head looks again, and what it then says is the result. Nothing is detached: gradients flow through both passes. The
paper calls it a negative feedback, by Fourier analysis; nothing in its code enforces the sign, training finds it, and
`diagnose` says what it found.

`PUBLISHED` has the forms of the official heads: FoveaBox's; RetinaNet's and FreeAnchor's; YOLOv2's, where only the last
1x1 predictor is run twice; and those of SSD and CenterNet, which feed back classes alone.

Shapes: B pictures, C channels of features, P of all predictions of a cell, h x w cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsuite.errors import require, require_choice, require_finite

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "leaky": lambda: nn.LeakyReLU(0.01),
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "none": nn.Identity,
}
INITS = ("normal", "default", "zero")


class Head(Protocol):
    """A dense head: features (B, C, h, w) to prediction maps, classes first, (B, ..., h, w) each."""

    def __call__(self, features: Tensor) -> Sequence[Tensor]:
        """Return prediction maps."""
        ...


@dataclass(frozen=True, kw_only=True)
class IFFConfig:
    """How predictions come back.

    Attributes:
        iterations: times that the head looks again; 0 leaves the head as it is.
        act: of the predictions before the convolution: leaky, sigmoid, relu or none.
        after: of what comes back: leaky, sigmoid, relu or none.
        kernel: side of the convolution.
        bias: of the convolution.
        init: its first weights: normal (of 0.01), default (torch's), or zero, with which the detector starts as if
            without feedback. Its bias begins at 0 in all of them, with default, too, where torch would draw it.
        mode: add to the features, or mul: multiply them.
        feeds: all predictions, or classes alone.
        source: predictions, or features: what lies before the last layer, as many channels. The latter is a control:
            the same layers are run as often, and no prediction comes back.
        detach: the first pass learns nothing from what comes of it.
        light: the first predictions come from a 1x1 convolution of the features instead of the head.
        separate: every level has a convolution of its own.
        first_loss: weight of the same loss on the passes before the last.
    """

    iterations: int = 1
    act: str = "leaky"
    after: str = "none"
    kernel: int = 3
    bias: bool = True
    init: str = "normal"
    mode: str = "add"
    feeds: str = "all"
    source: str = "predictions"
    detach: bool = False
    light: bool = False
    separate: bool = False
    first_loss: float = 0.0

    def __post_init__(self) -> None:
        require(self.iterations >= 0, f"iterations={self.iterations}: use 0 or more")
        require(self.kernel in (1, 3, 5), f"kernel={self.kernel}: use 1, 3 or 5")
        require_choice("act", self.act, ACTIVATIONS)
        require_choice("after", self.after, ACTIVATIONS)
        require_choice("init", self.init, INITS)
        require_choice("mode", self.mode, ("add", "mul"))
        require_choice("feeds", self.feeds, ("all", "classes"))
        require_choice("source", self.source, ("predictions", "features"))
        require_finite("first_loss", self.first_loss, low=0.0)
        require(not (self.light and self.source == "features"), "light=true: it gives predictions; use them")


PUBLISHED = {
    "fovea": IFFConfig(),
    "retina": IFFConfig(act="sigmoid", bias=False, init="default"),
    "yolo": IFFConfig(act="none", after="relu", kernel=1, init="default"),
    "ssd": IFFConfig(act="sigmoid", kernel=1, feeds="classes", separate=True, init="default"),
    "centernet": IFFConfig(act="sigmoid", feeds="classes", init="default"),
}


class IFF(nn.Module):
    """A head that looks again.

    Args:
        head: see Head; with source="features" it also has `features(x)`, maps of as many channels as its predictions
            or more, in the same order, and with init="zero" and mode="mul" nothing is multiplied at first.
        channels: C.
        predictions: channels of each of the head's maps, classes first.
        config: see IFFConfig.
        levels: of features, for separate convolutions.
        seed: of the convolutions' first weights; the head keeps its own.

    Raises:
        UserError: if the head has no `features` and they are asked for.
    """

    def __init__(
        self,
        head: Head,
        channels: int,
        predictions: Sequence[int],
        config: IFFConfig,
        levels: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.head, self.config, self.predictions = head, config, tuple(predictions)
        if config.source == "features":
            require(hasattr(head, "features"), "source=features: this head has no features(x); use predictions")
        self.fed = predictions[0] if config.feeds == "classes" else sum(predictions)
        self.act, self.after = ACTIVATIONS[config.act](), ACTIVATIONS[config.after]()
        count = (levels if config.separate else 1) if config.iterations else 0
        self.back = nn.ModuleList(
            nn.Conv2d(self.fed, channels, config.kernel, padding=config.kernel // 2, bias=config.bias)
            for _ in range(count)
        )
        self.tap = nn.Conv2d(channels, sum(predictions), 1) if config.light and count else None
        generator = torch.Generator().manual_seed(seed)
        for layer in self.back:
            _draw(cast(nn.Conv2d, layer), config.init, generator)
        if self.tap is not None:
            _draw(self.tap, "normal", generator)

    def forward(self, features: Tensor, level: int = 0) -> list[Tensor]:
        """Return the last pass's prediction maps of one level's features (B, C, h, w)."""
        return self.passes(features, level)[-1]

    def passes(self, features: Tensor, level: int = 0) -> list[list[Tensor]]:
        """Return the prediction maps of every pass that predicts, the last one's last.

        Of a control that feeds features back the first pass says nothing.
        """
        found: list[list[Tensor]] = []
        filtered = features
        for number in range(self.config.iterations):
            if self.config.source == "features":
                said = self.head.features(filtered)  # type: ignore[attr-defined]
                said = [one[:, :size] for one, size in zip(said, self.predictions, strict=True)]
            else:
                said = self._said(filtered, number)
                found.append(said)
            filtered = self.filtered(features, said, level)
        return [*found, list(self.head(filtered))]

    def filtered(self, features: Tensor, said: Sequence[Tensor], level: int = 0) -> Tensor:
        """Return features (B, C, h, w) with predictions fed back into them."""
        back = self.feedback(said, level)
        if self.config.mode == "mul":
            return features * (1.0 + back if self.config.init == "zero" else back)
        return features + back

    def feedback(self, said: Sequence[Tensor], level: int = 0) -> Tensor:
        """Return what comes back of predictions, (B, C, h, w)."""
        given = torch.cat(list(said), dim=1)[:, : self.fed]
        if self.config.detach:
            given = given.detach()
        layer = self.back[level if self.config.separate else 0]
        return self.after(layer(self.act(given)))

    def _said(self, features: Tensor, number: int) -> list[Tensor]:
        if self.tap is not None and number == 0:
            return list(self.tap(features).split(self.predictions, dim=1))
        return list(self.head(features))

    @torch.no_grad()
    def diagnose(self, features: Tensor, objects: Tensor, level: int = 0, window: int = 4) -> dict[str, Tensor]:
        """Return what one round of feedback does where there is an object and where there is none.

        Args:
            features: (B, C, h, w).
            objects: (B, h, w) bool, cells in a box.
            level: of them.
            window: side of the windows whose spectra are taken, all background.

        Returns:
            0-d "ratio" of the norms of feedback and features; "cosine_background" and "cosine_objects" between both,
            means over cells, negative where feedback takes away; "background" and "objects", mean |x'| over mean |x|;
            and "spectrum" and "spectrum_filtered" (window, window // 2 + 1), mean power of x and x' by frequency over
            background windows, zeros where there is none.

        Raises:
            UserError: if nothing is fed back.
        """
        require(bool(self.config.iterations), "iterations=0: nothing is fed back; use 1 or more")
        if self.config.source == "features":
            maps = self.head.features(features)  # type: ignore[attr-defined]
            said = [one[:, :size] for one, size in zip(maps, self.predictions, strict=True)]
        else:
            said = self._said(features, 0)
        filtered = self.filtered(features, said, level)
        change = filtered - features
        cosine = functional.cosine_similarity(change, features, dim=1)  # (B, h, w)
        found = {"ratio": change.norm() / features.norm().clamp_min(1e-12)}
        before, after = features.abs().mean(1), filtered.abs().mean(1)
        for name, here in (("background", ~objects), ("objects", objects)):
            count = here.sum().clamp_min(1)
            found[f"cosine_{name}"] = (cosine * here).sum() / count
            found[name] = (after * here).sum() / (before * here).sum().clamp_min(1e-12)
        empty = functional.max_pool2d(objects.float().unsqueeze(1), window, window).flatten(1) == 0  # (B, windows)
        for name, maps in (("spectrum", features), ("spectrum_filtered", filtered)):
            cut = functional.unfold(maps, window, stride=window).unflatten(1, (maps.shape[1], window, window))
            power = torch.fft.rfft2(cut.movedim(-1, 1)).abs().square().mean(2)  # (B, windows, window, half)
            found[name] = (power * empty[..., None, None]).sum((0, 1)) / empty.sum().clamp_min(1)
        return found


def _draw(layer: nn.Conv2d, init: str, generator: torch.Generator) -> None:
    if init == "zero":
        nn.init.zeros_(layer.weight)
    elif init == "normal":
        nn.init.normal_(layer.weight, std=0.01, generator=generator)
    else:
        nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5.0), generator=generator)  # as torch draws convolutions
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
