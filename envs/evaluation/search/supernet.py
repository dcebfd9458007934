"""A network that holds every choice of a space at once: architectures are paths through it and share its weights.

Weights are those of (cell, edge, operation). A path is sampled (one choice at each place) or mixed (all choices, each
weighted). `extract` gives a path's network by itself: the same code with copied weights, so the same bits.

Shapes: B batch, P places, K choices.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from envs.evaluation.search.space import Architecture, MakeChoice, Space


class Slot(nn.Module):
    """All choices of one place in one part of the network.

    Args:
        place: in the architecture.
        choices: a module each; None for a choice that stands for nothing.

    Attributes:
        choice: the one that is used, where one is.
        weights: (K,) of all of them, where they are mixed.
        used: which of them are mixed; None for all.
        scale: of the whole, such as an edge's weight; None for 1.
    """

    choice: int | None = None
    weights: Tensor | None = None
    used: Sequence[bool] | None = None
    scale: Tensor | None = None

    def __init__(self, place: int, choices: Sequence[nn.Module | None]) -> None:
        super().__init__()
        self.place = place
        self.choices = nn.ModuleDict({str(number): made for number, made in enumerate(choices) if made is not None})
        self.count = len(choices)

    @property
    def absent(self) -> bool:
        """Whether nothing stands here now."""
        return self.weights is None and str(self.choice) not in self.choices

    def forward(self, inputs: Tensor) -> Tensor:
        """Return what the choice, or the mixture, makes of inputs."""
        if self.weights is None:
            return self.choices[str(self.choice)](inputs)
        terms = [
            self.weights[int(number)] * module(inputs)
            for number, module in self.choices.items()
            if self.used is None or self.used[int(number)]
        ]
        mixed = functools.reduce(torch.add, terms)
        return mixed if self.scale is None else self.scale * mixed

    def clear(self) -> None:
        """Forget what was chosen."""
        self.choice, self.weights, self.used, self.scale = None, None, None, None


class Supernet(nn.Module):
    """Every network of a space, sharing weights.

    Args:
        space: one with a `network`.
        seed: of the first weights.
        options: of the space's `network`, such as affine=False; an extracted network has them, too.
    """

    def __init__(self, space: Space, *, seed: int, **options: Any) -> None:
        super().__init__()
        self.space, self.options = space, options

        def make_slot(place: int, make: MakeChoice) -> nn.Module:
            return Slot(place, [make(choice) for choice in range(space.sizes[place])])

        self.network = space.network(make_slot, **options)
        space.draw(self, seed)
        # In a tuple, so that they are no parts of this module a second time.
        self._slots = (*((path, part) for path, part in self.network.named_modules() if isinstance(part, Slot)),)

    @property
    def slots(self) -> dict[str, Slot]:
        """The slots by their paths in `network`."""
        return dict(self._slots)

    def forward(
        self,
        inputs: Tensor,
        path: Architecture | None = None,
        *,
        mixture: Tensor | Sequence[Tensor] | None = None,
        used: Sequence[Sequence[bool]] | None = None,
        scales: Tensor | Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Return the outputs of one architecture, or of a mixture of all.

        Args:
            inputs: (B, ...).
            path: an architecture.
            mixture: in its place, weights (P, K) of the choices; with absent choices the others' weights count.
            used: which choices (P, K) are computed at all; None for all.
            scales: (P,) of each place's mixture as a whole, such as edges' weights; None for 1.
        """
        slots = list(self.slots.values())
        for slot in slots:
            if mixture is not None:
                slot.weights = mixture[slot.place]
                slot.used = None if used is None else used[slot.place]
                slot.scale = None if scales is None else scales[slot.place]
            else:
                assert path is not None, "give a path or a mixture"
                slot.choice = path[slot.place]
        try:
            return self.network(inputs)
        finally:
            for slot in slots:
                slot.clear()

    def extract(self, architecture: Architecture) -> nn.Module:
        """Return one architecture's network by itself, with copies of the weights, in this supernet's mode."""
        child = self.space.build(architecture, **self.options)
        child.load_state_dict(self.path_state(architecture))
        device = next(self.parameters()).device
        return child.to(device).train(self.training)

    def path_state(self, architecture: Architecture) -> dict[str, Tensor]:
        """Return the tensors of one architecture, named as in its own network."""
        slots, found = self.slots, {}
        for name, tensor in self.network.state_dict().items():
            owner, inside, rest = name.partition(".choices.")
            if not inside or owner not in slots:
                found[name] = tensor
                continue
            number, _, key = rest.partition(".")
            if architecture[slots[owner].place] == int(number):
                found[f"{owner}.{key}"] = tensor
        return found


@torch.no_grad()
def reestimate_statistics(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Measure batch normalizations' statistics anew: plain means over batches of inputs. Weights stay.

    Running statistics of a supernet mix those of all paths; a candidate is judged with its own (Guo et al. 2020,
    arXiv:1904.00420, section 3.3).
    """
    layers = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    momenta, mode = [layer.momentum for layer in layers], module.training
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative mean
    module.train()
    for inputs in batches:
        module(inputs)
    module.train(mode)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
