"""Spectral norm with first vectors from a seed (Miyato et al. 2018, arXiv:1802.05957)."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


def normalize_spectra(module: nn.Module, seed: int, spared: Collection[str] = ()) -> None:
    """Divide the weights of a module's convolutions and linear layers by their largest singular values.

    Args:
        module: changed in place; its layers are drawn already.
        seed: of the vectors that the power iteration starts from, which torch draws from its own generator.
        spared: layers' names that stay as they are.
    """
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        for name, part in list(module.named_modules()):
            if isinstance(part, nn.Conv2d | nn.Linear) and name not in spared:
                module.set_submodule(name, spectral_norm(part))
