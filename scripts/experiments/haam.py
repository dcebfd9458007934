"""HAAM (arXiv:1807.10590), small: light without edges fools a network, and carries over to others.

Digits of 16x16 pixels (scikit-learn's, enlarged). For each seed three networks are fitted: a source of three
convolutions with 16 channels, the same with 24 (B), and two linear layers (C). Attacked are the test pictures that all
three tell right; each attack sees the source alone. Success is the share of pictures that the source then tells wrong;
transfer is, of those, the share that B, or C, tells wrong too. Edge scores are of the change; the harmonic field's is
taken before clipping to [0, 1], which makes edges of its own, and stands beside the one after it. "canny" is by how
much the number of a picture's edge pixels, by Canny's detector (scikit-image's), is another after the attack.

Claims, all in every seed: at `eps` harmonic light fools the source; at `eps_small` it does so several times as often as
random signs of equal size; its edge score is near 0 where FGSM's is not; and at `eps` it carries over to B and to C
better than DeepFool. It is larger than the gradient attacks beside it, which is its trade: it is seen less for being
smooth, not for being small. So no attack is better at equal size alone; the table has all four figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.evaluation.attacks.attack import Attack
from envs.evaluation.attacks.deepfool import DeepFool
from envs.evaluation.attacks.fields import Fields
from envs.evaluation.attacks.gradient import FGSM, PGD
from envs.evaluation.attacks.harmonic import HAAM
from envs.evaluation.attacks.momentum import MIFGSM
from envs.evaluation.attacks.noise import Noise
from envs.evaluation.tasks import ClassifierTask
from rlsuite.data.arrays import Arrays
from rlsuite.data.digits import digits
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.extras import import_extra
from rlsuite.fit import FitConfig, fit
from rlsuite.metrics.pictures import edge_score, ssim
from rlsuite.nn.plain import mlp
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig
from rlsuite.running.seeding import derive_seed

SIZE, CLASSES = 16, 10
BOX = (0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        steps: minibatches of 64 that each network is fitted to.
        pictures: attacked, at most.
        eps: amplitude of the light, as a share of the pictures' range.
        eps_small: that at which it is compared with random signs.
        eps_gradient: that of FGSM, MI-FGSM and PGD.
        success_bar: the light's success at eps, at least.
        noise_factor: its success at eps_small as a multiple of random signs', at least.
        edge_bar: its edge score, at most.
        fgsm_edge_bar: FGSM's edge score, at least.
        transfer_margin: its transfer at eps to B, and to C, minus DeepFool's, at least.
    """

    seeds: int = 3
    steps: int = 800
    pictures: int = 359
    eps: float = 0.35
    eps_small: float = 0.2
    eps_gradient: float = 0.08
    success_bar: float = 0.45
    noise_factor: float = 5.0
    edge_bar: float = 0.05
    fgsm_edge_bar: float = 1.0
    transfer_margin: float = 0.25

    def __post_init__(self) -> None:
        for name in ("seeds", "steps", "pictures"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(0 < self.eps_small < self.eps, f"eps_small={self.eps_small}: use more than 0 and less than eps")
        require(self.eps_gradient > 0, f"eps_gradient={self.eps_gradient}: use more than 0")


DEBUG = Numbers(seeds=1, steps=60, pictures=40)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Fit, attack, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    (tables,) = jobs.grid(
        measure,
        arms=("digits",),
        seeds=seeds,
        steps=numbers.steps,
        pictures=numbers.pictures,
        eps=numbers.eps,
        eps_small=numbers.eps_small,
        eps_gradient=numbers.eps_gradient,
    ).values()
    print("\n".join(table(tables)), flush=True)
    return Result(
        seeds=seeds,
        claims=claims(tables, numbers),
        figures={"by_seed": list(tables)},
        full_scale="python scripts/reproduce.py paper=haam seeds=10 (the paper's ImageNet networks are not here)",
    )


def claims(tables: tuple[Mapping[str, Any], ...], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for the tables of all seeds: of each the worst seed."""

    def of(attack: str, figure: str) -> list[float]:
        return [one["attacks"][attack][figure] for one in tables]

    light, small = f"harmonic {numbers.eps:g}", f"harmonic {numbers.eps_small:g}"
    ahead = [
        one - numbers.noise_factor * other
        for one, other in zip(of(small, "success"), of(f"noise {numbers.eps_small:g}", "success"), strict=True)
    ]
    carried = {
        network: [
            one - other for one, other in zip(of(light, f"to_{network}"), of("deepfool", f"to_{network}"), strict=True)
        ]
        for network in ("b", "c")
    }
    return (
        Claim(
            statement=f"light of {numbers.eps:g}: lowest success over the seeds",
            margin=numbers.success_bar,
            figures=(min(of(light, "success")),),
        ),
        Claim(
            statement=f"size {numbers.eps_small:g}: the light's success minus {numbers.noise_factor:g} times that of "
            "random signs, least",
            margin=0.0,
            figures=(min(ahead),),
        ),
        Claim(
            statement="the light's edge score, largest",
            margin=numbers.edge_bar,
            figures=(max(of(light, "edge_score")),),
            at_least=False,
        ),
        Claim(
            statement="FGSM's edge score, smallest",
            margin=numbers.fgsm_edge_bar,
            figures=(min(of(f"fgsm {numbers.eps_gradient:g}", "edge_score")),),
        ),
        *(
            Claim(
                statement=f"transfer to {network.upper()}: the light's minus DeepFool's, least",
                margin=numbers.transfer_margin,
                figures=(min(carried[network]),),
            )
            for network in ("b", "c")
        ),
    )


def measure(
    arm: str,
    seed: int,
    folder: Path,
    *,
    steps: int,
    pictures: int,
    eps: float,
    eps_small: float,
    eps_gradient: float,
) -> dict[str, Any]:
    """Fit the three networks and attack the source; return accuracies and each attack's row."""
    task = ClassifierTask(enlarged("train"), enlarged("test"), num_classes=CLASSES)
    networks = make_networks(seed)
    for name, network in networks.items():

        def loss(module: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"loss": task.loss(module, batch).mean()}

        fit(network, loss, task.source("train"), FitConfig(steps=steps), seed=derive_seed(seed, f"fit {name}"))
        network.eval().requires_grad_(False)
    test = task.source("test").examples(torch.arange(len(task.source("test"))))
    told = [network(test["input"]).argmax(1) == test["label"] for network in networks.values()]
    right = torch.stack(told).all(0).nonzero().flatten()[:pictures]
    x, label = test["input"][right], test["label"][right]
    source = networks["source"]

    def objective(changed: Tensor) -> Tensor:
        return functional.cross_entropy(source(changed), label, reduction="none")

    attacks: list[tuple[str, Attack, float]] = [
        *(("noise", Noise(), size) for size in (eps_small, eps)),
        *(("harmonic", HAAM(), size) for size in (eps_small, eps)),
        ("fgsm", FGSM(), eps_gradient),
        ("mi_fgsm", MIFGSM(), eps_gradient),
        ("pgd", PGD(), eps_gradient),
    ]
    rows = {}
    for name, attack, size in attacks:
        generator = torch.Generator().manual_seed(derive_seed(seed, f"{name} {size:g}"))
        if isinstance(attack, HAAM):
            fields = Fields(attack.config, (1, SIZE, SIZE))
            light = attack.find(objective, x, BOX, size, fields, generator)
            change, changed = size * fields.values(light), fields.lit(x, light, size, BOX)
        else:
            changed = attack.perturb(objective, x, BOX, size, generator)
            change = changed - x
        rows[f"{name} {size:g}"] = row(networks, x, label, changed, change)
    changed = DeepFool().least(source, x, label, BOX)
    rows["deepfool"] = row(networks, x, label, changed, changed - x)
    accuracy = {name: float(one.double().mean()) for name, one in zip(networks, told, strict=True)}
    return {"accuracy": accuracy, "pictures": len(x), "attacks": rows}


def row(
    networks: Mapping[str, nn.Module], x: Tensor, label: Tensor, changed: Tensor, change: Tensor
) -> dict[str, float]:
    """Return what is measured of changed pictures (B, 1, H, W).

    Args:
        networks: the source, B and C.
        x: the pictures as they were.
        label: (B,) what they show.
        changed: the pictures in [0, 1] after the attack.
        change: what edges are looked for in: a light before clipping, or changed - x of other attacks.
    """
    wrong = {name: network(changed).argmax(1) != label for name, network in networks.items()}
    fooled = wrong["source"]
    count = max(1, int(fooled.sum()))
    difference = (changed - x).flatten(1)
    return {
        "success": float(fooled.double().mean()),
        "to_b": float((wrong["b"] & fooled).sum()) / count,
        "to_c": float((wrong["c"] & fooled).sum()) / count,
        "ssim": float(ssim(changed, x).mean()),
        "edge_score": float(edge_score(change).mean()),
        "edge_score_clipped": float(edge_score(changed - x).mean()),
        "canny": float((edge_pixels(changed) - edge_pixels(x)).abs().mean()),
        "rms": float(difference.square().mean(1).sqrt().mean()),
        "largest": float(difference.abs().max()),
    }


def edge_pixels(pictures: Tensor) -> Tensor:
    """Return how many pixels (B,) of pictures (B, 1, H, W) in [0, 1] lie on an edge, by Canny's detector."""
    feature = import_extra("skimage.feature", "Canny's edges")
    return torch.tensor([float(feature.canny(one[0].double().numpy()).sum()) for one in pictures])


def make_networks(seed: int) -> dict[str, nn.Module]:
    """Return the source, B and C, with weights of their own."""

    def convolutions(width: int, name: str) -> nn.Module:
        config = ConvNetConfig(widths=(width, width, width), hidden=0)
        return ConvNet(1, SIZE, CLASSES, config, derive_seed(seed, f"weights {name}"))

    linear = mlp(SIZE * SIZE, (128,), CLASSES, seed=derive_seed(seed, "weights c"))
    return {
        "source": convolutions(16, "source"),
        "b": convolutions(24, "b"),
        "c": nn.Sequential(nn.Flatten(), *linear),
    }


def enlarged(split: str) -> Arrays:
    """Return digits of a split as pictures "input" (M, 1, SIZE, SIZE) in [0, 1], with "label"."""
    found = digits(split).tensors
    pictures = functional.interpolate(found["picture"].float() / 255.0, SIZE, mode="bilinear", align_corners=False)
    return Arrays({"input": pictures.clamp(*BOX), "label": found["label"]})


def table(tables: tuple[Mapping[str, Any], ...]) -> list[str]:
    """Return means over seeds as lines of text."""
    columns = list(next(iter(tables[0]["attacks"].values())))
    lines = [f"{'attack':16}" + "".join(f"{name:>20}" for name in columns)]
    for attack in tables[0]["attacks"]:
        means = [sum(one["attacks"][attack][name] for one in tables) / len(tables) for name in columns]
        lines.append(f"{attack:16}" + "".join(f"{mean:>20.3f}" for mean in means))
    return lines
