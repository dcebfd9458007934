"""A masked language model, BERT (Devlin et al. 2019, arXiv:1810.04805), of any size; frozen, layers attend to it.

    [CLS] sentence [SEP] (sentence [SEP]) -> embedding + place + segment -> LayerNorm -> layers = states
    states -> Linear -> GELU -> LayerNorm -> embedding's transpose + bias                        = logits

It learns from text alone: of 15 % of the pieces, 80 % are masked, 10 % replaced by any other and 10 % left as they are,
and all of these are to be told. Whether the second sentence follows the first is not asked (Liu et al. 2019).

Shapes: B sentences, L pieces, V vocabulary, M width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.perception.language.tokens import WordPieces
from envs.perception.language.transformer import EncoderLayer
from rlsuite.data.arrays import Arrays
from rlsuite.errors import require

DEVIATION = 0.02  # of first weights
EPSILON = 1e-12


@dataclass(frozen=True, kw_only=True)
class MaskedLanguageModelConfig:
    """The language model's sizes. BERT-base: width=768, hidden=3072, heads=12, layers=12, longest=512.

    Attributes:
        width: M.
        hidden: units of feed-forward layers.
        heads: of each attention; they share the width.
        layers: how many.
        dropout: while learning.
        longest: pieces of a sentence, or of two, at most.
    """

    width: int = 128
    hidden: int = 512
    heads: int = 4
    layers: int = 2
    dropout: float = 0.1
    longest: int = 128

    def __post_init__(self) -> None:
        for name in ("width", "hidden", "heads", "layers"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.width % self.heads == 0, f"width={self.width}: use a multiple of heads={self.heads}")
        require(0.0 <= self.dropout < 1.0, f"dropout={self.dropout}: use 0 or more, and less than 1")
        require(self.longest >= 3, f"longest={self.longest}: use 3 or more")


class MaskedLanguageModel(nn.Module):
    """Pieces to states, and to logits of what is masked.

    Args:
        vocabulary: V.
        config: see MaskedLanguageModelConfig.
        seed: of the first weights.
    """

    def __init__(self, vocabulary: int, config: MaskedLanguageModelConfig, seed: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.words = nn.Embedding(vocabulary, width)
        self.places, self.segments = nn.Embedding(config.longest, width), nn.Embedding(2, width)
        self.norm, self.dropout = nn.LayerNorm(width, EPSILON), nn.Dropout(config.dropout)
        sizes = (width, config.hidden, config.heads, config.dropout)
        self.layers = nn.ModuleList(EncoderLayer(*sizes, nn.GELU, EPSILON) for _ in range(config.layers))
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width, EPSILON))
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self._draw(torch.Generator().manual_seed(seed))

    def states(self, pieces: Tensor, segments: Tensor, mask: Tensor, layer: int = -1) -> Tensor:
        """Map pieces (B, L) of sentences 0 and 1 (segments (B, L)) to states (B, L, M) behind a layer, -1 the last."""
        places = self.places.weight[: pieces.shape[1]]
        states = self.dropout(self.norm(self.words(pieces) + places + self.segments(segments)))
        for part in self.layers[: layer + 1 if layer >= 0 else len(self.layers) + 1 + layer]:
            states = part(states, mask)
        return states

    def logits(self, states: Tensor) -> Tensor:
        """Map states (..., M) to logits (..., V)."""
        return functional.linear(self.head(states), self.words.weight, self.bias)

    @torch.no_grad()
    def _draw(self, generator: torch.Generator) -> None:
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Embedding):
                nn.init.normal_(part.weight, std=DEVIATION, generator=generator)
            if isinstance(part, nn.Linear):
                nn.init.zeros_(part.bias)


class LanguageModel:
    """A frozen language model with its vocabulary: sentences to states that never change.

    Its weights are not learned any further and its dropout is off, whatever learns around it.

    Args:
        network: the model; it is frozen here.
        pieces: its vocabulary.
        layer: whose states are taken; -1 for the last.
        special: whether [CLS] and [SEP] can be attended to.
    """

    def __init__(self, network: MaskedLanguageModel, pieces: WordPieces, *, layer: int = -1, special: bool = True):
        count = len(network.layers)
        require(-count <= layer < count, f"layer={layer}: the language model has {count}; use -{count} to {count - 1}")
        self.network, self.pieces = network.eval().requires_grad_(False), pieces
        self.layer, self.special = layer, special

    @property
    def width(self) -> int:
        """M."""
        return self.network.config.width

    @torch.no_grad()
    def encode(
        self, sentences: Sequence[str], previous: Sequence[str] = (), *, length: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Return states (B, L, M) and where there is something to attend to (B, L).

        Args:
            sentences: as people write them, in the language that the model knows.
            previous: the sentence before each, which the model sees too (translation of documents); or none.
            length: L; 0 for that of the longest.

        Raises:
            UserError: if a sentence has more pieces than the model has places for.
        """
        pieces, segments = paired(self.pieces, [*previous] or sentences, sentences if previous else (), length)
        longest = self.network.config.longest
        require(pieces.shape[1] <= longest, f"a sentence has {pieces.shape[1]} pieces, more than {longest}; shorten it")
        device = self.network.bias.device
        pieces, segments = pieces.to(device), segments.to(device)
        mask = pieces != self.pieces.pad
        states = self.network.eval().states(pieces, segments, mask, self.layer)
        if not self.special:
            mask = mask & (pieces != self.pieces.first) & (pieces != self.pieces.last)
        return states, mask


def paired(
    pieces: WordPieces, first: Sequence[str], second: Sequence[str] = (), length: int = 0
) -> tuple[Tensor, Tensor]:
    """Return [CLS] first [SEP] (second [SEP]) as pieces and segments (B, L) int64, padded with zeros."""
    rows, segments = [], []
    for place, sentence in enumerate(first):
        row = [pieces.first, *pieces.numbers(sentence), pieces.last]
        other = [*pieces.numbers(second[place]), pieces.last] if second else []
        rows.append(row + other)
        segments.append([0] * len(row) + [1] * len(other))
    whole = pieces.batch(rows, length)
    return whole, torch.tensor([row + [0] * (whole.shape[1] - len(row)) for row in segments])


def text_examples(pieces: WordPieces, text: Sequence[str], following: Sequence[str] = ()) -> Arrays:
    """Return sentences, each with what follows it or without, as examples: "pieces" and "segments" (B, L)."""
    whole, segments = paired(pieces, text, following)
    return Arrays({"pieces": whole, "segments": segments})


class MaskedLoss:
    """Cross-entropy of pieces that were masked; a loss for `rlsuite.fit`.

    Args:
        pieces: the vocabulary.
        share: of the pieces that are to be told.
    """

    def __init__(self, pieces: WordPieces, share: float = 0.15) -> None:
        require(0.0 < share < 1.0, f"share={share}: use more than 0 and less than 1")
        self.pieces, self.share = pieces, share

    def masked(self, whole: Tensor) -> tuple[Tensor, Tensor]:
        """Return pieces (B, L) with some masked, and which ones are to be told (B, L); draws as dropout does."""
        real = (whole != self.pieces.pad) & (whole != self.pieces.first) & (whole != self.pieces.last)
        told = (torch.rand_like(whole, dtype=torch.float32) < self.share) & real
        fate = torch.rand_like(whole, dtype=torch.float32)
        other = torch.randint_like(whole, len(self.pieces))
        shown = torch.where(told & (fate < 0.8), torch.full_like(whole, self.pieces.mask), whole)
        return torch.where(told & (fate >= 0.9), other, shown), told

    def __call__(self, module: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return "loss" (0-d)."""
        assert isinstance(module, MaskedLanguageModel)
        whole = batch["pieces"]
        shown, told = self.masked(whole)
        states = module.states(shown, batch["segments"], whole != self.pieces.pad)
        # A share of all places, at most so many, is enough for those to be told: sizes then depend on no values.
        room = max(1, int(1.5 * self.share * whole.numel()))
        chosen = told.flatten().float().topk(min(room, whole.numel())).indices
        logits = module.logits(states.flatten(0, 1)[chosen])
        counted = told.flatten()[chosen].float()
        losses = functional.cross_entropy(logits, whole.flatten()[chosen], reduction="none")
        return {"loss": (losses * counted).sum() / counted.sum().clamp_min(1.0)}
