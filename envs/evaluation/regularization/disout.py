"""Disout: a network learns while blocks of its features are distorted (Tang et al. 2020, arXiv:2002.11022).

Behind the layers of its last stage features are replaced, in blocks, by noise whose size the next layer's weights tell
(`distortion.py`); the share of them grows along a line from 0 over all of the learning. What is kept is the network as
it was, with other weights: nothing of this is in its file or its time.

In the paper's CIFAR networks the last stage is distorted behind each 3x3 convolution, before its BatchNorm. So the
layers are, unless they are named, the convolutions with the smallest maps, those of 1x1 left out; of a network without
convolutions, all linear layers but the last. Which layer comes next is told by one pass of an example: the first one
after it that takes in as many channels.

Departures: behind the last convolution the authors' code knows no next layer and takes w = 0.01; here the linear layer
behind it is one, as a kernel as large as the map. The paper's recipe is SGD at 0.1 with weight decay 5e-4 for 200
epochs; the default here is the suite's own for learning again.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.layer import effective_weight
from envs.evaluation.regularization.distortion import Distortion, as_kernels, relative_size
from envs.evaluation.regularization.gap import measure_gap
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, Transform, teach, teach_by_cosine
from rlsuite.errors import UserError, require, require_finite


@dataclass(frozen=True, kw_only=True)
class DisoutConfig:
    """Disout's numbers; those of its CIFAR networks, which are not the defaults of its code.

    Attributes:
        probability: p, about the share of features that is distorted at the end of the learning.
        alpha: size of the distortion; 0 is DropBlock, with block=1 Dropout.
        block: side of the squares that are distorted, clipped to the map; features of linear layers go one by one.
        layers: patterns of the paths of layers behind which features are distorted, such as body.*; [] for the last
            stage, or all hidden linear layers where nothing is convolved.
        teach: how the network learns.
    """

    probability: float = 0.09
    alpha: float = 5.0
    block: int = 6
    layers: tuple[str, ...] = ()
    teach: TeachConfig = field(default_factory=lambda: teach_by_cosine(2000, 256))

    def __post_init__(self) -> None:
        require(
            0.0 <= self.probability < 1.0, f"probability={self.probability}: use 0 or more, and less than 1, as in 0.09"
        )
        require_finite("alpha", self.alpha, low=0.0)
        require(self.block >= 1, f"block={self.block}: use 1 (single elements) or more")


class Disout(Transform):
    """Learning under distortion."""

    Config = DisoutConfig
    refuses: ClassVar = {
        "quantized": "regularize first, as in evaluation=[regularization/disout,quantization/pams]",
        "stacked": "regularize the policy of one actor",
    }

    config: DisoutConfig

    def plan(self, subject: Subject) -> dict[str, Any]:
        """Return "next": path of a layer that is distorted behind -> path of the layer that comes next, or None."""
        called = calls(subject.module, subject.example)
        return {"next": {path: next_of(called, path) for path in self.chosen(called)}}

    def chosen(self, called: list[Call]) -> list[str]:
        """Return the paths of the layers that features are distorted behind.

        Raises:
            UserError: if there is none.
        """
        if self.config.layers:
            found = [one.path for one in called if any(fnmatch.fnmatchcase(one.path, p) for p in self.config.layers)]
            known = ", ".join(one.path for one in called[:8])
            require(bool(found), f"layers={list(self.config.layers)}: no such layer; there are {known}")
            return list(dict.fromkeys(found))
        maps = [one for one in called if one.pixels > 1 and not one.pointwise and one is not called[-1]]
        if maps:
            smallest = min(one.pixels for one in maps)
            return list(dict.fromkeys(one.path for one in maps if one.pixels == smallest))
        found = list(dict.fromkeys(one.path for one in called[:-1]))
        if not found:
            raise UserError("the network has no hidden layer whose features could be distorted")
        return found

    def rebuild(self, module: nn.Module, plan: Any) -> nn.Module:
        """Return the network as it is: only its learning differs."""
        return module

    def train(self, subject: Subject, before: Subject, seed: int) -> None:
        """Let the network learn while its features are distorted, more and more of them."""
        config = self.config
        with distorting(subject.module, self.plan(before)["next"], config) as placed:

            def grow(step: int, share: float) -> None:
                for distortion in placed:
                    distortion.set_probability(config.probability * share)

            teach(subject, config.teach, seed, hooks=[grow])

    def figures(self, subject: Subject) -> dict[str, float]:
        """Return how much worse the network is on what it has not learned from."""
        return measure_gap(subject)


class Call(NamedTuple):
    """One call of a layer: its path, channels (or features) in and out, pixels of its map, and its kind."""

    path: str
    takes: int
    gives: int
    pixels: int
    pointwise: bool
    linear: bool


def calls(module: nn.Module, example: Tensor) -> list[Call]:
    """Return the convolutions and linear layers of a network in the order in which an example passes them."""
    found: list[Call] = []

    def see(path: str, layer: nn.Module):
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            linear = isinstance(layer, nn.Linear)
            if linear and output.dim() != 2:
                return  # tokens: neither features of an example nor a map
            pointwise = not linear and effective_weight(layer)[0, 0].numel() == 1
            found.append(Call(path, inputs[0].shape[1], output.shape[1], output[0, 0].numel(), pointwise, linear))

        return hook

    layers = {path: part for path, part in module.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}
    handles = [part.register_forward_hook(see(path, part)) for path, part in layers.items()]
    try:
        with torch.no_grad():
            module(example)
    finally:
        for handle in handles:
            handle.remove()
    return found


def next_of(called: list[Call], path: str) -> str | None:
    """Return the first layer called after another that takes in its channels; None if none does."""
    place = next(place for place, one in enumerate(called) if one.path == path)
    maker = called[place]
    for other in called[place + 1 :]:
        flattened = other.linear and not maker.linear and other.takes == maker.gives * maker.pixels
        if other.takes == maker.gives or flattened:
            return other.path
    return None


@contextlib.contextmanager
def distorting(
    module: nn.Module, following: Mapping[str, str | None], config: DisoutConfig
) -> Iterator[list[Distortion]]:
    """Distort features behind layers for a while, whenever these are in training mode.

    Args:
        module: whose layers they are.
        following: path of a layer -> path of the next, or None.
        config: how; p is 0 until it is set.

    Yields:
        The distortions, on the network's device.
    """
    placed, handles = [], []

    def behind(distortion: Distortion):
        def hook(layer: nn.Module, _: object, output: Tensor) -> Tensor:
            return distortion.distorted(output) if layer.training else output

        return hook

    try:
        for path, after in following.items():
            layer = module.get_submodule(path)
            weight = None if after is None else functools.partial(_taken_in, module.get_submodule(after))
            device = next(layer.parameters()).device
            distortion = Distortion(0.0, config.alpha, config.block, weight).to(device)
            placed.append(distortion)
            handles.append(layer.register_forward_hook(behind(distortion)))
        yield placed
    finally:
        for handle in handles:
            handle.remove()


def _taken_in(layer: nn.Module) -> Tensor:
    """Return a layer's weights as (outputs, channels in, ...): of each group's channels, with its own outputs."""
    weight, groups = effective_weight(layer), getattr(layer, "groups", 1)
    if groups == 1:
        return weight
    by_group = weight.view(groups, len(weight) // groups, *weight.shape[1:]).transpose(0, 1)
    return by_group.reshape(len(weight) // groups, groups * weight.shape[1], *weight.shape[2:])


def relative_sizes(module: nn.Module, following: Mapping[str, str | None], alpha: float) -> dict[str, float]:
    """Return how large distortions are beside the spread of the features they replace, by path.

    It depends on the size of weights, so that BatchNorm behind a layer and weight decay change it; above about 1 a
    smaller alpha is better.
    """
    found = {}
    for path, after in following.items():
        weight = None
        if after is not None:
            channels = effective_weight(module.get_submodule(path)).shape[0]
            weight = as_kernels(_taken_in(module.get_submodule(after)), channels)
        found[path] = relative_size(weight, alpha)
    return found
