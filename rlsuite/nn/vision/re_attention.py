"""Attention whose maps are mixed over heads, and the transformer block around it (DeepViT, arXiv:2103.11886).

    A = softmax(Q K^T / sqrt(d)),  d = width / heads            what every head looks at, (B, heads, N, N)
    M = Norm(Theta^T A)                                         re-attention, section 4.2
    output = projection(M V)

Theta (heads x heads) mixes the heads' maps alike for every pair of tokens, as a 1x1 convolution with biases does (as
which the official code writes it; `theta` is its transpose, a row an output); Norm is BatchNorm over them. There is no
second softmax: rows of M do not sum to one and may be negative. In a deep transformer the maps A of blocks that follow
each other become copies (the paper's attention collapse); those that are mixed do not.

Shapes: B batch, N tokens, W width, H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

NORMS = ("batch", "layer", "none")
STARTS = ("random", "identity")
EPSILON = 1e-6  # of LayerNorms


class HeadMixing(nn.Module):
    """Theta and Norm: H^2 + H numbers, and 2 H of the norm.

    Args:
        heads: H.
        norm: "batch" (the paper's: over pictures and pairs of tokens, so that pictures of a minibatch see each other
            while learning), "layer" (over the heads of each pair of tokens) or "none".
        start: Theta as "random" as torch draws convolutions (the official code's), or the "identity".
        scale: a factor behind the norm.
    """

    def __init__(self, heads: int, norm: str, start: str, scale: float) -> None:
        super().__init__()
        self.norm_kind, self.start, self.scale = norm, start, scale
        self.theta, self.bias = nn.Parameter(torch.eye(heads)), nn.Parameter(torch.zeros(heads))
        self.norm: nn.Module = nn.Identity()
        if norm != "none":
            self.norm = nn.BatchNorm2d(heads) if norm == "batch" else nn.LayerNorm(heads, EPSILON)

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Draw Theta's first numbers."""
        if self.start == "identity":
            self.theta.copy_(torch.eye(len(self.theta)))
            self.bias.zero_()
        else:
            bound = len(self.theta) ** -0.5
            self.theta.uniform_(-bound, bound, generator=generator)
            self.bias.uniform_(-bound, bound, generator=generator)

    def forward(self, maps: Tensor) -> Tensor:
        """Map attention (B, H, N, N) to what multiplies the values, of the same shape."""
        # A batch of small products: with gradients a sixth to a half of a 1x1 convolution's time on a CPU.
        rows = self.theta.expand(maps.shape[0], -1, -1)
        mixed = torch.baddbmm(self.bias[:, None], rows, maps.flatten(2)).view_as(maps)
        by_pair = self.norm_kind == "layer"
        mixed = self.norm(mixed.movedim(1, -1)).movedim(-1, 1) if by_pair else self.norm(mixed)
        return mixed * self.scale if self.scale != 1.0 else mixed


class Attention(nn.Module):
    """Attention of all tokens to all.

    Args:
        width: W.
        heads: H.
        mixing: of the maps; None for plain attention.
        dropout: share of the softmax's entries that are 0 while learning.
    """

    def __init__(self, width: int, heads: int, mixing: HeadMixing | None, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.factor = heads, (width // heads) ** -0.5
        self.inputs, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.mixing = mixing

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map tokens (B, N, W) to (B, N, W), the softmax (B, H, N, N), and what multiplied the values, alike."""
        batch, count, width = tokens.shape
        query, key, value = self.inputs(tokens).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        maps = (query @ key.transpose(-2, -1) * self.factor).softmax(dim=-1)
        used = self.dropout(maps)
        if self.mixing is not None:
            used = self.mixing(used)
        seen = (used @ value).transpose(1, 2).reshape(batch, count, width)
        return self.projection(seen), maps, used


class SkipBranch(nn.Module):
    """Stochastic depth (Huang et al. 2016, arXiv:1603.09382): while learning, a branch is left out of some rows."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, branch: Tensor) -> Tensor:
        """Return (B, N, W), a share of rows 0 and the others larger, so that the mean stays."""
        if not self.training or not self.share:
            return branch
        kept = torch.rand(branch.shape[0], 1, 1, device=branch.device) >= self.share
        return branch * kept / (1.0 - self.share)


class Block(nn.Module):
    """x + attention(norm(x)), then x + layers(norm(x)): two branches, each behind its norm.

    With s = `branch_scale` they are x + f(norm(s x)) / s, as in the paper's models with a stem of convolutions.

    Args:
        width: W.
        heads: H.
        hidden: units of the layers.
        mixing: of the attention's maps; None for plain attention.
        dropout: of the attention.
        skipped: share of rows without a branch, while learning.
        branch_scale: s.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        mixing: HeadMixing | None = None,
        *,
        dropout: float = 0.0,
        skipped: float = 0.0,
        branch_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.branch_scale = branch_scale
        self.first_norm, self.second_norm = nn.LayerNorm(width, EPSILON), nn.LayerNorm(width, EPSILON)
        self.attention = Attention(width, heads, mixing, dropout)
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.skip = SkipBranch(skipped)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map tokens (B, N, W) to (B, N, W), the softmax (B, H, N, N), and what multiplied the values, alike."""
        scale = self.branch_scale
        seen, maps, used = self.attention(self.first_norm(scale * tokens))
        tokens = tokens + self.skip(seen / scale)
        return tokens + self.skip(self.layers(self.second_norm(scale * tokens)) / scale), maps, used
