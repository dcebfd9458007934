"""What lies between encoder and decoder: one network is run, and a channel says what becomes of its latents.

`Estimate` makes them whole (or adds noise, while learning) and counts what they would take; `Writer` makes them whole
and keeps them for bytes; `Reader` takes them from bytes. What a network computes from what a channel returned is the
same on either side, so encoder and decoder cannot drift apart by a mistake in one of them.

Shapes: B batch, C channels, H and W sides of a latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from envs.perception.codec.factorized import FactorizedPrior
from envs.perception.codec.gaussian import gaussian_bits, gaussian_rows, gaussian_tables
from envs.perception.codec.range_coder import Decoder, Encoder, Tables

Shape = tuple[int, int, int, int]
FarTables = Mapping[FactorizedPrior, tuple[Tables, Tensor]]  # and medians


class Channel(Protocol):
    """Takes latents (B, C, H, W) through; a decoder has none, and gives None."""

    def factorized(self, name: str, prior: FactorizedPrior, latents: Tensor | None, shape: Shape) -> Tensor:
        """Return latents, of this shape, as the decoder has them."""
        ...

    def gaussian(self, name: str, latents: Tensor | None, deviations: Tensor) -> Tensor:
        """Return latents as the decoder has them; both sides know the standard deviations (B, C, H, W)."""
        ...


class Estimate:
    """Counts bits without writing any.

    Args:
        noisy: while learning: uniform noise in [-1/2, 1/2] takes the place of rounding (torch's own generator).

    Attributes:
        bits: by the latents' names, (B,) each.
    """

    def __init__(self, noisy: bool) -> None:
        self.noisy = noisy
        self.bits: dict[str, Tensor] = {}

    def factorized(self, name: str, prior: FactorizedPrior, latents: Tensor | None, shape: Shape) -> Tensor:
        """Return latents with noise, or whole numbers away from the medians."""
        assert latents is not None
        values = self._noised(latents) if self.noisy else _rounded(latents, prior.medians())
        self.bits[name] = prior.bits(values)
        return values

    def gaussian(self, name: str, latents: Tensor | None, deviations: Tensor) -> Tensor:
        """Return latents with noise, or whole."""
        assert latents is not None
        values = self._noised(latents) if self.noisy else torch.round(latents)
        self.bits[name] = gaussian_bits(values, deviations)
        return values

    def total(self) -> Tensor:
        """Return all bits together, (B,)."""
        return torch.stack(list(self.bits.values())).sum(dim=0)

    def _noised(self, latents: Tensor) -> Tensor:
        return latents + (torch.rand_like(latents) - 0.5)


class Writer:
    """Writes latents of one picture, B = 1.

    Args:
        known: tables and medians of the priors, made once a stream.
    """

    def __init__(self, known: FarTables) -> None:
        self.known, self.encoder = known, Encoder()

    def factorized(self, name: str, prior: FactorizedPrior, latents: Tensor | None, shape: Shape) -> Tensor:
        """Return latents as the decoder will have them."""
        assert latents is not None
        tables, medians = self.known[prior]
        whole = torch.round(latents - medians)
        self.encoder.put(_whole(whole), _channels(shape), tables)
        return whole + medians

    def gaussian(self, name: str, latents: Tensor | None, deviations: Tensor) -> Tensor:
        """Return latents as the decoder will have them."""
        assert latents is not None
        whole = torch.round(latents)
        self.encoder.put(_whole(whole), gaussian_rows(deviations), gaussian_tables())
        return whole


class Reader:
    """Reads latents of one picture, B = 1.

    Args:
        known: as the writer's.
        data: what it wrote.
    """

    def __init__(self, known: FarTables, data: bytes) -> None:
        self.known, self.decoder = known, Decoder(data)

    def factorized(self, name: str, prior: FactorizedPrior, latents: Tensor | None, shape: Shape) -> Tensor:
        """Return what was written."""
        tables, medians = self.known[prior]
        values = torch.from_numpy(self.decoder.get(_channels(shape), tables)).to(medians)
        return values.view(shape) + medians

    def gaussian(self, name: str, latents: Tensor | None, deviations: Tensor) -> Tensor:
        """Return what was written."""
        values = torch.from_numpy(self.decoder.get(gaussian_rows(deviations), gaussian_tables()))
        return values.to(deviations).view_as(deviations)


def far_tables(*priors: FactorizedPrior) -> FarTables:
    """Return what writers and readers know of priors."""
    return {prior: (prior.tables(), prior.medians()) for prior in priors}


def _rounded(latents: Tensor, medians: Tensor) -> Tensor:
    return torch.round(latents - medians) + medians


def _whole(values: Tensor) -> np.ndarray:
    return values.detach().cpu().flatten().long().numpy()


def _channels(shape: Shape) -> np.ndarray:
    return np.repeat(np.arange(shape[1]), shape[2] * shape[3])
