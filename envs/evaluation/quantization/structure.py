"""Structured knowledge transfer: where in a picture a network's features are strong (arXiv:2011.04212).

Shapes: B batch, C channels, H x W pixels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsuite.errors import require
from rlsuite.nn.vision.edsr import EDSR


def structure_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean square difference () of two feature maps' (B, C, H, W) spatial attention.

    Attention is the mean over channels of squares, normalized over the pixels of each picture. The paper writes a sum;
    the authors' code takes the mean, which their weight of 1000 goes with.
    """

    def attention(features: Tensor) -> Tensor:
        return functional.normalize(features.square().mean(1).flatten(1), dim=1)

    return (attention(student) - attention(teacher)).square().mean()


def compared_features(module: nn.Module, example: Tensor, named: str) -> str:
    """Return the path of the module that the compared feature maps go into.

    Args:
        module: the network.
        example: (1, ...) an input of it.
        named: the path; "" finds EDSR's tail, or the first module that flattens.

    Returns:
        The path; "" where none is named and what is found takes in no maps.

    Raises:
        UserError: if what is named is not there, or takes in no maps (B, C, H, W).
    """
    paths = [path for path, _ in module.named_modules() if path]
    require(
        not named or named in paths, f"features={named}: the network has no such module; it has {', '.join(paths)[:80]}"
    )
    path = named or _usual(module)
    if not path:
        return ""
    with caught(module, path) as found, torch.no_grad():
        module(example)
    if found and found[-1].dim() == 4:
        return path
    require(not named, f"features={named}: no maps (B, C, H, W) go into it; name another module, or leave this out")
    return ""


def _usual(module: nn.Module) -> str:
    for path, part in module.named_modules():
        if isinstance(part, EDSR):
            return f"{path}.tail".lstrip(".")
        if isinstance(part, nn.Flatten):
            return path
    return ""


@contextlib.contextmanager
def caught(module: nn.Module, path: str) -> Iterator[list[Tensor]]:
    """Give a list that holds what last went into a module of a network."""
    found: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found[:] = [inputs[0]]

    handle = module.get_submodule(path).register_forward_pre_hook(keep)
    try:
        yield found
    finally:
        handle.remove()
