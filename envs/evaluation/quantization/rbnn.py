"""RBNN: rotated binary networks, weights and inputs of one bit (Lin et al. 2020, arXiv:2009.13055).

Weights are standardized, rotated so that they lie near their signs (`rotated.py`), and binarized; the rotations are
renewed as each epoch begins, in three cycles. Signs get a gradient that is blunt at first and sharp at the end
(`sharpened_sign`). What layers take in is standardized, example by example, before its sign. What is kept is a bit a
weight and a scale a filter; rotations, their mixture and the float weights are gone.

    t = 10^(Tmin + (Tmax - Tmin) e / E), k = max(1 / t, 1);  inputs: max(t, 1) and k = 1

Departures: rotated weights pass gradients, as the paper's equation 17 has it; detached=true is the authors' code, which
passes none. An "epoch" is one of `epochs` equal parts of the learning, whatever the examples, since a policy's grow
while it learns. The first layer, the last, and convolutions of 1x1 (shortcuts) stay floats. A network's own activations
stay unless hardtanh=true.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from envs.evaluation.quantization.binary_convolutions import pack_binary_layers
from envs.evaluation.quantization.binary_layer import SignInput, StandardizedInput
from envs.evaluation.quantization.layer import effective_weight
from envs.evaluation.quantization.places import Bits, PlacesConfig, bits_of_layers, bits_of_plan
from envs.evaluation.quantization.rotated import CYCLES, RotatedLayer, improve_rotations, sharpen
from envs.evaluation.quantization.rules import FLOAT_BITS
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, Transform, teach
from rlsuite.errors import UserError, require, require_choice, require_finite
from rlsuite.fit import FitConfig, Hook
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

GRADIENTS = ("sharpened", "clipped")


@dataclass(frozen=True, kw_only=True)
class RBNNConfig:
    """RBNN's numbers.

    Attributes:
        input_bits: of what layers take in: 1, or 32 for standardized floats.
        rotate: whether weights are rotated.
        gradient: of signs: "sharpened" over the learning, or "clipped", that of the identity within [-1, 1].
        detached: no gradient through rotated weights (the authors' code).
        epochs: E, how often the rotations are renewed and the gradient sharpened over the whole learning.
        cycles: of each renewal.
        first_sharpness: 10^Tmin, t at the start.
        last_sharpness: 10^Tmax, t at the end.
        hardtanh: replace the network's ReLUs by Hardtanh, as the paper's networks have it.
        pointwise: convolutions of 1x1 become binary, too.
        places: layers that stay floats (bits of 32); the first and the last do.
        teach: how the network learns: the paper's SGD with weight decay on everything and a cosine.
    """

    input_bits: int = 1
    rotate: bool = True
    gradient: str = "sharpened"
    detached: bool = False
    epochs: int = 40
    cycles: int = CYCLES
    first_sharpness: float = 1e-2
    last_sharpness: float = 1e1
    hardtanh: bool = False
    pointwise: bool = False
    places: PlacesConfig = field(default_factory=PlacesConfig)
    teach: TeachConfig = field(
        default_factory=lambda: TeachConfig(
            fit=FitConfig(
                steps=2000,
                batch_size=256,
                optimizer=OptimizerConfig(name="sgd", learning_rate=0.1, weight_decay=1e-4),
                schedule=ScheduleConfig(kind="cosine", warmup=100),
            )
        )
    )

    def __post_init__(self) -> None:
        require(self.input_bits in (1, FLOAT_BITS), f"input_bits={self.input_bits}: use 1, or 32 for floats")
        require_choice("gradient", self.gradient, GRADIENTS)
        for name in ("epochs", "cycles"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        for name in ("first_sharpness", "last_sharpness"):
            require_finite(name, getattr(self, name), above=0.0)
        require(
            self.first_sharpness <= self.last_sharpness,
            f"last_sharpness={self.last_sharpness}: use first_sharpness={self.first_sharpness} or more",
        )


class RBNN(Transform):
    """Binary weights and inputs of any network of linear layers or convolutions."""

    Config = RBNNConfig
    refuses: ClassVar = {"quantized": "quantize a network once"}
    gives = frozenset({"quantized"})

    config: RBNNConfig

    def plan(self, subject: Subject) -> dict[str, Any]:
        """Return "layers": path -> [1, bits of inputs]."""
        module, places = subject.module, self.config.places
        found = bits_of_layers(module, Bits(1, self.config.input_bits), places)
        named = [pattern for entry in places.layers for pattern in entry.names]
        for path, bits in list(found.items()):
            require(
                bits.weights == 1 and bits.inputs in (1, FLOAT_BITS),
                f"bits of {path}: {bits.weights} and {bits.inputs}; RBNN has weights of 1 bit and inputs of 1 or 32",
            )
            weight = effective_weight(module.get_submodule(path)).detach()
            require(bool(torch.isfinite(weight).all()), f"{path}: its weights are not finite; train the network again")
            pointwise = weight.dim() == 4 and weight[0, 0].numel() == 1
            if pointwise and not self.config.pointwise and not any(fnmatch.fnmatchcase(path, name) for name in named):
                del found[path]
        require(bool(found), "no layer is left to binarize beside the first, the last and those of 1x1; see places")
        return {"layers": {path: list(bits) for path, bits in found.items()}}

    def rebuild(self, module: nn.Module, plan: Any) -> nn.Module:
        """Put layers of binary weights in the places that the plan names."""
        for path, bits in bits_of_plan(module, plan).items():
            if bits.weights != 1 or bits.inputs not in (1, FLOAT_BITS):
                raise UserError(f"its plan is damaged: '{path}' has {bits.weights} and {bits.inputs} bits")
            rule = SignInput(centred=True) if bits.inputs == 1 else StandardizedInput()
            layer = RotatedLayer(
                module.get_submodule(path), rule, rotated=self.config.rotate, detached=self.config.detached
            )
            module.set_submodule(path, layer)
        if self.config.hardtanh:
            for path, part in list(module.named_modules()):
                if isinstance(part, nn.ReLU):
                    module.set_submodule(path, nn.Hardtanh())
        return module

    def train(self, subject: Subject, before: Subject, seed: int) -> None:
        """Draw the rotations; let the network learn while they are renewed and the signs' gradient is sharpened."""
        generator = torch.Generator().manual_seed(derive_seed(seed, "rotations"))
        for part in subject.module.modules():
            if isinstance(part, RotatedLayer):
                part.draw_rotation(generator)
        teach(subject, self.config.teach, seed, hooks=[self.hook(subject.module)])

    def hook(self, module: nn.Module) -> Hook:
        """Return what `rlsuite.fit.fit` is to call: what it does depends on the share done and the module's state."""
        config, renewed = self.config, -1

        def at(step: int, share: float) -> None:
            nonlocal renewed
            if config.gradient == "sharpened":
                sharpen(module, epoch_of(share, config.epochs), config.first_sharpness, config.last_sharpness)
            if step != renewed and epoch_begins(step, share, config.epochs):
                improve_rotations(module, config.cycles)
                renewed = step

        return at

    def finish(self, module: nn.Module) -> nn.Module:
        """Keep packed signs, scales and what stays float."""
        return pack_binary_layers(module)


def epoch_of(share: float, epochs: int) -> float:
    """Return e / E, the epoch being that which a share of the learning lies in."""
    return min(int(share * epochs + 1e-9), epochs) / epochs


def epoch_begins(step: int, share: float, epochs: int) -> bool:
    """Return whether an epoch begins with minibatch `step`, before which a share of the learning is done."""
    if step == 0 or share >= 1.0:
        return step == 0
    steps = round(step / share)
    return step * epochs // steps > (step - 1) * epochs // steps
