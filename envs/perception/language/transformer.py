"""The Transformer (Vaswani et al. 2017), post-norm, with one place where a layer's attention may be mixed with another.

    source pieces -> embedding + places -> [self-attention, feed-forward] x layers          = the encoder
    target pieces -> embedding + places -> [self-attention, attention to the encoder, feed-forward] x layers -> logits

Source, target and output share one embedding. A `Mix` is what `fused.py` puts into a layer: it sees the query and what
the layer's own attention said, and returns what is added in its place.

Shapes: B sentences, L source pieces, T target pieces, K hypotheses of a sentence, V vocabulary, F width, h heads.
Masks are bool, True where there is a piece.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsuite.errors import require

Mix = Callable[[Tensor, Tensor], Tensor]
Projected = tuple[Tensor, Tensor]  # keys and values (B, h, L, F / h)


class Begun(NamedTuple):
    """A batch of sentences that are being translated: what each decoder layer attends to.

    Attributes:
        memories: the encoder's states as keys and values, for each layer.
        mask: (B, L).
        mixes: for each layer, or none at all.
    """

    memories: list[Projected]
    mask: Tensor
    mixes: Sequence[Mix | None] = ()


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The translator's sizes. The paper's for IWSLT'14: width=512, hidden=1024, heads=4, layers=6, dropout=0.3.

    Attributes:
        width: F.
        hidden: units of feed-forward layers.
        heads: of each attention; they share the width.
        layers: of the encoder, and of the decoder.
        dropout: share left out of embeddings and of what each part of a layer adds, while learning.
        longest: pieces of a sentence at most, source and target, its end counted.
    """

    width: int = 512
    hidden: int = 1024
    heads: int = 4
    layers: int = 6
    dropout: float = 0.3
    longest: int = 176

    def __post_init__(self) -> None:
        for name in ("width", "hidden", "heads", "layers"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(
            self.width % self.heads == 0 and self.width % 2 == 0,
            f"width={self.width}: use an even multiple of heads={self.heads}",
        )
        require(0.0 <= self.dropout < 1.0, f"dropout={self.dropout}: use 0 or more, and less than 1")
        require(self.longest >= 2, f"longest={self.longest}: use 2 or more")


class Attention(nn.Module):
    """Attention of several heads, (B, T, F) to (B, L, M).

    Args:
        width: F, of queries and of what is returned.
        memory_width: M, of what is attended to.
        heads: h.
    """

    def __init__(self, width: int, memory_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.key, self.value = nn.Linear(memory_width, width), nn.Linear(memory_width, width)

    def project(self, memory: Tensor) -> Projected:
        """Return keys and values (B, h, L, F / h) of a memory (B, L, M)."""
        return self._split(self.key(memory)), self._split(self.value(memory))

    def forward(self, query: Tensor, memory: Projected, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
        """Return what queries (B, T, F) find where mask (B, L) says that there is something."""
        keys, values = memory
        seen = None if mask is None else mask[:, None, None, :]
        found = functional.scaled_dot_product_attention(self._split(self.query(query)), keys, values, seen, 0.0, causal)
        return self.out(found.transpose(1, 2).flatten(2))

    def _split(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward part, each added to what came in, and normalized.

    Args:
        width: F.
        hidden: units of the feed-forward part.
        heads: h.
        dropout: while learning.
        activation: of the feed-forward part; BERT's is GELU.
        epsilon: of the normalizations.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        heads: int,
        dropout: float,
        activation: type[nn.Module] = nn.ReLU,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        self.attention = Attention(width, width, heads)
        self.attention_norm = nn.LayerNorm(width, epsilon)
        self.feed_forward = nn.Sequential(nn.Linear(width, hidden), activation(), nn.Linear(hidden, width))
        self.feed_forward_norm = nn.LayerNorm(width, epsilon)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, mask: Tensor, mix: Mix | None = None) -> Tensor:
        """Return the next layer's states (B, L, F)."""
        found = self.dropout(self.attention(states, self.attention.project(states), mask))
        if mix is not None:
            found = mix(states, found)
        states = self.attention_norm(states + found)
        return self.feed_forward_norm(states + self.dropout(self.feed_forward(states)))


class DecoderLayer(nn.Module):
    """Self-attention to what was said before, attention to the encoder, and a feed-forward part."""

    def __init__(self, width: int, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.own = Attention(width, width, heads)
        self.own_norm = nn.LayerNorm(width)
        self.attention = Attention(width, width, heads)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, memory: Projected, mask: Tensor, mix: Mix | None = None) -> Tensor:
        """Return states (B, T, F) of all places at once, none of which sees a later one."""
        found = self.own(states, self.own.project(states), causal=True)
        return self._rest(states, found, memory, mask, mix)

    def step(
        self, states: Tensor, past: Projected | None, memory: Projected, mask: Tensor, mix: Mix | None
    ) -> tuple[Tensor, Projected]:
        """Return states (B, K, F) of one more place of K hypotheses, and keys and values (B * K, h, t + 1, F / h).

        Hypotheses of a sentence share its memory: to it they are just K queries.
        """
        rows = states.flatten(0, 1).unsqueeze(1)
        new = self.own.project(rows)
        present = new if past is None else (torch.cat([past[0], new[0]], 2), torch.cat([past[1], new[1]], 2))
        found = self.own(rows, present).view_as(states)
        return self._rest(states, found, memory, mask, mix), present

    def _rest(self, states: Tensor, own: Tensor, memory: Projected, mask: Tensor, mix: Mix | None) -> Tensor:
        states = self.own_norm(states + self.dropout(own))
        found = self.dropout(self.attention(states, memory, mask))
        if mix is not None:
            found = mix(states, found)
        states = self.attention_norm(states + found)
        return self.feed_forward_norm(states + self.dropout(self.feed_forward(states)))


class Transformer(nn.Module):
    """Source pieces to target pieces.

    Args:
        vocabulary: V, of source and target.
        pad: the piece that is none.
        config: see TransformerConfig.
        seed: of the first weights.
    """

    def __init__(self, vocabulary: int, pad: int, config: TransformerConfig, seed: int) -> None:
        super().__init__()
        self.config, self.pad = config, pad
        sizes = (config.width, config.hidden, config.heads, config.dropout)
        self.embedding = nn.Embedding(vocabulary, config.width, padding_idx=pad)
        self.encoder = nn.ModuleList(EncoderLayer(*sizes) for _ in range(config.layers))
        self.decoder = nn.ModuleList(DecoderLayer(*sizes) for _ in range(config.layers))
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("places", sinusoids(config.longest + 1, config.width), persistent=False)
        draw_weights(self, torch.Generator().manual_seed(seed))

    def encode(self, source: Tensor, mixes: Sequence[Mix | None] = ()) -> Tensor:
        """Map pieces (B, L) to states (B, L, F)."""
        states, mask = self._embed(source), source != self.pad
        for place, layer in enumerate(self.encoder):
            states = layer(states, mask, mixes[place] if mixes else None)
        return states

    def decode(self, target: Tensor, states: Tensor, mask: Tensor, mixes: Sequence[Mix | None] = ()) -> Tensor:
        """Return logits (B, T, V) of the piece after each of target (B, T)."""
        said = self._embed(target)
        for place, layer in enumerate(self._decoder()):
            said = layer(said, layer.attention.project(states), mask, mixes[place] if mixes else None)
        return self.logits(said)

    def begin(self, source: Tensor) -> Begun:
        """Return what translating source (B, L) piece by piece needs."""
        return self.begun(self.encode(source), source != self.pad)

    def begun(self, states: Tensor, mask: Tensor, mixes: Sequence[Mix | None] = ()) -> Begun:
        """Return the same for an encoder's states (B, L, F)."""
        return Begun([layer.attention.project(states) for layer in self._decoder()], mask, mixes)

    def step(
        self, pieces: Tensor, place: int, past: Sequence[Projected], begun: Begun
    ) -> tuple[Tensor, list[Projected]]:
        """Return logits (B, K, V) of what follows pieces (B, K), which stand at a place, and what to remember.

        Args:
            pieces: the last ones of K hypotheses of each sentence.
            place: how many pieces stand before them.
            past: what the step before returned; empty at first.
            begun: what `begin` returned.
        """
        said, present = self._embed(pieces, place), []
        for number, layer in enumerate(self._decoder()):
            mix = begun.mixes[number] if begun.mixes else None
            before = past[number] if past else None
            said, kept = layer.step(said, before, begun.memories[number], begun.mask, mix)
            present.append(kept)
        return self.logits(said), present

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Return logits (B, T, V) for source (B, L) and target (B, T), which begins with [CLS]."""
        return self.decode(target, self.encode(source), source != self.pad)

    def logits(self, said: Tensor) -> Tensor:
        """Map states (..., F) to logits (..., V), by the embedding."""
        return functional.linear(said, self.embedding.weight)

    def _decoder(self) -> list[DecoderLayer]:
        return [layer for layer in self.decoder if isinstance(layer, DecoderLayer)]

    def _embed(self, pieces: Tensor, place: int | None = None) -> Tensor:
        places: Tensor = self.get_buffer("places")
        places = places[: pieces.shape[1]] if place is None else places[place]
        return self.dropout(self.embedding(pieces) * math.sqrt(self.config.width) + places)


def sinusoids(places: int, width: int) -> Tensor:
    """Return sines and cosines (places, width) of falling frequencies (Vaswani et al. 2017, section 3.5)."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(places)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


@torch.no_grad()
def draw_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Draw first weights: Glorot's uniform ones, embeddings normal with 1 / sqrt(width), biases zero."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight, generator=generator)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=part.embedding_dim**-0.5, generator=generator)
            if part.padding_idx is not None:
                part.weight[part.padding_idx] = 0.0
