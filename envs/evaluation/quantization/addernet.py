"""AdderNet: networks that add distances instead of multiplying (Chen et al. 2020, arXiv:1912.13200).

All layers but the first and the last become distances (`adder.py`), shortcuts of 1x1 among them; each must have a
normalization behind it, since distances are never above 0 and vary far more than products. The filters are drawn anew,
normal with deviation 1: a trained convolution's weights mean nothing as places, and the norms behind them, which knew
products, begin anew. What classifies gets BatchNorm on its
scores, as the authors' networks have. SGD alone: optimizers that scale each weight's step undo the local rates, and so
does clipping gradients.

This is for counting operations, and for hardware that has adders: on a CPU it takes longer than products do. In
evaluation BatchNorm is one multiplication and one addition an output, which the paper does not count.

Departures: a policy's outputs get no BatchNorm, since their range is the environment's.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from envs.evaluation.quantization.adder import ETA, GRADIENTS, AdderLayer
from envs.evaluation.quantization.layer import effective_weight, quantizable
from envs.evaluation.quantization.measure import followed_by_normalization, normalization_behind
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, Transform, teach
from rlsuite.errors import UserError, require, require_choice, require_finite
from rlsuite.fit import FitConfig
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

LARGEST_OUTPUTS = 2**20


@dataclass(frozen=True, kw_only=True)
class AdderNetConfig:
    """AdderNet's numbers.

    Attributes:
        eta: of the local learning rate of each layer's filters; 0 leaves it out.
        gradient: "full" (differences for filters, clamped ones for inputs), or "sign", the paper's baseline.
        layers: patterns of the layers that become distances, such as body.*; [] for all but the first and the last.
        output_norm: BatchNorm on the scores of classes.
        teach: how the network learns: the authors' SGD and cosine.
    """

    eta: float = ETA
    gradient: str = "full"
    layers: tuple[str, ...] = ()
    output_norm: bool = True
    teach: TeachConfig = field(
        default_factory=lambda: TeachConfig(
            fit=FitConfig(
                steps=2000,
                batch_size=256,
                optimizer=OptimizerConfig(name="sgd", learning_rate=0.1, weight_decay=5e-4),
                schedule=ScheduleConfig(kind="cosine"),
            )
        )
    )

    def __post_init__(self) -> None:
        require_finite("eta", self.eta, low=0.0)
        require_choice("gradient", self.gradient, GRADIENTS)
        optimizer = self.teach.fit.optimizer.name
        require(
            optimizer == "sgd",
            f"teach.fit.optimizer.name={optimizer}: it undoes the local learning rates of distances; use sgd",
        )
        require(
            not self.teach.fit.clip_norm,
            f"teach.fit.clip_norm={self.teach.fit.clip_norm}: it undoes the local learning rates of distances; use 0",
        )


class AdderNet(Transform):
    """Distances in place of products, in any network with a normalization behind its inner layers."""

    Config = AdderNetConfig
    refuses: ClassVar = {"quantized": "take the network before it is quantized"}
    gives = frozenset({"quantized"})

    config: AdderNetConfig

    def plan(self, subject: Subject) -> dict[str, Any]:
        """Return "layers", paths, and "outputs": how many scores get BatchNorm, 0 for none."""
        module = subject.module
        paths = list(quantizable(module))
        chosen = paths[1:-1]
        for pattern in self.config.layers:
            known = ", ".join(paths[:5]) or "none"
            named = any(fnmatch.fnmatchcase(path, pattern) for path in paths)
            require(named, f"layers={pattern}: there is no such layer; some are: {known}")
        if self.config.layers:
            chosen = [path for path in paths if any(fnmatch.fnmatchcase(path, name) for name in self.config.layers)]
        require(bool(chosen), "no layer is left between the first and the last; name some by layers=")
        normalized = followed_by_normalization(module, subject.example)
        for path in chosen:
            require(
                path in normalized,
                f"{path}: no normalization is behind it, and distances learn nothing without; use a network with "
                "BatchNorm, or name others by layers=",
            )
            weight = effective_weight(module.get_submodule(path))
            require(bool(torch.isfinite(weight).all()), f"{path}: its weights are not finite; train the network again")
        output = subject.output()
        scores = self.config.output_norm and not subject.task.interactive and output.dim() == 2
        return {"layers": chosen, "outputs": output.shape[1] if scores else 0}

    def rebuild(self, module: nn.Module, plan: Any) -> nn.Module:
        """Put distances in the places that the plan names, and BatchNorm behind the scores."""
        layers, outputs = (plan.get(key) if isinstance(plan, dict) else None for key in ("layers", "outputs"))
        known = quantizable(module)
        if not isinstance(layers, list) or type(outputs) is not int or not 0 <= outputs <= LARGEST_OUTPUTS:
            raise UserError("its plan is damaged: its layers and outputs are not said")
        for path in layers:
            if path not in known:
                raise UserError(f"its plan is damaged: there is no layer '{str(path)[:60]}'")
            layer = AdderLayer(known[path], eta=self.config.eta, gradient=self.config.gradient)
            module.set_submodule(path, layer)
        if not outputs:
            return module
        norm = nn.BatchNorm1d(outputs).to(next(module.parameters()).device)
        return nn.Sequential(module, norm)

    def train(self, subject: Subject, before: Subject, seed: int) -> None:
        """Draw the filters, begin the norms behind them anew, then let the network learn."""
        layers = {path: part for path, part in subject.module.named_modules() if isinstance(part, AdderLayer)}
        for norm in normalization_behind(subject.module.eval(), subject.example, layers).values():
            norm.reset_parameters()  # type: ignore[operator]
        draw_filters(subject.module, derive_seed(seed, "filters"))
        teach(subject, self.config.teach, seed)


def draw_filters(module: nn.Module, seed: int) -> None:
    """Draw the filters of all distances of a network anew."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, AdderLayer):
            part.draw(generator)
