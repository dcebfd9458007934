"""How the methods on `uniform.py` put their layers into a network: which, how each, and where their alphas start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.layer import (
    EFFECTIVE,
    OPERATIONS,
    PLAIN,
    QuantizedLayer,
    effective_weight,
    quantizable,
)
from envs.evaluation.quantization.measure import followed_by_normalization, measure_inputs
from envs.evaluation.quantization.places import Bits, PlacesConfig, bits_of_layers, bits_of_plan
from envs.evaluation.quantization.rules import FLOAT_BITS, InputRule, WeightRule
from envs.evaluation.quantization.uniform import calibrating, fan_of, require_finite_weights
from envs.evaluation.subject import BATCH_NORMALIZATIONS, CONVOLUTIONS, Subject
from envs.evaluation.transform import TeachConfig
from rlsuite.data.minibatches import minibatch
from rlsuite.errors import UserError, require
from rlsuite.fit import FitConfig
from rlsuite.optim.choice import GroupConfig, OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

RESCALED = ("bare", "last", "all", "none")
FANS = ("trained", "larger", "outputs")
PICTURE_BITS = 8


def few_bits_teaching() -> TeachConfig:
    """Return how networks of few bits learn unless told otherwise: Adam at 1e-3, falling along a cosine."""
    fit = FitConfig(
        steps=1000,
        batch_size=256,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        schedule=ScheduleConfig(kind="cosine"),
    )
    return TeachConfig(fit=fit)


@dataclass(frozen=True)
class Place:
    """How one layer is quantized.

    Attributes:
        path: of the layer.
        bits: of its weights and inputs.
        fan: what its weights' variance is one over; 0 where they are not rescaled.
        signed: whether it takes in negative numbers.
        pictures: whether its inputs are pictures, which stay as they are.
    """

    path: str
    bits: Bits
    fan: float
    signed: bool
    pictures: bool


def plan_layers(subject: Subject, usual: Bits, places: PlacesConfig, *, rescale: str, fan: str) -> dict[str, Any]:
    """Return which layers are quantized and how, as plain data.

    "layers" has path -> [bits of weights, of inputs], "fans" path -> the fan of those rescaled, "signed" the paths that
    take in negative numbers, and "pictures" the first one's where it is a convolution.

    Raises:
        UserError: if weights are not finite, there are no examples, or as `bits_of_layers` says.
    """
    module = subject.module
    require_finite_weights(module)
    paths = quantizable(module)
    eyes = [path for path in list(paths)[:1] if isinstance(paths[path], CONVOLUTIONS)]
    first_inputs = PICTURE_BITS if eyes else 0
    layers = bits_of_layers(module, usual, places, first_inputs=first_inputs, last_inputs=usual.inputs)
    rounded = [path for path, bits in layers.items() if bits.inputs != FLOAT_BITS and path not in eyes]
    negative = measure_inputs(subject, rounded, lambda inputs: bool(inputs.min() < 0.0))
    normalized = followed_by_normalization(module, subject.example)
    rescaled = {
        "bare": [path for path in layers if path not in normalized],
        "last": [path for path in list(paths)[-1:] if path in layers],
        "all": list(layers),
        "none": [],
    }[rescale]
    return {
        "layers": {path: list(bits) for path, bits in layers.items()},
        "fans": {path: fan_of(_one(effective_weight(paths[path]), paths[path]), fan) for path in rescaled},
        "signed": [path for path, found in negative.items() if found],
        "pictures": [path for path in eyes if path in layers],
    }


def _one(weight: Tensor, layer: nn.Module) -> Tensor:
    """Return the weights, of a stack the first member's."""
    return weight if isinstance(layer, nn.Linear | nn.Conv2d) else weight[0]


def put_layers(
    module: nn.Module,
    plan: Any,
    weights: Callable[[Place, nn.Module], WeightRule],
    inputs: Callable[[Place], InputRule],
) -> nn.Module:
    """Put quantized layers in the places of a plan that `plan_layers` made; return the same module.

    Args:
        module: the untouched network.
        plan: checked here, since it may come from anybody's file.
        weights: (Place, layer) -> a weight rule, asked where weights are quantized.
        inputs: Place -> an input rule, asked where inputs are.
    """
    device = next(module.parameters()).device
    for path, place in places_of(module, plan).items():
        layer = module.get_submodule(path)
        quantized = QuantizedLayer(
            layer,
            None if place.bits.weights == FLOAT_BITS else weights(place, layer),
            None if place.bits.inputs == FLOAT_BITS or place.pictures else inputs(place),
            input_bits=place.bits.inputs,
        )
        module.set_submodule(path, quantized.to(device))
    return module


def places_of(module: nn.Module, plan: Any) -> dict[str, Place]:
    """Return the places of a plan, checked.

    Raises:
        UserError: if it is none, or does not fit the network.
    """
    layers = bits_of_plan(module, plan)
    fans, signed, pictures = (plan.get(key) for key in ("fans", "signed", "pictures"))
    named = isinstance(fans, dict) and isinstance(signed, list) and isinstance(pictures, list)
    if not (named and {*fans, *signed, *pictures} <= layers.keys()):
        raise UserError("its plan is damaged: its fans and signs are not said")
    if not all(type(fan) is float and 0.0 < fan < float("inf") for fan in fans.values()):
        raise UserError("its plan is damaged: a fan is a number above 0")
    return {
        path: Place(path, bits, fans.get(path, 0), path in signed, path in pictures) for path, bits in layers.items()
    }


def require_alpha(alpha: float, subject: Subject) -> None:
    """Raise UserError if alphas start at a number where nothing makes inputs as large as it is."""
    require(
        not alpha or "batch_normalized" in subject.traits,
        f"alpha={alpha:g}: nothing normalizes what layers take in here; leave it out, and it is measured",
    )


@torch.no_grad()
def calibrate(subject: Subject, share: float, batch_size: int, seed: int) -> None:
    """Set every alpha of a subject's network to a share of the largest input of the first batch.

    Layer after layer: a layer's inputs are what it will take in, the layers before it clipped already, and batch
    normalizations by the batch: their statistics are of other weights.

    Raises:
        UserError: if there are no examples.
    """
    source = subject.task.source("train")
    require(len(source) >= 1, "there are no examples to measure on; give the task some")
    index = minibatch(derive_seed(seed, "calibration"), 0, len(source), min(batch_size, len(source)), "epochs")
    device = next(subject.module.parameters()).device
    module = subject.module.eval()
    norms = [part for part in module.modules() if isinstance(part, BATCH_NORMALIZATIONS)]
    statistics = [{name: value.clone() for name, value in norm.named_buffers()} for norm in norms]
    with calibrating(module, share):
        for norm in norms:
            norm.train()
        module(source.examples(index)["input"].to(device))
    for norm, before in zip(norms, statistics, strict=True):
        norm.load_state_dict(before, strict=False)
    module.eval()


def without_decay(module: nn.Module, config: TeachConfig, *own: GroupConfig) -> OptimizerConfig:
    """Return the optimizer of a teaching, with no weight decay but on the weights of dense layers.

    Args:
        module: whose biases, normalizations, alphas and grouped convolutions have none.
        config: the teaching.
        own: groups before these.
    """
    decayed = set()
    for part in module.modules():
        if type(part) in OPERATIONS and getattr(part, "groups", 1) == 1:
            decayed |= {id(getattr(part, name, None)) for name in EFFECTIVE.get(type(part), PLAIN).parameters}
    names = [name for name, value in module.named_parameters() if id(value) not in decayed]
    optimizer = config.fit.optimizer
    groups = (GroupConfig(names=tuple(names), weight_decay=0.0),) if names and optimizer.weight_decay else ()
    return replace(optimizer, groups=(*own, *groups, *optimizer.groups))
