"""Activations clipped at a number that is learned, and measured before it learns (arXiv:2011.04212)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.rules import SMALLEST_SCALE, SymmetricInput, from_integers, to_integers
from envs.evaluation.quantization.through import through

START = 10.0  # of a max scale that nothing has been measured for (the authors' code)


class MaxScale(SymmetricInput):
    """Activations clipped at a learned number, alpha: the parameterized max scale."""

    def __init__(self, bits: int) -> None:
        super().__init__(bits)
        self.alpha = nn.Parameter(torch.tensor(START))
        self.decay: float | None = None  # while it is being measured
        self.measured = False

    def scale(self, inputs: Tensor) -> Tensor:
        """Return alpha (), kept above zero; one that has fallen below can still come back."""
        return through(self.alpha.clamp_min(SMALLEST_SCALE), self.alpha)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return quantized inputs; alpha learns from what is clipped, and from the rounding of what is not."""
        if self.decay is not None:
            self._measure(inputs, self.decay)
            return inputs
        scale = self.scale(inputs)
        fixed = scale.detach()
        quantized = from_integers(to_integers(inputs.detach(), fixed, self.bits), fixed, self.bits)
        clipped = torch.maximum(torch.minimum(inputs, scale), -scale)
        rounding = (quantized - clipped).detach() / fixed
        return through(quantized, clipped + scale * rounding)

    @torch.no_grad()
    def _measure(self, inputs: Tensor, decay: float) -> None:
        """Take the mean over the batch of each example's largest absolute input into the moving average."""
        largest = inputs.abs().flatten(1).amax(1).mean()
        self.alpha.copy_(decay * self.alpha + (1.0 - decay) * largest if self.measured else largest)
        self.measured = True


@contextlib.contextmanager
def measuring(module: nn.Module, decay: float) -> Iterator[None]:
    """Let every max scale of a network measure what comes by, for a while; nothing of it is left in its state."""
    scales = [part for part in module.modules() if isinstance(part, MaxScale)]
    for part in scales:
        part.decay, part.measured = decay, False
    try:
        yield
    finally:
        for part in scales:
            part.decay = None
