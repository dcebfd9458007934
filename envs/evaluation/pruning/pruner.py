"""What methods of pruning share: shares that go, the groups they may cut, cutting, and learning again.

All groups are cut at once and the smaller network learns again (HRankPlus's schedule, the authors' later code), or one
group after another with learning in between (the papers' first schedule); the numbers are those of the whole network.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor, nn

from envs.evaluation.pruning.criteria import kept_channels
from envs.evaluation.pruning.graph import Coupling, Group, couple
from envs.evaluation.pruning.shrink import require_plan, shrink
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, Transform, teach, teach_by_cosine
from rlsuite.errors import UserError, require, require_choice
from rlsuite.running.seeding import derive_seed

SCHEDULES = ("together", "layerwise")


@dataclass(frozen=True, kw_only=True)
class LayerRatio:
    """Layers with a share of their own.

    Attributes:
        names: patterns of their paths, such as body.*; a layer belongs to the first entry that names it.
        ratio: share of their channels that goes; 0 leaves them whole.
    """

    names: tuple[str, ...]
    ratio: float

    def __post_init__(self) -> None:
        require(bool(self.names), "names=[]: name the layers, such as body.*")
        require_ratio(self.ratio)


@dataclass(frozen=True, kw_only=True)
class PruningConfig:
    """Numbers that all methods of pruning have.

    Attributes:
        ratio: share of every layer's channels that goes, rounded down; two stay at least.
        layers: layers with a share of their own.
        coupled: also cut channels that several layers make, such as those of a residual sum, all of them alike.
        schedule: "together" (cut all, then learn) or "layerwise" (cut a layer, learn, cut the next; the steps are
            shared out).
        teach: how the network learns again.
    """

    ratio: float = 0.3
    layers: tuple[LayerRatio, ...] = ()
    coupled: bool = False
    schedule: str = "together"
    teach: TeachConfig = field(default_factory=lambda: teach_by_cosine(2000, 256))

    def __post_init__(self) -> None:
        require_ratio(self.ratio)
        require_choice("schedule", self.schedule, SCHEDULES)


class Pruner(Transform):
    """Cuts channels; a concrete one says by which numbers."""

    Config: ClassVar[type] = PruningConfig
    refuses: ClassVar[Mapping[str, str]] = {
        "quantized": "prune first, as in evaluation=[pruning/l1,quantization/pams]",
        "stacked": "prune the policy of one actor",
    }
    gives: ClassVar[frozenset[str]] = frozenset({"pruned"})

    config: Any
    kept: Mapping[str, list[int]] = MappingProxyType({})  # what was cut last

    def scores(self, subject: Subject, coupling: Coupling, groups: Mapping[str, Group]) -> Mapping[str, list[Tensor]]:
        """Return numbers (C,) of each group's channels, by its name; the next decide ties of the first.

        A group that has none is left whole.
        """
        raise NotImplementedError

    def plan(self, subject: Subject) -> dict[str, Any]:
        """Return "kept": a group's name -> the channels that stay."""
        coupling = couple(subject.module)
        groups = {
            name: group for name, group in coupling.named().items() if self.config.coupled or len(group.makers) == 1
        }
        ratios = self._ratios(groups)
        scores = self.scores(subject, coupling, {name: groups[name] for name, ratio in ratios.items() if ratio})
        if (not scores and any(ratios.values())) or not groups:
            raise UserError(self.nothing(coupling))
        kept = {name: self.keep(found, ratios[name]) for name, found in scores.items()}
        return {"kept": {name: chosen for name, chosen in kept.items() if len(chosen) < groups[name].size}}

    def keep(self, scores: list[Tensor], ratio: float) -> list[int]:
        """Return the channels of a group that stay, rising, of what `scores` says of it."""
        return kept_channels(scores, ratio, remove=getattr(self.config, "remove", "lowest"))

    def nothing(self, coupling: Coupling) -> str:
        """Return what to say where no channel can be cut."""
        shared = not self.config.coupled and bool(coupling.named())
        return "no layer's channels can be cut" + ("; coupled=true cuts those that several layers share" * shared)

    def rebuild(self, module: nn.Module, plan: Any) -> nn.Module:
        """Cut the channels that the plan does not keep."""
        coupling = couple(module)
        self.kept = require_plan(coupling, plan)
        return shrink(module, coupling, self.kept)

    def train(self, subject: Subject, before: Subject, seed: int) -> None:
        """Let the smaller network learn, after all cuts or after each."""
        config = self.config
        if config.schedule == "together":
            teach(subject, config.teach, seed)
            return
        module = before.copy()
        names = [name for name in couple(module).named() if name in self.kept]
        each = max(1, config.teach.fit.steps // max(1, len(names)))
        share = replace(config.teach, fit=replace(config.teach.fit, steps=each))
        for name in names:
            shrink(module, couple(module), {name: self.kept[name]})
            teach(replace(subject, module=module), share, derive_seed(seed, name))
        subject.module.load_state_dict(module.state_dict())

    def _ratios(self, groups: Mapping[str, Group]) -> dict[str, float]:
        """Return each group's share, by its name: that of the first maker that an entry names."""
        ratios: dict[str, float] = {name: self.config.ratio for name in groups}  # noqa: C420
        for entry in reversed(self.config.layers):
            named = [
                name
                for name, group in groups.items()
                if any(fnmatch.fnmatchcase(path, pattern) for path in group.makers for pattern in entry.names)
            ]
            require(
                bool(named),
                f"names={list(entry.names)}: no layer that can be cut is called so; some are: {', '.join(groups)[:80]}",
            )
            for name in named:
                ratios[name] = entry.ratio
        return ratios


def require_ratio(ratio: float) -> None:
    """Raise UserError unless a share leaves something."""
    require(0.0 <= ratio < 1.0, f"ratio={ratio:g}: use 0 or more, and less than 1; 0.3 takes three channels of ten out")
