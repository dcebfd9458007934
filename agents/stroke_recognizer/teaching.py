"""All of a reader taught: the extractor on noisy glyphs, then the recognizers on what it redraws.

Shapes: M examples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from agents.stroke_recognizer.extraction import Extraction, ExtractionConfig, teach_extractor
from agents.stroke_recognizer.extractor import ExtractorConfig
from agents.stroke_recognizer.read import extractor_redraw, redrawn_examples
from agents.stroke_recognizer.recognizer import WAYS, Recognizer, clean_examples, teach_recognizer
from agents.stroke_recognizer.weights import Readers
from envs.characters.examples import NoisyGlyphs
from envs.characters.glyphs import Glyphs, glyph_pool
from envs.characters.noise import parse_noise
from rlsuite.errors import require, require_choice
from rlsuite.fit import FitConfig
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

NOISES = ("clean", "gauss:0.3+saltpepper:0.15", "gauss:0.7+saltpepper:0.3")


@dataclass(frozen=True, kw_only=True)
class TeachingConfig:
    """How readers are taught.

    Attributes:
        data: glyphs: "shipped" (fonts and scikit-learn's digits), "fonts", "digits", "mnist", or a folder or zip file.
        characters: of fonts: digits, letters or both.
        variants: of each font and character.
        size: W.
        strokes: k.
        network: of the extractor: vgg16, resnet or small.
        noises: what the extractor learns under, each as likely; see envs/characters/noise.py.
        steps: minibatches of 64 for the extractor.
        learning_rate: Adam's; the paper has 3e-4 with far more steps.
        schedule: how it changes over the steps: "constant" (the paper's), "cosine" or "linear", both to 0.
        pool: noisy examples there are.
        redrawn: of those, examples that the two recognizers of redrawn glyphs learn from.
        recognizer_steps: minibatches of 64 for each recognizer.
        check_every: minibatches between two records of the extractor's losses.
        save_every: minibatches between two checkpoints.
        seed: of everything.
    """

    data: str = "shipped"
    characters: str = "digits"
    variants: int = 20
    size: int = 32
    strokes: int = 4
    network: str = "small"
    noises: tuple[str, ...] = NOISES
    steps: int = 1000
    learning_rate: float = 1e-3
    schedule: str = "constant"
    pool: int = 100_000
    redrawn: int = 4000
    recognizer_steps: int = 600
    check_every: int = 100
    save_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "pool", "redrawn", "recognizer_steps"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(bool(self.noises), "noises=[]: name one or more, such as [clean,gauss:0.3]")
        require_choice("schedule", self.schedule, ("constant", "cosine", "linear"))
        for noise in self.noises:
            parse_noise(noise)
        # Wrong sizes and rates are refused before anything is read.
        _ = self.extractor, self.optimizer

    @property
    def optimizer(self) -> OptimizerConfig:
        """What the extractor learns by."""
        return OptimizerConfig(learning_rate=self.learning_rate)

    @property
    def extractor(self) -> ExtractorConfig:
        """The extractor's part."""
        return ExtractorConfig(size=self.size, strokes=self.strokes, network=self.network)

    def glyphs(self, split: str) -> Glyphs:
        """Return the glyphs of a split."""
        return glyph_pool(self.data, self.size, split, self.characters, self.variants)


def teach_strokes(
    config: TeachingConfig, run_dir: Path | None = None, device: torch.device | str = "cpu"
) -> Extraction:
    """Teach an extractor alone.

    Args:
        config: how.
        run_dir: of log and checkpoints; what was interrupted goes on there. None for neither.
        device: cpu or cuda.
    """
    glyphs = config.glyphs("train")
    source = NoisyGlyphs(glyphs, config.noises, derive_seed(config.seed, "examples"), config.pool)
    fit = FitConfig(
        steps=config.steps,
        order="random",
        optimizer=config.optimizer,
        schedule=ScheduleConfig(kind=config.schedule),
        check_every=config.check_every,
        save_every=config.save_every,
    )
    extraction, _ = teach_extractor(
        ExtractionConfig(extractor=config.extractor, classes=len(glyphs.names), fit=fit),
        source,
        seed=config.seed,
        run_dir=run_dir,
        about={"data": config.data, "noises": list(config.noises), "seed": config.seed},
        device=device,
    )
    return extraction


def teach_readers(config: TeachingConfig, run_dir: Path | None = None, device: torch.device | str = "cpu") -> Readers:
    """Teach an extractor and its recognizers; arguments as teach_strokes."""
    extraction = teach_strokes(config, run_dir, device)
    glyphs = config.glyphs("train")
    names = "".join(name if len(name) == 1 else chr(0x100 + number) for number, name in enumerate(glyphs.names))
    about = {"size": config.size, "strokes": config.strokes, "network": config.network, "names": names}
    readers = Readers(about)
    readers.extractor.load_state_dict(extraction.extractor.state_dict())
    clean = clean_examples(glyphs.picture, glyphs.label, config.strokes)
    fewer = NoisyGlyphs(glyphs, config.noises, derive_seed(config.seed, "redrawn"), config.redrawn)
    redrawn = redrawn_examples(extractor_redraw(readers.extractor), fewer)
    for way in WAYS:
        own = readers.recognizers[way]
        assert isinstance(own, Recognizer)
        longer = replace(own.config, fit=replace(own.config.fit, steps=config.recognizer_steps))
        recognizer = Recognizer(longer, derive_seed(config.seed, f"recognizer {way}"))
        teach_recognizer(recognizer, clean if way == "redraw" else redrawn, derive_seed(config.seed, "teach"))
        own.load_state_dict(recognizer.state_dict())
    return readers.eval().requires_grad_(False)


@torch.no_grad()
def accuracy(module: nn.Module, pictures: torch.Tensor, label: torch.Tensor) -> float:
    """Return the share of pictures (B, C, H, W) whose class a module tells, from 0 to 1."""
    right = [module(part).argmax(1) == own for part, own in zip(pictures.split(512), label.split(512), strict=True)]
    return float(torch.cat(right).double().mean())
