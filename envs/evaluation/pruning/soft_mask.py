"""Masks that are learned: a number on every channel, drawn to zero while the network imitates what it was.

The base of CoGD's pruning is generative adversarial learning of structure (GAL, Lin et al. 2019, arXiv:1903.09291): a
student with masks m_j >= 0 starts as its teacher; a discriminator learns to tell the outputs of the two apart and the
student to be taken for the teacher,

    discriminator: BCE(D(t), 1) + BCE(D(s), 0) + BCE(D(s), 1)      (the last is its adversarial regularization)
    student:       imitation * mean squared (t - s) + BCE(D(s), 1) + sparsity * |m|_1

Weights go by SGD at every minibatch, masks by FISTA at every `mask_every`-th. The discriminator is, as in their code,
three linear layers of 128, 256 and 128 numbers with nothing between them. Labels are not used.

Masks begin normally distributed, as in that code, but not below zero: there half of them, the negative ones, become
zero with the first step, and the draw decides much of what is left. Or all begin at 1, and the student as its teacher;
then nothing but gradients tells channels apart, and as weights grow where masks shrink all may fall to zero together.

Departures: the masks' l1 norm acts through FISTA's threshold alone, where the code also adds its gradient; the teacher
is in evaluation mode.

A mask acts behind the layer's norm and before its activation. It is not below zero, so it could stand behind a ReLU as
well, and in the end it is multiplied into the norm, or into the layer where there is none: what has learned is then an
ordinary network. Channels of zero masks are to be cut; one that stays, as two of each layer must, keeps its weights.

Shapes: B batch, C channels of a group, O numbers that the network returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.evaluation.pruning.graph import Coupling, Group
from rlsuite.errors import require
from rlsuite.running.seeding import derive_seed

LARGEST = 4096  # numbers that a discriminator looks at
WIDTHS = (128, 256, 128)
STARTS: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "normal": lambda size, generator: torch.randn(size, generator=generator).clamp_min(0.0),
    "ones": lambda size, generator: torch.ones(size),
}


class Student(nn.Module):
    """A network with masks on its channels, and the discriminator beside it.

    Args:
        network: changed in place: what its layers make is multiplied by masks until `fold`.
        coupling: of the network.
        groups: those that are masked, by name.
        outputs: O.
        start: of the masks, a key of STARTS.
        seed: of the discriminator's weights, and of the masks.

    Attributes:
        masks: (C,) of each group, in the order of `names`.
        names: of the groups.
    """

    def __init__(
        self,
        network: nn.Module,
        coupling: Coupling,
        groups: Mapping[str, Group],
        outputs: int,
        start: str,
        seed: int,
    ) -> None:
        super().__init__()
        require(outputs <= LARGEST, f"it returns {outputs} numbers, too many to imitate; prune by pruning/l1")
        self.network, self.groups = network, dict(groups)
        self.names = list(groups)
        like = next(network.parameters())
        generator = torch.Generator().manual_seed(derive_seed(seed, "masks"))
        drawn = [STARTS[start](group.size, generator).to(like) for group in groups.values()]
        self.masks = nn.ParameterList(nn.Parameter(mask) for mask in drawn)
        self.places = {
            name: [_place(network, coupling, path) for path in group.makers] for name, group in groups.items()
        }
        self.discriminator = _discriminator(outputs, seed).to(like.device)
        self._handles = [
            network.get_submodule(path).register_forward_hook(self._hook(mask))
            for mask, name in zip(self.masks, self.names, strict=True)
            for path in self.places[name]
        ]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return what the masked network makes of inputs (B, ...)."""
        return self.network(inputs)

    def makers(self, name: str) -> list[nn.Parameter]:
        """Return the weights (C, ...) of the layers that make a group's channels."""
        found = (self.network.get_submodule(path).weight for path in self.groups[name].makers)
        return [weight for weight in found if isinstance(weight, nn.Parameter)]

    def imitation_loss(self, inputs: Tensor, wanted: Tensor, weight: float) -> dict[str, Tensor]:
        """Return the student's losses for inputs (B, ...) and what the teacher says of them."""
        said = self(inputs)
        error = functional.mse_loss(said, wanted)
        taken = _entropy(self.discriminator(said.flatten(1)), real=True)
        return {"loss": weight * error + taken, "imitation": error, "taken": taken}

    def discriminator_loss(self, inputs: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """Return the discriminator's loss for the same."""
        with torch.no_grad():
            said = self(inputs)
        of_teacher, of_student = (self.discriminator(each.flatten(1)) for each in (wanted, said))
        real = _entropy(of_teacher, real=True)
        return {"loss": real + _entropy(of_student, real=False) + _entropy(of_student, real=True)}

    @torch.no_grad()
    def fold(self) -> nn.Module:
        """Return the network without masks, which are now in its weights.

        Weights behind a mask of zero stay as they are: such a channel is cut, or begins again. Were they zero, too,
        no gradient would reach it behind a ReLU.
        """
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for mask, name in zip(self.masks, self.names, strict=True):
            factor = torch.where(mask > 0.0, mask, 1.0)
            for path in self.places[name]:
                part: Any = self.network.get_submodule(path)
                part.weight.mul_(factor.view(-1, *[1] * (part.weight.dim() - 1)))
                if part.bias is not None:
                    part.bias.mul_(factor)
        return self.network

    def _hook(self, mask: nn.Parameter) -> Any:
        def masked(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            return output * mask.view(-1, *[1] * (output.dim() - 2))

        return masked


def _place(network: nn.Module, coupling: Coupling, path: str) -> str:
    """Return where the channels of a layer are masked: at the norm right behind it, if that has weights."""
    behind = coupling.behind.get(path)
    return behind if behind is not None and network.get_submodule(behind).weight is not None else path


def _discriminator(outputs: int, seed: int) -> nn.Sequential:
    """Return three linear layers, weights normal of deviation 0.01 and no biases to begin with."""
    generator = torch.Generator().manual_seed(seed)
    layers = nn.Sequential(*(nn.Linear(a, b) for a, b in zip((outputs, *WIDTHS[:-1]), WIDTHS, strict=True)))
    with torch.no_grad():
        for name, value in layers.named_parameters():
            value.copy_(
                torch.randn(value.shape, generator=generator) * 0.01 if name.endswith("weight") else 0.0 * value
            )
    return layers


def _entropy(logits: Tensor, *, real: bool) -> Tensor:
    wanted = torch.ones_like(logits) if real else torch.zeros_like(logits)
    return functional.binary_cross_entropy_with_logits(logits, wanted)
