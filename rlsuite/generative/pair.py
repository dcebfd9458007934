"""A generator and its discriminator as one module, taught in turns by rlsuite.fit: one step of each a minibatch.

    pair = Pair((3, 32, 32), PairConfig(), seed=0)
    fit(pair, pair.turns(), Arrays({"input": pictures}), FitConfig(steps=100_000, batch_size=32), seed=0)
    made = pair.sample(64, torch.Generator().manual_seed(0))

So a run that was killed goes on to the bits it would have had, pi's schedule included: it counts the updates of the
discriminator, which are part of the module's state.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rlsuite.fit import Turn
from rlsuite.generative.adversarial import AdversarialConfig, discriminator_losses, generator_loss
from rlsuite.generative.networks import GenerativeConfig, latent_vectors, make_networks
from rlsuite.optim.choice import OptimizerConfig

ADAM = OptimizerConfig(learning_rate=2e-4, beta1=0.5, beta2=0.999)  # PUGAN's, of both networks


@dataclass(frozen=True, kw_only=True)
class PairConfig:
    """Both networks, their losses and their optimizers.

    Attributes:
        networks: the two networks.
        losses: what they minimize.
        generator: the generator's optimizer.
        discriminator: the discriminator's.
    """

    networks: GenerativeConfig = field(default_factory=GenerativeConfig)
    losses: AdversarialConfig = field(default_factory=AdversarialConfig)
    generator: OptimizerConfig = ADAM
    discriminator: OptimizerConfig = ADAM


class Pair(nn.Module):
    """A generator and a discriminator of examples in (-1, 1), or of any numbers with squash=none.

    Args:
        shape: of an example.
        config: see PairConfig.
        seed: of the first weights.
    """

    updates: Tensor

    def __init__(self, shape: tuple[int, ...], config: PairConfig, seed: int) -> None:
        super().__init__()
        self.config = config
        self.generator, self.discriminator = make_networks(config.networks, shape, seed)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def turns(self) -> tuple[Turn, Turn]:
        """Return what fit alternates: a step of the discriminator, then one of the generator with fresh z."""
        return (
            Turn(
                name="discriminator", loss=_judge, parameters=("discriminator.*",), optimizer=self.config.discriminator
            ),
            Turn(name="generator", loss=_make, parameters=("generator.*",), optimizer=self.config.generator),
        )

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Return examples (count, *shape), made in evaluation mode and in the mode it had afterwards."""
        mode = self.training
        self.eval()
        made = self.generator(latent_vectors(count, self.config.networks.latent, self.updates, generator))
        self.train(mode)
        return made


def _judge(pair: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Losses of the discriminator for "input" (B, *shape) and as many generated ones.

    Real and generated examples go through it one after the other, each with BatchNorm statistics of their own.
    """
    assert isinstance(pair, Pair)
    real = batch["input"]
    with torch.no_grad():
        made = pair.generator(latent_vectors(len(real), pair.config.networks.latent, real))
    prior = pair.config.losses.prior_at(pair.updates)
    found = discriminator_losses(pair.config.losses, pair.discriminator(real), pair.discriminator(made), prior)
    pair.updates += 1
    return found


def _make(pair: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    assert isinstance(pair, Pair)
    made = pair.generator(latent_vectors(len(batch["input"]), pair.config.networks.latent, batch["input"]))
    return {"loss": generator_loss(pair.config.losses, pair.discriminator(made))}
