"""A translator from sentence to sentence: examples, loss and recipe of the paper, and beam search around the networks.

Recipe (Zhu et al. 2020, section 4 and the official scripts): Adam with betas 0.9 and 0.98, rate 5e-4 that rises and
then falls with the root of the step, weight decay 1e-4 (apart from the gradient, as fairseq's Adam has it), labels
smoothed by 0.1, beam 5 with length penalty 1. Gradients are clipped to norm 1 here; the official default of 25 hardly
ever does. The plain Transformer learns first, until it gets no better, then the fused one from its weights, with an
optimizer and schedule of its own.

Shapes: B sentences, L source pieces, T target pieces, N pieces of the language model, M its width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.perception.language.beam import beam_search
from envs.perception.language.fused import FusedTransformer
from envs.perception.language.masked_language_model import LanguageModel
from envs.perception.language.pairs import Pair
from envs.perception.language.tokens import WordPieces
from envs.perception.language.transformer import Transformer
from rlsuite.data.arrays import Arrays
from rlsuite.errors import require
from rlsuite.fit import FitConfig
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig

SMOOTHING = 0.1


def recipe(steps: int, *, batch_size: int = 32, learning_rate: float = 5e-4, warmup: int = 4000) -> FitConfig:
    """Return how a plain or fused translator learns; the paper: 150,000 steps at most, of 4,000 pieces each."""
    return FitConfig(
        steps=steps,
        batch_size=batch_size,
        optimizer=OptimizerConfig(name="adamw", learning_rate=learning_rate, beta2=0.98, weight_decay=1e-4),
        schedule=ScheduleConfig(kind="inverse_sqrt", warmup=warmup),
        clip_norm=1.0,
    )


def examples(
    pairs: Sequence[Pair], pieces: WordPieces, language_model: LanguageModel | None, longest: int, at_once: int = 256
) -> Arrays:
    """Return pairs as examples: "source" (B, L), "target" (B, T), and "memory" (B, N, M) with "memory_mask" (B, N).

    Both sides end with [SEP]; targets begin with [CLS]. The language model, if there is one, reads each sentence once.

    Raises:
        UserError: if a sentence has more than `longest` pieces.
    """
    sources = [pair.source for pair in pairs]
    found = {
        "source": pieces.batch([[*pieces.numbers(source), pieces.last] for source in sources]),
        "target": pieces.batch([[pieces.first, *pieces.numbers(pair.target), pieces.last] for pair in pairs]),
    }
    for name, extra in (("source", 0), ("target", 1)):
        size = found[name].shape[1] - extra
        require(size <= longest, f"a {name} sentence has {size} pieces, more than {longest}; use a larger longest=")
    if language_model is not None:
        length = max(len(language_model.pieces.numbers(source)) + 2 for source in sources)
        parts = [
            language_model.encode(sources[first : first + at_once], length=length)
            for first in range(0, len(sources), at_once)
        ]
        found["memory"] = torch.cat([states for states, _ in parts]).cpu()
        found["memory_mask"] = torch.cat([mask for _, mask in parts]).cpu()
    return Arrays(found)


class TranslationLoss:
    """Cross-entropy of the next piece with smoothed labels; a loss for `rlsuite.fit`.

    Args:
        pad: the piece that is none.
        smoothing: share of the label that all pieces have.
    """

    def __init__(self, pad: int, smoothing: float = SMOOTHING) -> None:
        self.pad, self.smoothing = pad, smoothing

    def __call__(self, module: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return "loss" and the share of "correct" next pieces, each (0-d)."""
        told, asked = batch["target"][:, :-1], batch["target"][:, 1:]
        memory = (batch["memory"], batch["memory_mask"]) if isinstance(module, FusedTransformer) else ()
        logits = module(batch["source"], told, *memory)
        loss = functional.cross_entropy(
            logits.flatten(0, 1), asked.flatten(), ignore_index=self.pad, label_smoothing=self.smoothing
        )
        real = asked != self.pad
        correct = ((logits.argmax(-1) == asked) & real).sum() / real.sum()
        return {"loss": loss, "correct": correct}


class Translator:
    """Sentences to English.

    Args:
        network: plain, or fused.
        pieces: its vocabulary.
        language_model: what a fused network attends to.

    Raises:
        UserError: if a fused network has no language model, or one of another width.
    """

    def __init__(
        self,
        network: Transformer | FusedTransformer,
        pieces: WordPieces,
        language_model: LanguageModel | None = None,
    ) -> None:
        if isinstance(network, FusedTransformer):
            width = language_model.width if language_model else 0
            require(
                width == network.memory_width,
                f"the translator attends to a language model of width {network.memory_width} and is given "
                f"{f'one of width {width}' if width else 'none'}; give the one that it learned with",
            )
        self.network, self.pieces, self.language_model = network.eval(), pieces, language_model

    def translate(
        self,
        sentences: Sequence[str],
        *,
        beam: int = 5,
        length_penalty: float = 1.0,
        previous: Sequence[str] = (),
        at_once: int = 250,
    ) -> list[str]:
        """Return translations.

        Args:
            sentences: to translate; pieces beyond the longest that the network knows are cut off.
            beam: hypotheses that are followed.
            length_penalty: see `beam.beam_search`.
            previous: the sentence before each, read by the language model alone; or none.
            at_once: sentences of a batch.
        """
        found: list[str] = []
        for first in range(0, len(sentences), at_once):
            some = slice(first, first + at_once)
            found += self._translated(sentences[some], previous[some], beam, length_penalty)
        return found

    def _translated(
        self, sentences: Sequence[str], previous: Sequence[str], beam: int, length_penalty: float
    ) -> list[str]:
        network, pieces = self.network, self.pieces
        longest = (network.network if isinstance(network, FusedTransformer) else network).config.longest
        device = next(network.parameters()).device
        source = pieces.batch([[*pieces.numbers(sentence)[: longest - 1], pieces.last] for sentence in sentences])
        source = source.to(device)
        with torch.no_grad():
            if isinstance(network, FusedTransformer):
                assert self.language_model is not None
                memory, mask = self.language_model.encode(sentences, previous)
                begun = network.begin(source, memory.to(device), mask.to(device))
            else:
                begun = network.begin(source)
        best, _ = beam_search(
            network,
            begun,
            first=pieces.first,
            last=pieces.last,
            pad=pieces.pad,
            longest=longest,
            beam=beam,
            length_penalty=length_penalty,
        )
        return [pieces.text(row) for row in best.tolist()]
