"""Signs that a network only seems robust: its gradients are masked, or the attack was too weak.

After Athalye, Carlini and Wagner 2018 (arXiv:1802.00420, section 3.1) and Carlini et al. 2019 (arXiv:1902.06705): an
attack by gradients does no less than one without; more steps and more eps do no less; without bounds it always
succeeds; and a network that draws random numbers is attacked by the average over draws.

Shapes: B batch, R eps of a curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Flag:
    """One check.

    Attributes:
        name: of it.
        raised: whether the figures are not to be trusted.
        says: what was found, with figures.
    """

    name: str
    raised: bool
    says: str


@torch.no_grad()
def is_random(module: nn.Module, inputs: Tensor) -> bool:
    """Return whether a network answers the same inputs (B, ...) in two ways."""
    return not torch.equal(module(inputs), module(inputs))


def masking_flags(
    eps: Sequence[float],
    success: Mapping[str, Sequence[float]],
    *,
    black_box: Sequence[str],
    white_box: Sequence[str],
    more_steps: tuple[float, float] | None = None,
    unbounded: float | None = None,
    averaged_draws: int | None = None,
    random: bool = False,
    tolerance: float = 0.02,
    whole: float = 1.0,
) -> tuple[Flag, ...]:
    """Return the checks of a curve, in a fixed order; those there are no figures for are left out.

    Args:
        eps: (R,) rising.
        success: attack -> (R,) how much it breaks, from 0 to 1: share of inputs, or of the return that is lost.
        black_box: names of attacks that use no gradients.
        white_box: names of those that do.
        more_steps: success with the usual number of steps and with more, at one eps.
        unbounded: success of the strongest attack with an eps that no defence survives.
        averaged_draws: draws over which the objective of a random network was averaged.
        random: whether the network draws random numbers.
        tolerance: differences that are chance.
        whole: success that counts as 100 %.
    """
    flags = []
    blind = [max(values) for values in zip(*(success[name] for name in black_box), strict=True)]
    seeing = [max(values) for values in zip(*(success[name] for name in white_box), strict=True)]
    if blind and seeing:
        gaps = [one - other for one, other in zip(blind, seeing, strict=True)]
        worst = max(range(len(gaps)), key=gaps.__getitem__)
        said = f"at eps {eps[worst]:g}: without gradients {blind[worst]:.3f}, with them {seeing[worst]:.3f}"
        flags.append(Flag("black-box attacks never do more than white-box ones", gaps[worst] > tolerance, said))
    for name in white_box:
        values = success[name]
        drops = [(before - after, place) for place, (before, after) in enumerate(zip(values, values[1:], strict=False))]
        drop, place = max(drops, default=(0.0, 0))
        said = f"{name}: {', '.join(f'{value:.3f}' for value in values)}"
        if drop > tolerance:
            said += f"; it falls from eps {eps[place]:g} to {eps[place + 1]:g}"
        flags.append(Flag("a larger eps does no less", drop > tolerance, said))
    if more_steps is not None:
        few, many = more_steps
        flags.append(Flag("more steps do no less", few - many > tolerance, f"{few:.3f}, with more {many:.3f}"))
    if unbounded is not None:
        said = f"{unbounded:.3f} without bounds, {whole:g} wanted"
        flags.append(Flag("without bounds it always succeeds", unbounded < whole - tolerance, said))
    if random:
        enough = averaged_draws is not None and averaged_draws > 1
        said = f"averaged over {averaged_draws} draws" if enough else "attacked by single draws"
        flags.append(Flag("a random network is attacked by the average over its draws", not enough, said))
    return tuple(flags)
