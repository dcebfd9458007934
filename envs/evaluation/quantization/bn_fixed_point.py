"""BatchNorm in fixed point: what lies between two quantized layers becomes (A x + B) >> L, exactly (arXiv:2008.13128).

Behind whole-number sums x stand a bias, BatchNorm, ReLU and the next layer's rounding. Together they are

    clip(floor(a x + b), low, high),  a = gamma s_w s_in / (sqrt(var + eps) d)
                                      b = (beta + gamma (bias - mean) / sqrt(var + eps)) / d + 1/2

for each channel, with the steps s_w, s_in, d of weights, inputs and outputs. `fixed_point.py` finds the whole numbers
A, B and one L of a layer that give the same for every x that the layer's weights allow; `certify` checks all of them.
The float32 network itself may differ at a jump, where its own rounding decides; so does round-half-to-even at a tie.

It takes what other methods have quantized, in chains of layers: a network with residual sums is refused, since these
methods leave its shortcuts floats. (Where both sides are whole numbers, `search` with a = the steps' ratio and b = 1/2
brings one to the other's step.)

Shapes: O channels out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from envs.evaluation.quantization.bn_chain import Chain, Channels, RuleDoor
from envs.evaluation.quantization.fixed_point import accumulator_bits, mismatches, rounded_alone, search
from envs.evaluation.quantization.folding import require_frozen
from envs.evaluation.quantization.integer_model import (
    Deployable,
    IntegerModel,
    OutputDoor,
    core_of,
    shape_of,
    squash_of,
)
from envs.evaluation.quantization.levels import input_codes
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, Transform
from rlsuite.errors import require
from rlsuite.nn.plain import PlainPolicy

COUNTED_ON = 256  # examples, where not every x has to be exact


@dataclass(frozen=True, kw_only=True)
class BNFixedPointConfig:
    """Fixed point's numbers.

    Attributes:
        share: of a channel's sums, as they come by in examples, that may be one level off; 0 is exact for all sums that
            there can be. 1e-4 saves bits.
        teach: how the control beside it learns; the network itself learns nothing.
    """

    share: float = 0.0
    teach: TeachConfig = field(default_factory=TeachConfig)

    def __post_init__(self) -> None:
        require(0.0 <= self.share < 1.0, f"share={self.share}: use 0 (exact) or more, and less than 1")


@dataclass(frozen=True)
class Certificate:
    """What a check of all sums found between two layers.

    Attributes:
        path: of the layer whose sums these are.
        points: whole numbers x, all channels together, that were checked.
        mismatches: of these, with another level than the exact fractions have.
        shift: L.
        own_shift: the mean over channels of the smallest L of each by itself.
        alone_shift: the mean over channels of the L that rounding a and b by themselves needs.
        multiplier_bits: of the largest A, sign included.
        accumulator_bits: of the largest A x + B, sign included, x clipped to where the outcome still changes.
        unclipped_bits: the same of all x.
    """

    path: str
    points: int
    mismatches: int
    shift: int
    own_shift: float
    alone_shift: float
    multiplier_bits: int
    accumulator_bits: int
    unclipped_bits: int


def certify(found: Channels) -> Certificate:
    """Check every sum that can come up, and say what the whole numbers cost."""
    both = list(zip(found.stairs, found.made, strict=True))
    return Certificate(
        path=found.path,
        points=sum(stairs.last - stairs.first + 1 for stairs in found.stairs),
        mismatches=sum(mismatches(stairs, made) for stairs, made in both),
        shift=found.made[0].shift,
        own_shift=float(np.mean([search(stairs).shift for stairs in found.stairs])),
        alone_shift=float(np.mean([rounded_alone(stairs) for stairs in found.stairs])),
        multiplier_bits=max(abs(made.multiplier) for made in found.made).bit_length() + 1,
        accumulator_bits=max(accumulator_bits(stairs.changing(), made) for stairs, made in both),
        unclipped_bits=max(accumulator_bits((stairs.first, stairs.last), made) for stairs, made in both),
    )


class BNFixedPoint(Transform):
    """Quantized networks without a float between input and output."""

    Config = BNFixedPointConfig
    needs: ClassVar = {
        "quantized": "quantize it first, such as evaluation=[quantization/pams,quantization/bn_fixed_point] "
        "pams.places.first=8 pams.places.last=8"
    }
    refuses: ClassVar = {"integer": "it computes with whole numbers already"}
    gives = frozenset({"integer"})

    config: BNFixedPointConfig

    def plan(self, subject: Subject) -> dict[str, Any]:
        """Return "shape": of one example."""
        require_frozen(subject.module)
        shape = list(subject.example.shape[1:])
        _chain(subject.module, tuple(shape))
        return {"shape": shape}

    def rebuild(self, module: nn.Module, plan: Any) -> nn.Module:
        """Put beside the network the integer one that it becomes."""
        chain, plain = _chain(module, shape_of(plan)), isinstance(module, PlainPolicy)
        normalizer: Any = module.normalizer if plain else nn.Identity()
        outputs = len(chain.products[chain.last.place][1].bias)
        enter = RuleDoor(normalizer, chain.first.input_rule, input_codes(chain.first).shift)
        leave = OutputDoor(outputs, module.action_range if plain else None)  # type: ignore[arg-type]
        model = IntegerModel(enter, chain.network, leave)
        return Deployable(module, model.to(chain.first.codes.device))

    def train(self, subject: Subject, before: Subject, seed: int) -> None:
        """Find the whole numbers; nothing learns."""
        self.solve(subject)

    def solve(self, subject: Subject) -> list[Channels]:
        """Put whole numbers in, and return what was found between layers."""
        pair_of = subject.module
        assert isinstance(pair_of, Deployable)
        model, examples = pair_of.deployed, None
        if self.config.share:
            source = subject.task.source("train")
            index = torch.arange(min(COUNTED_ON, len(source)))
            examples = model.enter(source.examples(index)["input"])
        chain = _chain(pair_of.learning, model.network.shape)
        found = chain.fill(model.leave, examples, self.config.share)
        model.network.load_state_dict(chain.network.state_dict())
        return found

    def finish(self, module: nn.Module) -> nn.Module:
        """Keep the integer network and its doors."""
        assert isinstance(module, Deployable)
        return module.deployed


def _chain(module: nn.Module, shape: tuple[int, ...]) -> Chain:
    return Chain(core_of(module), shape, squash_of(module))
