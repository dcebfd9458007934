"""BReLU: a network of 8-bit whole numbers alone (arXiv:2006.11735; constants are those of the authors' code).

What costs accuracy is the rounding of activations, so every ReLU is bounded: clamp(x, 0, B) fixes their range, and B is
nudged until "divide and round to 0 ... 127" is one multiplication and a shift of whole numbers. In order:

    1. weights are quantized, BatchNorm folded in, and learn on ("shadow weights": brelu_layers.py)
    2. B of each ReLU: the value at rank round(0.99977 N) of what it gives, zeros counted, the mean over batches of
       examples that are learned from
    3. multipliers and shifts, with the rules for sums and for channels side by side (brelu_rules.py)
    4. the bounded network learns on; the rounding of activations is not imitated, as in the authors' code
    5. export: int8 weights, int32 biases, (u multiplier + 2^(shift - 1)) >> shift (brelu_assembly.py)

Departures. Pictures keep their normalization, since bytes less 128, padded with -128, are exactly it; the authors
fine-tune with another one first. States are clip(round(31.75 z), -128, 127) of standardized z. A policy's tanh or
sigmoid is a table of 4,096 entries, so that actions have the same bytes everywhere. The two-sided clamp of the authors'
VRCNN is left out: its network has no ReLU, and no network here is like it.

Shapes: B batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from envs.evaluation.quantization.brelu_assembly import Assembly, pixel_counts
from envs.evaluation.quantization.brelu_layers import BoundedReLU
from envs.evaluation.quantization.brelu_rules import Settled, bound_network, check, settle
from envs.evaluation.quantization.folding import require_frozen
from envs.evaluation.quantization.integer_graph import follow
from envs.evaluation.quantization.integer_model import (
    Deployable,
    IntegerModel,
    core_of,
    doors_of,
    require_pictures,
    shape_of,
    squash_of,
)
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, Transform, teach
from rlsuite.data.minibatches import minibatch
from rlsuite.errors import require
from rlsuite.fit import FitConfig
from rlsuite.nn.plain import PlainPolicy
from rlsuite.optim.choice import OptimizerConfig
from rlsuite.running.seeding import derive_seed

EXAMINED = 256  # examples, about
QUANTILES = {"3.5 sigma": 0.99977, "3 sigma": 0.99865}  # the authors' names


def _learning(steps: int) -> TeachConfig:
    optimizer = OptimizerConfig(learning_rate=1e-4)
    return TeachConfig(fit=FitConfig(steps=steps, batch_size=256, optimizer=optimizer))


@dataclass(frozen=True, kw_only=True)
class BReLUConfig:
    """BReLU's numbers.

    Attributes:
        bits: of weights, 2 to 8.
        levels: activations lie in 0 ... levels, at most 127.
        quantile: share of a ReLU's values that its bound keeps; 0.99977 is the paper's, 1 keeps all.
        calibration: batches that bounds are measured on.
        weights: how the network learns with quantized weights, before its bounds are measured.
        teach: how it learns with bounded ReLUs.
    """

    bits: int = 8
    levels: int = 127
    quantile: float = QUANTILES["3.5 sigma"]
    calibration: int = 20
    weights: TeachConfig = field(default_factory=lambda: _learning(600))
    teach: TeachConfig = field(default_factory=lambda: _learning(1000))

    def __post_init__(self) -> None:
        require(2 <= self.bits <= 8, f"bits={self.bits}: use 2 to 8")
        require(1 <= self.levels <= 127, f"levels={self.levels}: use 1 to 127")
        require(0.0 < self.quantile <= 1.0, f"quantile={self.quantile}: use a share above 0, and at most 1")
        require(self.calibration >= 1, f"calibration={self.calibration}: use 1 batch or more")
        for name in ("weights", "teach"):
            decay = getattr(self, name).fit.optimizer.weight_decay
            require(decay == 0.0, f"{name}.fit.optimizer.weight_decay={decay}: quantized weights learn without; use 0")


class BReLU(Transform):
    """Integer-only networks of linear layers, convolutions with BatchNorm, ReLU, pooling, sums and concatenation."""

    Config = BReLUConfig
    refuses: ClassVar = {"quantized": "quantize a network once"}
    gives = frozenset({"quantized", "integer"})

    config: BReLUConfig

    def examine(self, subject: Subject) -> None:
        """Raise UserError, naming the layer, for what whole numbers cannot do, and for pictures beyond [0, 1]."""
        require_frozen(subject.module)
        for name, tensor in subject.module.state_dict().items():
            require(
                not tensor.is_floating_point() or bool(tensor.isfinite().all()), f"{name}: it holds NaN or infinity"
            )
        doors_of(subject.module, 1)
        require_pictures(subject.module, subject.example)
        if not isinstance(subject.module, PlainPolicy):
            source = subject.task.source("train")
            index = torch.arange(len(source))[:: max(1, len(source) // EXAMINED)]
            require_pictures(subject.module, source.examples(index)["input"])
        nodes = follow(core_of(subject.module))
        require(any(node.kind == "layer" for node in nodes), "the network has no layers to quantize")
        check(nodes)

    def plan(self, subject: Subject) -> dict[str, Any]:
        """Return "shape": of one example."""
        self.examine(subject)
        return {"shape": list(subject.example.shape[1:])}

    def rebuild(self, module: nn.Module, plan: Any) -> nn.Module:
        """Put bounded layers in, and beside the network the integer one that it becomes."""
        shape = shape_of(plan)
        core = bound_network(core_of(module), self.config.bits)
        if isinstance(module, PlainPolicy):
            assert isinstance(core, nn.Sequential)
            module.layers = core
        else:
            module = core
        assembly = self._assembly(module, shape)
        layers = [node.part.layer for node in assembly.nodes if node.kind == "layer"]
        enter, leave = doors_of(module, len(layers[-1].weight))
        deployed = IntegerModel(enter, assembly.network, leave).to(layers[-1].weight.device)
        return Deployable(module, deployed)

    def train(self, subject: Subject, before: Subject, seed: int) -> None:
        """Let quantized weights learn, measure bounds, let the bounded network learn, and put whole numbers in."""
        teach(subject, self.config.weights, derive_seed(seed, "weights"))
        settled = self.bound(subject, seed)
        teach(subject, self.config.teach, derive_seed(seed, "bounded"))
        self.deploy(subject.module, settled)

    @torch.no_grad()
    def bound(self, subject: Subject, seed: int) -> Settled:
        """Measure bounds on examples that are learned from, and settle them with steps, multipliers and shifts."""
        config, source = self.config, subject.task.source("train")
        require(len(source) >= 1, "there are no examples to measure bounds on")
        learning = subject.module.learning
        assert isinstance(learning, nn.Module)
        learning.eval()
        device = next(learning.parameters()).device
        bounded = [part for part in learning.modules() if isinstance(part, BoundedReLU)]
        for part in bounded:
            part.quantile, part.found = config.quantile, []
        for step in range(config.calibration):
            size = min(config.teach.fit.batch_size, len(source))
            index = minibatch(derive_seed(seed, "calibration"), step, len(source), size, "epochs")
            inputs = source.examples(index)["input"]
            require_pictures(learning, inputs)
            learning(inputs.to(device))
        for part in bounded:
            part.bound.fill_(sum(part.found) / len(part.found))
            part.quantile = None
        core = core_of(learning)
        nodes = self._assembly(learning, tuple(subject.example.shape[1:])).nodes
        counts = pixel_counts(core, nodes, subject.example.to(device))
        return settle(nodes, counts, doors_of(learning, 1)[0].ratio, config.levels)

    def deploy(self, module: nn.Module, settled: Settled) -> None:
        """Put the numbers of a network that has learned into the integer network beside it."""
        assert isinstance(module, Deployable)
        model = module.deployed
        assembly = self._assembly(module.learning, model.network.shape)
        assembly.network.to(model.leave.scale.device)
        assembly.fill(settled, model.leave)
        model.network.load_state_dict(assembly.network.state_dict())

    def finish(self, module: nn.Module) -> nn.Module:
        """Keep the integer network and its doors."""
        assert isinstance(module, Deployable)
        return module.deployed

    def _assembly(self, learning: nn.Module, shape: tuple[int, ...]) -> Assembly:
        enter, _ = doors_of(learning, 1)
        return Assembly(core_of(learning), shape, enter.shift, squash_of(learning), self.config.levels.bit_length())
