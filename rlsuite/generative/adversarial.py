"""What generators and discriminators minimize, generated examples being negative or unlabeled (PUGAN).

A discriminator usually calls every generated example negative for ever, although some become as good as real ones. Guo
et al. 2020 (On Positive-Unlabeled Classification in GAN, arXiv:2002.01136) take them as unlabeled: a share, the prior
pi, is as good as real. With D(x) a score, l+ the loss of calling x real and l- of calling it generated, the
discriminator minimizes the non-negative risk of positive-unlabeled classification,

    pi E_real[l+] + max(0, E_generated[l-] - pi E_real[l-])

which does not push good generated examples down. Without the maximum the second term has no lower bound; where it is
below zero it has no gradient, as in the authors' public code (Kiryo et al. 2017 step back there). The generator's loss
is the plain one.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from rlsuite.errors import require, require_choice, require_finite

# l+, l- and the generator's loss, of scores.
LOSSES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "gan": (lambda score: softplus(-score), softplus, lambda score: softplus(-score)),
    "lsgan": (
        lambda score: (score - 1).square(),
        lambda score: (score + 1).square(),
        lambda score: (score - 1).square(),
    ),
    "hinge": (lambda score: relu(1 - score), lambda score: relu(1 + score), lambda score: -score),
}
KINDS = (*LOSSES, *(f"pu_{name}" for name in LOSSES))
RISES = {"fixed": 0.0, "slow": 0.1, "fast": 0.2}


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """The losses.

    Attributes:
        kind: "gan" (logits, softplus), "lsgan" (squares around 1 and -1), "hinge", or one of them with generated
            examples unlabeled: "pu_gan", "pu_lsgan" (the paper's two) and "pu_hinge". The paper's form for
            Wasserstein distances is left out: its losses are linear, so that the bracket is not a risk, and neither
            the paper's equation (11) nor the public code fixes its numbers.
        prior: pi, the share of generated examples taken to be as good as real ones, at the start.
        rise: how it grows every `rise_every` updates: "slow" by 0.1 (the paper's), "fast" by 0.2, "fixed" not at all.
        rise_every: updates of the discriminator.
        prior_cap: what it grows to. Above 0.6 the bracket of "pu_lsgan" is nearly always below zero.
    """

    kind: str = "pu_gan"
    prior: float = 0.3
    rise: str = "slow"
    rise_every: int = 10_000
    prior_cap: float = 0.6

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, KINDS)
        require_choice("rise", self.rise, tuple(RISES))
        require(self.rise_every >= 1, f"rise_every={self.rise_every}: use 1 or more")
        for name in ("prior", "prior_cap"):
            value = getattr(self, name)
            require_finite(name, value)
            require(0.0 < value < 1.0, f"{name}={value}: use more than 0 (nothing generated is good) and less than 1")
        require(
            self.prior_cap >= self.prior or self.rise == "fixed",
            f"prior_cap={self.prior_cap}: use at least prior={self.prior}",
        )

    @property
    def unlabeled(self) -> bool:
        """Whether generated examples are unlabeled instead of negative."""
        return self.kind.startswith("pu_")

    def prior_at(self, updates: Tensor) -> Tensor:
        """Return pi, 0-d float32, after so many updates of the discriminator (0-d, integer)."""
        grown = self.prior + RISES[self.rise] * torch.div(updates, self.rise_every, rounding_mode="floor").float()
        return grown if self.rise == "fixed" else grown.clamp(max=self.prior_cap)


def discriminator_losses(
    config: AdversarialConfig, real: Tensor, generated: Tensor, prior: Tensor
) -> dict[str, Tensor]:
    """Return what the discriminator minimizes, and what to watch.

    Args:
        config: the losses.
        real: scores (B,) of real examples, as they come from the discriminator: no sigmoid.
        generated: scores (B,) of generated ones; the generator must not be moved by them.
        prior: pi, 0-d; not used where generated examples are negative.

    Returns:
        0-d tensors: "loss"; "score", the mean size of scores, which says when a discriminator saturates; and, with
        unlabeled examples, "prior", "bracket" (what the maximum is taken of) and "clamped" (1 where it is below 0: if
        that is so in more than half of the updates, generated examples teach the discriminator nothing and pi is too
        large).
    """
    positive, negative, _ = LOSSES[config.kind.removeprefix("pu_")]
    score = torch.cat((real.detach(), generated.detach())).abs().mean()
    called_real, called_generated = positive(real).mean(), negative(generated).mean()
    if not config.unlabeled:
        return {"loss": called_real + called_generated, "score": score}
    bracket = called_generated - prior * negative(real).mean()
    return {
        "loss": prior * called_real + bracket.clamp_min(0.0),
        "score": score,
        "prior": prior,
        "bracket": bracket,
        "clamped": (bracket < 0).float(),
    }


def generator_loss(config: AdversarialConfig, generated: Tensor) -> Tensor:
    """Return what the generator minimizes, 0-d, for scores (B,) of what it made."""
    return LOSSES[config.kind.removeprefix("pu_")][2](generated).mean()
