"""Feature squeezing (Xu, Evans and Qi 2018, arXiv:1704.01155, section III): what any cheap filter does as a defence.

The paper compares a network's answers with and without these to notice an attack; here, as in its table IV, they stand
before the network. For attacks that go through them, gradients pass rounding as if it were not there (BPDA, Athalye,
Carlini and Wagner 2018, arXiv:1802.00420, section 4.1); the median has its own.

Shapes: B batch, C channels, H and W sides.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from rlsuite.errors import require


class BitDepth(nn.Module):
    """Fewer bits a channel.

    Args:
        bits: 1 leaves black and white.
    """

    def __init__(self, bits: int = 1) -> None:
        super().__init__()
        require(1 <= bits <= 8, f"bits={bits}: use 1 to 8")
        self.levels = 2**bits - 1

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, C, H, W) in [0, 1] to the nearest of 2^bits levels."""
        rounded = (pictures.detach() * self.levels).round() / self.levels
        return pictures + (rounded - pictures.detach())


class MedianFilter(nn.Module):
    """Each pixel becomes the median of a window around it; beyond the edge the picture is mirrored, as SciPy's is.

    Args:
        size: of the window, 2 (with the pixels above and to the left, the larger of the two middle values) or 3.
    """

    def __init__(self, size: int = 3) -> None:
        super().__init__()
        require(size in (2, 3), f"size={size}: use 2 or 3")
        self.size = size

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, C, H, W) to pictures of the same shape."""
        before, behind = self.size // 2, (self.size - 1) // 2
        padded = functional.pad(pictures, (before, behind, before, behind), mode="replicate")
        windows = padded.unfold(2, self.size, 1).unfold(3, self.size, 1).flatten(-2)
        return windows.kthvalue(self.size**2 // 2 + 1, dim=-1).values
