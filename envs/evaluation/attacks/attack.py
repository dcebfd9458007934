"""What an attack is: from an input to another, near it, that a network does worse on.

Shapes: B batch, (...) one input: features of a state, or channels and pixels of a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

Objective = Callable[[Tensor], Tensor]  # inputs (B, ...) -> (B,), each of its own input: what an attack makes large
Box = tuple[float, float] | None


class Attack:
    """A way to attack. Nothing but the generator is drawn from, and inputs of a batch do not depend on each other.

    Attributes:
        Config: its numbers, a frozen dataclass.
        needs: traits a network must have -> what to use otherwise.
        refuses: traits it must not have -> what to do instead.
        gives: nothing: an attack leaves the network as it is.
    """

    Config: ClassVar[type]
    needs: ClassVar[Mapping[str, str]] = {}
    refuses: ClassVar[Mapping[str, str]] = {}
    gives: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *, config: Any = None) -> None:
        self.config = self.Config() if config is None else config

    @property
    def white_box(self) -> bool:
        """Whether it follows gradients; the others see the objective's values at most."""
        return True

    def perturb(self, objective: Objective, x: Tensor, box: Box, eps: float, generator: torch.Generator) -> Tensor:
        """Return changed inputs (B, ...).

        Args:
            objective: what is made large.
            x: inputs (B, ...), floats in the box.
            box: the range that inputs lie in; None for none.
            eps: no entry changes by more. With 0 the inputs come back with the same bits.
            generator: of all random draws.
        """
        raise NotImplementedError


def inside(changed: Tensor, x: Tensor, box: Box, eps: float) -> Tensor:
    """Return the nearest inputs within eps of x in every entry, and in the box."""
    changed = torch.minimum(torch.maximum(changed, x - eps), x + eps)
    return changed if box is None else changed.clamp(*box)


def slope(objective: Objective, x: Tensor) -> Tensor:
    """Return the gradient (B, ...) of each input's own objective, whatever the grad mode around it."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(objective(leaf).sum(), leaf)[0]


def signs(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return -1 and 1, each as likely, in the shape of x."""
    return torch.randint(2, x.shape, generator=generator, device=generator.device).to(x) * 2 - 1


def off_flat_ground(objective: Objective, x: Tensor, box: Box, eps: float, generator: torch.Generator) -> Tensor:
    """Return where gradients are to be taken first: x, and for inputs with no slope there a random corner at eps / 2.

    An objective that measures how far an output moves from that at x is smallest there, so its gradient is zero.
    """
    corner = inside(x + 0.5 * eps * signs(x, generator), x, box, eps)
    flat = (slope(objective, x) == 0).flatten(1).all(1)
    return torch.where(flat.view(-1, *[1] * (x.dim() - 1)), corner, x)


def averaged(objective: Objective, draws: int) -> Objective:
    """Return the mean of an objective over so many draws of a random defence: what an attack on one has to climb.

    Expectation over transformation (Athalye, Carlini and Wagner 2018, arXiv:1802.00420, section 4).
    """
    return lambda x: torch.stack([objective(x) for _ in range(draws)]).mean(0)
