"""Features refined by attention to a frame's past and to the rest of it, for frames and for objects (CompFeat).

Shapes: B batch, C channels, d width of queries, H and W sides of a query map, T support maps of h and w.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """A map's cells attend to the cells of other maps (CompFeat, figure 2).

    Out = output(sum over cells j of softmax_j(scale * q_i . k_j) v_j). The paper's own mechanism is not written down in
    what can be read of it: queries and keys of unit length with a learned scale are our choice, and so is that the last
    layer begins at 0, so that a network begins as it would be without.

    Args:
        channels: C.
        width: d.
        pool: side of the squares of cells whose mean is attended to as one.
    """

    def __init__(self, channels: int, width: int, pool: int = 1) -> None:
        super().__init__()
        self.pool = pool
        self.query = nn.Conv2d(channels, width, 1)
        self.key = nn.Conv2d(channels, width, 1)
        self.value = nn.Conv2d(channels, width, 1)
        self.output = nn.Conv2d(width, channels, 1)
        self.log_scale = nn.Parameter(torch.tensor(2.0))
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, maps: Tensor, support: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return what is added to maps (B, C, H, W).

        Args:
            maps: the queries.
            support: (B, T, C, h, w), what is attended to.
            valid: (B, T) bool, which of the support maps there are; a row without any gets 0.
        """
        batch, times = support.shape[:2]
        queries = self.log_scale.exp() * functional.normalize(self.query(maps).flatten(2), dim=1)
        flat = support.flatten(0, 1)
        if self.pool > 1:
            flat = functional.avg_pool2d(flat, self.pool, ceil_mode=True, count_include_pad=False)
        keys, values = (_joined(layer(flat), batch, times) for layer in (self.key, self.value))  # (B, T h w, d)
        cells, there = None, None
        if valid is not None:
            there = valid.any(dim=1).view(-1, 1, 1, 1)
            cells = valid | ~there.view(-1, 1)  # a row without any attends to what is nothing, and is set to 0 below
            cells = cells.repeat_interleave(flat.shape[2] * flat.shape[3], dim=1)[:, None, None]
        found = functional.scaled_dot_product_attention(
            queries.transpose(1, 2).unsqueeze(1),
            functional.normalize(keys, dim=2).unsqueeze(1),
            values.unsqueeze(1),
            attn_mask=cells,
            scale=1.0,
        )
        found = self.output(found.squeeze(1).transpose(1, 2).unflatten(2, maps.shape[2:]))
        return found if there is None else found * there


class Refiner(nn.Module):
    """maps + Temporal(maps, support) + Spatial(maps, context): both branches of one level (CompFeat, figure 2).

    For frames the context is the frame itself; for objects it is the frame that the object was cut from.

    Args:
        channels: C.
        width: d.
        pool: see Attention.
    """

    def __init__(self, channels: int, width: int, pool: int = 1) -> None:
        super().__init__()
        self.temporal = Attention(channels, width, pool)
        self.spatial = Attention(channels, width, pool)

    def forward(self, maps: Tensor, support: Tensor, valid: Tensor, context: Tensor | None = None) -> Tensor:
        """Return refined maps (B, C, H, W); `support` (B, T, C, h, w), `valid` (B, T), `context` (B, C, h, w)."""
        context = maps if context is None else context
        return maps + self.temporal(maps, support, valid) + self.spatial(maps, context.unsqueeze(1))


def _joined(values: Tensor, batch: int, times: int) -> Tensor:
    """Return (B T, d, h, w) as (B, T h w, d)."""
    return values.view(batch, times, *values.shape[1:]).movedim(2, 4).flatten(1, 3)
