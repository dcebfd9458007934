"""Atoms: hidden channels, or units, that stand on their own, and how they are cut out while a network learns.

A block of 1 x 1, k x k and 1 x 1 convolutions is the sum of its hidden channels' parts (AtomNAS, arXiv:1912.09640,
section 3.1), as a hidden layer of a policy is of its units'. Each has a scale: that of the normalization behind the
k x k convolution, or of a `rlsuite.nn.gate.Gate`. One whose scale is 0 is a constant, which goes into the next
normalization's mean when the atom is taken out.

Shapes: H atoms of a group, C outputs of their block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from envs.evaluation.pruning.shrink import Cut, axes_of, shrink_layer, take
from envs.evaluation.search.spaces.chain import InvertedResidual, atom_cost
from rlsuite.nn.gate import Gate

Tensors = Mapping[str, Tensor]
Axes = dict[str, tuple[Tensor | None, ...]]


@dataclass(frozen=True)
class Atoms:
    """Atoms of one kernel of one block, or of one hidden layer.

    Attributes:
        scale: name of their scales, (H,).
        macs: of each.
        makers: paths of layers and norms whose outputs they are.
        reader: path of the layer whose inputs they are.
        block: path of their block; "" for a hidden layer.
        kernel: of their filters, as the block names it; "" for a hidden layer.
        least: atoms that stay.
    """

    scale: str
    macs: int
    makers: tuple[str, ...]
    reader: str
    block: str = ""
    kernel: str = ""
    least: int = 1

    def cuts(self, keep: Tensor) -> dict[str, Cut]:
        """Return what each layer keeps where these atoms stay, by its path."""
        return {**{path: Cut(keep, keep) for path in self.makers[1:]}, self.makers[0]: Cut(None, keep)} | {
            self.reader: Cut(keep, None)
        }


def find_atoms(module: nn.Module) -> list[Atoms]:
    """Return the atoms of all inverted residual blocks and all gated layers, in the order of the network."""
    found = []
    for path, part in module.named_modules():
        if isinstance(part, InvertedResidual):
            for kernel in part.widen:
                inside = [f"{path}.{room}.{kernel}.{place}" for room in ("widen", "filter") for place in (0, 1)]
                found.append(
                    Atoms(
                        scale=f"{inside[3]}.weight",
                        macs=atom_cost(part.plan, int(kernel)).macs,
                        makers=tuple(inside),
                        reader=f"{path}.narrow.{kernel}",
                        block=path,
                        kernel=kernel,
                        least=0,
                    )
                )
        elif isinstance(part, nn.Sequential) and any(isinstance(layer, Gate) for layer in part):
            prefix = f"{path}." if path else ""
            for place, layer in enumerate(part):
                if isinstance(layer, Gate):
                    before, behind = part[place - 2], part[place + 1]
                    assert isinstance(before, nn.Linear)
                    assert isinstance(behind, nn.Linear)
                    makers = (f"{prefix}{place - 2}", f"{prefix}{place}")
                    macs = before.in_features + behind.out_features
                    found.append(Atoms(f"{prefix}{place}.weight", macs, makers, f"{prefix}{place + 1}"))
    return found


def survivors(groups: Sequence[Atoms], scales: Sequence[Tensor], dead: Sequence[Tensor], module: nn.Module) -> list:
    """Return the indices of the atoms of each group that stay.

    Of a hidden layer, and of a block that changes shapes, the largest scale stays whatever it is.

    Args:
        groups: G of them.
        scales: (H,) of each.
        dead: (H,) bool of each.
        module: whose atoms they are.
    """
    alive = [~each for each in dead]
    guarded: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        block = module.get_submodule(group.block) if group.block else None
        if isinstance(block, InvertedResidual) and block.plan.keeps_shape:
            continue
        guarded.setdefault(group.block or group.scale, []).append(number)
    for members in guarded.values():
        if not any(bool(alive[number].any()) for number in members):
            best = max(members, key=lambda number: float(scales[number].abs().max()))
            alive[best][scales[best].abs().argmax()] = True
    return [each.nonzero().flatten() for each in alive]


@torch.no_grad()
def fold_constants(module: nn.Module, tensors: Tensors, group: Atoms, gone: Tensor) -> None:
    """Take what atoms of scale 0 add to their block out of the mean of the normalization behind, in place.

    Args:
        module: whose atoms they are, before they are cut.
        tensors: its state, or a copy of it such as an average.
        group: of the atoms.
        gone: indices of those that will be cut.
    """
    if not group.block or not len(gone):
        return
    block = module.get_submodule(group.block)
    assert isinstance(block, InvertedResidual)
    shift = tensors[group.scale.removesuffix("weight") + "bias"][gone]
    activation = block.filter.get_submodule(group.kernel)[2]  # type: ignore[index]
    constant = tensors[f"{group.reader}.weight"][:, gone, 0, 0] @ activation(shift)
    tensors[f"{group.block}.normalization.running_mean"].sub_(constant)


def cut_axes(module: nn.Module, groups: Sequence[Atoms], kept: Sequence[Tensor]) -> Axes:
    """Return what each tensor of a network keeps along its first axes, by its name, where atoms go."""
    found: Axes = {}
    for group, keep in zip(groups, kept, strict=True):
        for path, cut in group.cuts(keep).items():
            for name, indices in axes_of(module.get_submodule(path), cut).items():
                before = found.get(f"{path}.{name}", ())
                found[f"{path}.{name}"] = _merged(before, indices)
    return found


def _merged(one: tuple[Tensor | None, ...], other: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """Return the indices of a layer that reads one group and makes another."""
    size = max(len(one), len(other))
    first, second = ((*each, *[None] * (size - len(each))) for each in (one, other))
    return tuple(a if a is not None else b for a, b in zip(first, second, strict=True))


@torch.no_grad()
def cut_module(module: nn.Module, groups: Sequence[Atoms], kept: Sequence[Tensor]) -> None:
    """Cut atoms out of a network in place; a kernel or a block that has none left goes."""
    for group, keep in zip(groups, kept, strict=True):
        for path, cut in group.cuts(keep).items():
            shrink_layer(module.get_submodule(path), cut)
        if group.block:
            block = module.get_submodule(group.block)
            assert isinstance(block, InvertedResidual)
            block.hidden[int(group.kernel)] = len(keep)
            if not len(keep):
                del block.hidden[int(group.kernel)]
                for room in (block.widen, block.filter, block.narrow):
                    del room[group.kernel]
            if not block.hidden:
                block.normalization = None


def cut_optimizer(optimizer: torch.optim.Optimizer, before: Mapping[str, nn.Parameter], module: nn.Module, axes: Axes):
    """Let an optimizer go on with a network that has been cut: its averages are cut as the weights are.

    Args:
        optimizer: of the weights before.
        before: those, by their names.
        module: the network after the cut.
        axes: as `cut_axes` returned them.
    """
    names = {id(weight): name for name, weight in before.items()}
    after = dict(module.named_parameters())
    for settings in optimizer.param_groups:
        weights = []
        for old in settings["params"]:
            name = names[id(old)]
            state = optimizer.state.pop(old, None)
            if name not in after:
                continue
            weights.append(after[name])
            if state is not None:
                optimizer.state[after[name]] = {
                    key: take(value, axes.get(name, ()))
                    if isinstance(value, Tensor) and value.shape == old.shape
                    else value
                    for key, value in state.items()
                }
        settings["params"] = weights


def cut_tensors(tensors: Tensors, module: nn.Module, axes: Axes) -> dict[str, Tensor]:
    """Return a copy of a network's state, such as an average, as it is after the network (`module`) has been cut."""
    return {name: take(tensors[name], axes.get(name, ())).clone() for name in module.state_dict()}


def counts(module: nn.Module) -> dict[str, int]:
    """Return the atoms left of each group, by the name of its scales."""
    state = module.state_dict()
    return {group.scale: len(state[group.scale]) for group in find_atoms(module)}


def cut_to(module: nn.Module, left: Mapping[str, int]) -> None:
    """Cut a network in place to so many atoms of each group (those that are not named go): structure alone."""
    groups = find_atoms(module)
    cut_module(module, groups, [torch.arange(left.get(group.scale, 0)) for group in groups])
