"""The BERT-fused Transformer (Zhu et al. 2020, "Incorporating BERT into Neural Machine Translation", arXiv:2002.06823).

A frozen language model of the source language reads the sentence; every layer of encoder and decoder attends to its
states H_B beside what it attends to anyway, and the two are averaged (section 3, equations 1 to 3):

    encoder:  h~ = (attn_S(h, H, H) + attn_B(h, H_B, H_B)) / 2        h = LN(h + h~), then the feed-forward part
    decoder:  s^ = LN(s + self-attention)                             which does not see H_B
              s~ = (attn_B(s^, H_B, H_B) + attn_E(s^, H_E, H_E)) / 2  s = LN(s^ + s~), then the feed-forward part

Drop-net (section 3.3), while learning: each layer draws U in [0, 1] for the batch; below p / 2 its own attention
counts alone, above 1 - p / 2 that to H_B alone, between them both by half. What is learned begins from a plain
Transformer that has converged (`warm_start`), with an optimizer and a schedule of its own; only attn_B is new.

Without drop-net the official code adds the two; here they are averaged, as in the paper's equations. Back-translation
(semi-supervised) needs nothing here but more pairs. The unsupervised variant, which starts from XLM, is left out: it is
another model's pretraining. So is tuning the language model jointly, which the paper found to be worse.

Shapes: B sentences, L source pieces, T target pieces, N pieces of the language model, V vocabulary, F and M widths.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from envs.perception.language.transformer import (
    Attention,
    Begun,
    Mix,
    Projected,
    Transformer,
    TransformerConfig,
    draw_weights,
)
from rlsuite.errors import UserError, require, require_choice

MIXINGS = ("drop_net", "uniform")


@dataclass(frozen=True, kw_only=True)
class FusedConfig:
    """A fused translator.

    Attributes:
        network: the Transformer's sizes.
        drop_net: p, the chance that a layer's draw leaves only one of its attentions; 0 for always both. The official
            code's option is half of it.
        mixing: how layers are mixed while learning: "drop_net", or "uniform": U and 1 - U ("mixup" in the code).
        encoder: which of its layers attend to the language model; () for all.
        decoder: the same; as many False as there are layers leave the decoder without.
    """

    network: TransformerConfig = field(default_factory=TransformerConfig)
    drop_net: float = 1.0
    mixing: str = "drop_net"
    encoder: tuple[bool, ...] = ()
    decoder: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        require(0.0 <= self.drop_net <= 1.0, f"drop_net={self.drop_net}: use 0 to 1")
        require_choice("mixing", self.mixing, MIXINGS)
        layers = self.network.layers
        for name in ("encoder", "decoder"):
            gates = getattr(self, name)
            require(
                len(gates) in (0, layers), f"{name}={list(gates)}: name all of the {layers} layers, or none for all"
            )


def shares(uniform: Tensor, drop_net: float) -> Tensor:
    """Return the share of a layer's own attention, 1, 0 or 1/2, for draws (...) from [0, 1)."""
    alone = torch.where(uniform < drop_net / 2, 1.0, 0.5)
    return torch.where(uniform > 1.0 - drop_net / 2, 0.0, alone)


class LanguageAttention(nn.Module):
    """attn_B of one layer, and its mixing with the layer's own attention.

    Args:
        width: F.
        memory_width: M.
        config: how they are mixed.
    """

    def __init__(self, width: int, memory_width: int, config: FusedConfig) -> None:
        super().__init__()
        self.attention = Attention(width, memory_width, config.network.heads)
        self.dropout = nn.Dropout(config.network.dropout)
        self.drop_net, self.mixing = config.drop_net, config.mixing

    def forward(self, memory: Projected, mask: Tensor, query: Tensor, own: Tensor) -> Tensor:
        """Return own (B, T, F), the layer's attention, mixed with what the query (B, T, F) finds in a memory."""
        found = self.dropout(self.attention(query, memory, mask))
        if not self.training:
            return 0.5 * (own + found)
        drawn = torch.rand((), device=own.device)  # one draw a layer and forward pass, as dropout draws
        share = drawn if self.mixing == "uniform" else shares(drawn, self.drop_net)
        return share * own + (1.0 - share) * found

    def mix(self, memory: Tensor, mask: Tensor) -> Mix:
        """Return the mixing for a batch with states (B, N, M) and mask (B, N)."""
        return functools.partial(self, self.attention.project(memory), mask)


class FusedTransformer(nn.Module):
    """A Transformer whose layers attend to a language model's states, too.

    Args:
        vocabulary: V, of source and target.
        pad: the piece that is none.
        memory_width: M, of the language model.
        config: see FusedConfig.
        seed: of the first weights.
    """

    def __init__(self, vocabulary: int, pad: int, memory_width: int, config: FusedConfig, seed: int) -> None:
        super().__init__()
        self.config, self.memory_width, sizes = config, memory_width, config.network
        self.network = Transformer(vocabulary, pad, sizes, seed)

        def attentions(gates: tuple[bool, ...]) -> nn.ModuleList:
            used = gates or (True,) * sizes.layers
            return nn.ModuleList(
                LanguageAttention(sizes.width, memory_width, config) if gate else nn.Identity() for gate in used
            )

        self.encoder, self.decoder = attentions(config.encoder), attentions(config.decoder)
        generator = torch.Generator().manual_seed(seed + 1)
        draw_weights(self.encoder, generator)
        draw_weights(self.decoder, generator)

    def forward(self, source: Tensor, target: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """Return logits (B, T, V) for source (B, L), target (B, T) and the language model's states (B, N, M)."""
        states = self.network.encode(source, mixes(self.encoder, memory, memory_mask))
        mask = source != self.network.pad
        return self.network.decode(target, states, mask, mixes(self.decoder, memory, memory_mask))

    def begin(self, source: Tensor, memory: Tensor, memory_mask: Tensor) -> Begun:
        """Return what translating piece by piece needs; see `Transformer.begin`."""
        states = self.network.encode(source, mixes(self.encoder, memory, memory_mask))
        return self.network.begun(states, source != self.network.pad, mixes(self.decoder, memory, memory_mask))

    def step(
        self, pieces: Tensor, place: int, past: Sequence[Projected], begun: Begun
    ) -> tuple[Tensor, list[Projected]]:
        """Return logits of what follows, and what to remember; see `Transformer.step`."""
        return self.network.step(pieces, place, past, begun)

    def warm_start(self, state: Mapping[str, Tensor]) -> None:
        """Take all of a plain Transformer's weights; attn_B stays as it was drawn.

        Raises:
            UserError: if one is missing, left over, or of another shape: learning would begin from nothing, unnoticed.
        """
        own = self.network.state_dict()
        missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        bad = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
        for what, names in (("lacks", missing), ("has besides", extra), ("has in another size", sorted(bad))):
            if names:
                raise UserError(
                    f"a warm start {what} {len(names)} weights, {', '.join(names[:3])} among them; train a plain "
                    "Transformer with the same sizes and vocabulary"
                )
        self.network.load_state_dict(dict(state), strict=True)


def mixes(attentions: nn.ModuleList, memory: Tensor, mask: Tensor) -> list[Mix | None]:
    """Return each layer's mixing, None where it does not attend to the language model."""
    return [part.mix(memory, mask) if isinstance(part, LanguageAttention) else None for part in attentions]
