"""HRank: filters whose feature maps have a low rank go (Lin et al. 2020, arXiv:2002.10179).

The rank of a filter's map, averaged over a few hundred pictures, hardly depends on which pictures these are (section
3.3); little is lost with the filters where it is lowest (equation 4). It is measured once, on the trained network
before anything is cut: of relu(map) behind the layer's norm, since without the ReLU nearly every map is of full rank.
Behind smooth activations the map is rectified for the measurement alone.

Departures: filters of equal rank (small maps have few levels) go by their mean activation, then by their place; layers
whose maps are smaller than `smallest_map` stay whole; channels that residual sums share stay whole unless coupled=true,
and are then measured behind the sums; all layers are cut at once, as in the authors' later code.

Shapes: B batch, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from envs.evaluation.pruning.graph import Coupling, Group
from envs.evaluation.pruning.pruner import Pruner, PruningConfig
from envs.evaluation.subject import Subject
from rlsuite.data.source import Source
from rlsuite.errors import require, require_choice, require_finite
from rlsuite.running.seeding import derive_seed

AT_ONCE = 64  # pictures: their maps' singular values are in memory together


@dataclass(frozen=True, kw_only=True)
class HRankConfig(PruningConfig):
    """HRank's numbers, beside those of all methods of pruning.

    Attributes:
        images: pictures that ranks are averaged over (500 in the paper).
        rtol: singular values below this share of the largest count as zero; 0 takes max(H, W) times float32's epsilon.
        smallest_map: layers whose maps have a shorter side are left whole.
        remove: "lowest" or, as a control, "highest" ranks.
        seed: of the choice of pictures.
    """

    images: int = 500
    rtol: float = 0.0
    smallest_map: int = 4
    remove: str = "lowest"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.images >= 1, f"images={self.images}: use 1 or more")
        require(0.0 <= self.rtol < 1.0, f"rtol={self.rtol}: use 0 (by the map's size) or more, and less than 1")
        require_finite("rtol", self.rtol, low=0.0)
        require(self.smallest_map >= 1, f"smallest_map={self.smallest_map}: use 1 or more")
        require_choice("remove", self.remove, ("lowest", "highest"))
        require(self.seed >= 0, f"seed={self.seed}: use 0 or more")


class RankMeter:
    """Running means of the ranks and sizes of feature maps, channel by channel, while pictures run through.

        with RankMeter(network, ["body.1"]) as meter:
            network(pictures)
        meter.ranks("body.1")

    Args:
        module: the network.
        layers: paths of the modules whose outputs (B, C, H, W) are measured.
        rtol: see HRankConfig.

    Attributes:
        images: pictures seen.
        shapes: each layer's (H, W).
    """

    def __init__(self, module: nn.Module, layers: Iterable[str], rtol: float = 0.0) -> None:
        self.module, self.layers, self.rtol = module, list(layers), rtol
        self.images, self.shapes = dict.fromkeys(self.layers, 0), {}
        self._totals: dict[str, tuple[Tensor, Tensor]] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> RankMeter:
        for path in self.layers:
            self._handles.append(self.module.get_submodule(path).register_forward_hook(self._hook(path)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def ranks(self, path: str) -> Tensor:
        """Return a layer's mean ranks (C,) float64."""
        return self._totals[path][0] / self.images[path]

    def activations(self, path: str) -> Tensor:
        """Return a layer's mean rectified activations (C,) float64."""
        return self._totals[path][1] / self.images[path]

    def state_dict(self) -> dict[str, Any]:
        """Return what has been measured."""
        totals = {path: [total.clone() for total in both] for path, both in self._totals.items()}
        return {"images": dict(self.images), "shapes": dict(self.shapes), "totals": totals}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what has been measured."""
        self.images, self.shapes = dict(state["images"]), dict(state["shapes"])
        self._totals = {path: (both[0].clone(), both[1].clone()) for path, both in state["totals"].items()}

    def _hook(self, path: str) -> Any:
        @torch.no_grad()
        def measure(_: nn.Module, __: Any, output: Tensor) -> None:
            if output.dim() != 4:
                return
            maps = torch.relu(output.detach()).float()
            self.shapes[path] = (maps.shape[2], maps.shape[3])
            found = (map_ranks(maps, self.rtol).sum(0), maps.mean((2, 3)).double().sum(0))
            before = self._totals.get(path)
            self._totals[path] = found if before is None else (before[0] + found[0], before[1] + found[1])
            self.images[path] += maps.shape[0]

        return measure


def map_ranks(maps: Tensor, rtol: float = 0.0) -> Tensor:
    """Return the numerical ranks (B, C) float64 of maps (B, C, H, W)."""
    share = rtol or max(maps.shape[2:]) * torch.finfo(torch.float32).eps
    return torch.linalg.matrix_rank(maps, rtol=share).double()


class HRank(Pruner):
    """Convolutions' filters by the rank of what they draw."""

    Config = HRankConfig
    needs: ClassVar = {"convolutional": "it has no feature maps; use pruning/l1"}

    config: HRankConfig

    def scores(self, subject: Subject, coupling: Coupling, groups: Mapping[str, Group]) -> Mapping[str, list[Tensor]]:
        """Return ranks, and mean activations for their ties."""
        places = {name: metered(subject.module, coupling, group) for name, group in groups.items()}
        meter = RankMeter(subject.module, (path for paths in places.values() for path in paths), self.config.rtol)
        run_pictures(meter, subject.task.source("train"), self.config.images, self.config.seed)
        found = {}
        for name, paths in places.items():
            if paths and min(min(meter.shapes[path]) for path in paths) >= self.config.smallest_map:
                both = (
                    torch.stack([measure(path) for path in paths]).mean(0).cpu()
                    for measure in (meter.ranks, meter.activations)
                )
                found[name] = list(both)
        return found

    def nothing(self, coupling: Coupling) -> str:
        """Return what to say where no channel can be cut."""
        return f"no convolution can be cut whose maps are {self.config.smallest_map} pixels or more; use pruning/l1"


def metered(module: nn.Module, coupling: Coupling, group: Group) -> list[str]:
    """Return the paths of the modules behind which a group's ranks are measured; none where it is of linear layers.

    That is behind the sums, where several layers' channels are added and a module sees the sums, else behind the
    layers' norms.
    """
    if not all(isinstance(module.get_submodule(path), nn.Conv2d) for path in group.makers):
        return []
    if group.sums:
        return list(dict.fromkeys(group.sums))
    return [coupling.behind.get(path, path) for path in group.makers]


@torch.no_grad()
def run_pictures(meter: RankMeter, source: Source, images: int, seed: int) -> None:
    """Let `images` pictures of a source, drawn without repetition, run through a meter's network.

    Raises:
        UserError: if there are none.
    """
    require(len(source) >= 1, "there are no examples to measure ranks on; give the task some")
    generator = torch.Generator().manual_seed(derive_seed(seed, "hrank"))
    chosen = torch.randperm(len(source), generator=generator)[:images]
    device = next(meter.module.parameters()).device
    with meter:
        for index in chosen.split(AT_ONCE):
            meter.module(source.examples(index)["input"].to(device))
