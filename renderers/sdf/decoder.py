"""A learned family of shapes: DeepSDF's decoder from a code and a point to a signed distance, and how it is fitted.

Park et al. 2019 (DeepSDF, arXiv:1901.05103): every shape of a set has a code; codes and decoder are learned together,
from points whose distances are known, truncated (section 4; the official specification's numbers are the defaults).
Here minibatches are points of all shapes, not shapes.

Shapes: M points, Z numbers of a code, S shapes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from rlsuite.data.arrays import Arrays
from rlsuite.errors import require, require_finite
from rlsuite.fit import FitConfig, fit
from rlsuite.optim.choice import GroupConfig, OptimizerConfig, ScheduleConfig
from rlsuite.weights_file import read_weights, write_weights

FORMAT = "rlsuite signed distances 1"


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """The decoder.

    Attributes:
        code: Z.
        width: of hidden layers.
        layers: hidden ones; before number layers / 2 the input is given again, in place of as many units.
        dropout: share of units left out while it learns.
    """

    code: int = 256
    width: int = 512
    layers: int = 8
    dropout: float = 0.2

    def __post_init__(self) -> None:
        require(self.code >= 1, f"code={self.code}: use 1 or more")
        require(self.layers >= 2, f"layers={self.layers}: use 2 or more")
        require(self.width > self.code + 3, f"width={self.width}: use more than code + 3, which is {self.code + 3}")
        require(0.0 <= self.dropout < 1.0, f"dropout={self.dropout}: use 0 or more, and less than 1")


class Decoder(nn.Module):
    """Signed distances, in (-1, 1), of shapes that codes tell.

    Args:
        config: sizes.
        seed: of its first weights.
    """

    def __init__(self, config: DecoderConfig, seed: int) -> None:
        super().__init__()
        self.config, size = config, config.code + 3
        again = config.layers // 2
        widths = [config.width - size if number == again - 1 else config.width for number in range(config.layers)]
        inputs = [size] + [config.width] * config.layers
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(seed)
            self.hidden = nn.ModuleList(
                weight_norm(nn.Linear(given, width)) for given, width in zip(inputs, widths, strict=False)
            )
            self.last = nn.Linear(config.width, 1)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, points: Tensor, code: Tensor) -> Tensor:
        """Return signed distances (M,) at points (M, 3) of shapes with codes (M, Z)."""
        given = torch.cat([code, points], 1)
        value = given
        for number, layer in enumerate(self.hidden):
            if number == self.config.layers // 2:
                value = torch.cat([value, given], 1)
            value = self.dropout(torch.relu(layer(value)))
        return torch.tanh(self.last(value)).squeeze(1)


@dataclass(frozen=True, kw_only=True)
class LearningConfig:
    """How a decoder and its shapes' codes are learned.

    Attributes:
        fit: minibatches; the optimizer's rate is the decoder's. Both rates are halved at every quarter of the steps.
        code_rate: learning rate of codes.
        code_deviation: of the first codes' lengths, about.
        longest: codes are kept within this length.
        truncation: distances are clamped to this and its negative.
        prior: weight of the codes' squared lengths, grown to over the first twentieth of the steps.
    """

    fit: FitConfig = field(
        default_factory=lambda: FitConfig(
            steps=20_000,
            batch_size=16_384,
            order="random",
            optimizer=OptimizerConfig(learning_rate=5e-4),
            schedule=ScheduleConfig(kind="step", milestones=(5_000, 10_000, 15_000), factors=(0.5, 0.25, 0.125)),
        )
    )
    code_rate: float = 1e-3
    code_deviation: float = 1.0
    longest: float = 1.0
    truncation: float = 0.1
    prior: float = 1e-4

    def __post_init__(self) -> None:
        for name in ("code_rate", "code_deviation", "longest", "truncation"):
            require_finite(name, getattr(self, name), above=0.0)
        require_finite("prior", self.prior, low=0.0)


class Learner(nn.Module):
    """A decoder and the codes of the shapes that it learns from.

    Attributes:
        decoder: the decoder.
        codes: (S, Z).
    """

    share: Tensor

    def __init__(self, decoder: Decoder, shapes: int, config: LearningConfig, seed: int) -> None:
        super().__init__()
        self.decoder, self.config = decoder, config
        deviation = config.code_deviation / decoder.config.code**0.5
        generator = torch.Generator().manual_seed(seed)
        self.codes = nn.Parameter(deviation * torch.randn(shapes, decoder.config.code, generator=generator))
        self.register_buffer("share", torch.zeros(()))  # of the codes' prior

    def kept(self) -> Tensor:
        """Return codes within the longest length."""
        length = self.codes.norm(dim=1, keepdim=True)
        return self.codes * (self.config.longest / length.clamp_min(self.config.longest))

    def loss(self, module: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return losses of a batch of "shape" (M,), "points" (M, 3) and "distance" (M,)."""
        bound, code = self.config.truncation, self.kept()[batch["shape"]]
        found = self.decoder(batch["points"], code).clamp(-bound, bound)
        error = (found - batch["distance"].clamp(-bound, bound)).abs().mean()
        return {"loss": error + self.share * self.config.prior * code.square().sum(1).mean(), "error": error}


def learn_shapes(
    decoder: Decoder,
    points: Tensor,
    distances: Tensor,
    config: LearningConfig,
    *,
    seed: int,
    run_dir: Path | None = None,
) -> Tensor:
    """Fit a decoder to shapes; see `rlsuite.fit.fit`.

    Args:
        decoder: changed in place, and left in evaluation mode.
        points: (S, n, 3), in the unit sphere, most of them near the surfaces.
        distances: (S, n), signed.
        config: how.
        seed: of codes, minibatches and dropout.
        run_dir: where to log, to save and to go on from.

    Returns:
        Codes (S, Z).
    """
    shapes, count = distances.shape
    learner = Learner(decoder, shapes, config, seed)
    number = torch.arange(shapes).repeat_interleave(count)
    source = Arrays({"shape": number, "points": points.flatten(0, 1), "distance": distances.flatten()})
    codes = GroupConfig(names=("codes",), learning_rate=config.code_rate)
    learning = replace(config.fit, optimizer=replace(config.fit.optimizer, groups=(codes,)))

    def grow(step: int, share: float) -> None:
        learner.share.fill_(min(1.0, 20.0 * share))

    fit(learner, learner.loss, source, learning, seed=seed, hooks=[grow], run_dir=run_dir)
    decoder.eval()
    return learner.kept().detach()


def save_decoder(path: Path, decoder: Decoder) -> None:
    """Write a decoder to a safetensors file."""
    write_weights(path, decoder.state_dict(), asdict(decoder.config), format=FORMAT)


def load_decoder(path: Path | str) -> Decoder:
    """Read what `save_decoder` wrote; the decoder is in evaluation mode.

    Raises:
        UserError: if the file is no such file.
    """

    def config_of(about: dict[str, Any]) -> DecoderConfig:
        config = DecoderConfig(**{name: about[name] for name in ("code", "width", "layers", "dropout")})
        require(max(config.code, config.width) <= 16_384 and config.layers <= 64, "its sizes are beyond all measure")
        return config

    about, tensors = read_weights(
        path,
        format=FORMAT,
        fields={"code": int, "width": int, "layers": int, "dropout": float},
        expected=lambda about: Decoder(config_of(about), 0).state_dict(),
        refusal=lambda reason: f"{path}: no decoder of signed distances ({reason}); make one with learn_shapes",
    )
    decoder = Decoder(config_of(about), 0)
    decoder.load_state_dict(tensors)
    return decoder.eval()
