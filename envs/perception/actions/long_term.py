"""Long-term relation: actors of all clips of a video as a graph (LSTR, section 3; equations as recalled).

Shapes: B graphs, M nodes, d features, A width of keys.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class LongTerm(nn.Module):
    """X' = LN(X + ReLU(A X W)), A a softmax of keys' products and of a number learned for each distance of clips.

    Args:
        features: d.
        width: A.
        reach: clips to each side that are looked at; nodes further away are left out.
        layers: how many.
        dropout: of each layer's output before it is added.
        causal: look at clips that went by alone.

    Attributes:
        near: (layers, 2 reach + 1), the number for each distance. It begins at 0 and is all that tells before from
            after: let it learn faster than the weights (at 0.05 where they learn at 0.002).
    """

    def __init__(
        self, features: int, width: int, *, reach: int = 15, layers: int = 2, dropout: float = 0.2, causal: bool = False
    ) -> None:
        super().__init__()
        self.reach, self.causal = reach, causal
        self.queries = nn.ModuleList(nn.Linear(features, width, bias=False) for _ in range(layers))
        self.keys = nn.ModuleList(nn.Linear(features, width, bias=False) for _ in range(layers))
        self.weights = nn.ModuleList(nn.Linear(features, features, bias=False) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(features) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.near = nn.Parameter(torch.zeros(layers, 2 * reach + 1))  # by which clip, from `reach` before on

    def forward(self, nodes: Tensor, clips: Tensor, present: Tensor) -> Tensor:
        """Return nodes (B, M, d) that know of the others.

        Args:
            nodes: (B, M, d).
            clips: (B, M) int64, which clip each is of.
            present: (B, M) bool, which nodes there are.
        """
        away = clips.unsqueeze(1) - clips.unsqueeze(2)  # (B, M, M): how much later the other is
        own = torch.eye(nodes.shape[1], dtype=torch.bool, device=nodes.device)
        linked = present.unsqueeze(1) & (away.abs() <= self.reach)
        if self.causal:
            linked = linked & (away <= 0)
        # Another detection of the same clip may be nearly this one: only the node itself stands for its clip.
        linked = (linked & (away != 0)) | own
        place = (away + self.reach).clamp(0, 2 * self.reach)
        for number, (query, key) in enumerate(zip(self.queries, self.keys, strict=True)):
            queries = query(nodes)
            scores = queries @ key(nodes).transpose(1, 2) / math.sqrt(queries.shape[2])
            scores = (scores + self.near[number][place]).masked_fill(~linked, -torch.inf)
            told = torch.relu(self.weights[number](scores.softmax(dim=2) @ nodes))
            nodes = self.norms[number](nodes + self.dropout(told))
        return nodes
