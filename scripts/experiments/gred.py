"""GRED (arXiv:2002.12527), small: attacks that stop behind a border are noticed by the gradient there, and taken back.

Digits of 16 x 16 pixels (scikit-learn's, enlarged), three convolutions. Some of the training pictures are held back:
the network does not learn from them, and they set the detector's threshold. Attacked are test pictures that the network
tells right. For each attack: success (told wrong), the change's length, the area under the ROC of the gradient's norm
alone and of the learned detector (attacked that are told wrong against the same pictures clean), and how many of those
the walk, Gaussian noise, and the whole guard (detector, then walk) bring back. These attacks do not know of the guard.

Those that do: through the repair (BPDA), and hiding from the detector with weights 0.1, 1 and 10 of its score in what
they climb; of each picture the attack counts that succeeds, so the last line is what is left. Beside them the same
attack on the bare network, and noise of equal size. The paper claims that attacks cost more, not that none succeeds.

Claims, in every seed: for attacks of the least change the norm alone separates, and the walk brings back nearly all,
far more than noise does; at Euclidean length 2 the norm alone fails, and the complementary detector does not. The last,
that the guard keeps a tenth more than the bare network against attacks that know of it, is our own reading of the
abstract's "promising degree of robustness". All bars were set before the first run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.evaluation.attacks.attack import Objective
from envs.evaluation.attacks.carlini import CW2, CW2Config
from envs.evaluation.attacks.deepfool import DeepFool
from envs.evaluation.attacks.euclidean import climb, lengths, noise
from envs.evaluation.attacks.gradient import FGSM, PGD, PGDConfig
from envs.evaluation.attacks.noise import Noise
from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.defences.guard import Guarded, hidden_objective, walk
from envs.evaluation.defences.sensitivity import sensitivity
from envs.evaluation.recipe import network_base
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import ClassifierTask
from envs.evaluation.transform import TeachConfig, apply, teach
from rlsuite.data.source import Subset
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig
from rlsuite.methods import choose
from rlsuite.metrics.ranking import separation
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments.haam import CLASSES, SIZE, enlarged

BOX = (0.0, 1.0)
NETWORK = ConvNetConfig(widths=(16, 16, 32), strides=(1, 2, 2), hidden=64)
GAUSSIAN = 0.15
WEIGHTS = (0.1, 1.0, 10.0)
LEAST = ("deepfool", "cw2 0")  # attacks of the least change


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        steps: minibatches of 64 that the network is fitted to.
        pictures: attacked, at most.
        held: training pictures that the network does not learn from and that the detector's threshold is set on.
        clean: pictures that the guard sees clean, half of them among those held back.
        attacked: training pictures for each of its attacks.
        searching: steps of CW-2 for each of four constants.
        climbing: steps of attacks that know of the guard, and of the bare network's beside them.
        eps: size of these, of every entry.
        norm_bar: area under the ROC of the gradient's norm for attacks of the least change, at least.
        walk_bar: share of these that the walk brings back, at least.
        noise_margin: the same minus what Gaussian noise brings back, at least.
        failing_bar: area of the norm alone for Euclidean length 2, at most.
        learned_bar: area of the learned detector there, at least.
        knowing_margin: accuracy of the guarded network against attacks that know of it, minus the bare one's, at least.
    """

    seeds: int = 3
    steps: int = 660
    pictures: int = 150
    held: int = 400
    clean: int = 800
    attacked: int = 120
    searching: int = 60
    climbing: int = 20
    eps: float = 0.1
    norm_bar: float = 0.97
    walk_bar: float = 0.95
    noise_margin: float = 0.3
    failing_bar: float = 0.7
    learned_bar: float = 0.85
    knowing_margin: float = 0.1

    def __post_init__(self) -> None:
        for name in ("seeds", "steps", "pictures", "searching", "climbing"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(1 <= self.held <= 1000, f"held={self.held}: use 1 to 1000 of the 1,438 digits for training")
        for name in ("clean", "attacked"):
            require(getattr(self, name) >= 2, f"{name}={getattr(self, name)}: use 2 or more")
        require(self.eps > 0, f"eps={self.eps}: use more than 0")


DEBUG = Numbers(seeds=1, steps=60, pictures=20, held=100, clean=40, attacked=10, searching=4, climbing=2)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Fit, guard, attack, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    names = ("steps", "pictures", "held", "clean", "attacked", "searching", "climbing", "eps")
    inputs = {name: getattr(numbers, name) for name in names}
    (found,) = jobs.grid(measure, arms=("digits",), seeds=seeds, **inputs).values()
    for name in found[0]["attacks"]:
        said = {key: sum(one["attacks"][name][key] for one in found) / len(found) for key in found[0]["attacks"][name]}
        print(f"{name:10}", ", ".join(f"{key} {value:.3f}" for key, value in said.items()), flush=True)
    for key in found[0]["knowing"]:
        print(f"{key:22}", ", ".join(f"{one['knowing'][key]:.3f}" for one in found), flush=True)
    return Result(
        seeds=seeds,
        claims=claims(found, numbers),
        figures={"by_seed": list(found)},
        full_scale="python scripts/reproduce.py paper=gred seeds=10 pictures=359 clean=1400 attacked=500 searching=300",
    )


def claims(found: tuple[Mapping[str, Any], ...], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for what all seeds found: of each the worst seed."""

    def of(names: tuple[str, ...], measured: Callable[[Mapping[str, float]], float]) -> list[float]:
        return [measured(one["attacks"][name]) for one in found for name in names]

    return (
        Claim(
            statement="DeepFool and CW-2: area under the ROC of the gradient's norm, least",
            margin=numbers.norm_bar,
            figures=(min(of(LEAST, lambda row: row["auc_norm"])),),
        ),
        Claim(
            statement="DeepFool and CW-2: share that the walk brings back, least",
            margin=numbers.walk_bar,
            figures=(min(of(LEAST, lambda row: row["walk"])),),
        ),
        Claim(
            statement="DeepFool and CW-2: the same minus what Gaussian noise brings back, least",
            margin=numbers.noise_margin,
            figures=(min(of(LEAST, lambda row: row["walk"] - row["noise"])),),
        ),
        Claim(
            statement="Euclidean length 2: area of the norm alone, largest",
            margin=numbers.failing_bar,
            figures=(max(of(("l2 2",), lambda row: row["auc_norm"])),),
            at_least=False,
        ),
        Claim(
            statement="Euclidean length 2: area of the learned detector, least",
            margin=numbers.learned_bar,
            figures=(min(of(("l2 2",), lambda row: row["auc_learned"])),),
        ),
        Claim(
            statement=f"accuracy at {numbers.eps:g} against attacks that know of the guard, minus the bare network's",
            margin=numbers.knowing_margin,
            figures=tuple(one["knowing"]["guarded, all"] - one["knowing"]["bare"] for one in found),
        ),
    )


def measure(
    arm: str,
    seed: int,
    folder: Path,
    *,
    steps: int,
    pictures: int,
    held: int,
    clean: int,
    attacked: int,
    searching: int,
    climbing: int,
    eps: float,
) -> dict[str, Any]:
    """Fit one network, guard and attack it: "accuracy", "flagged", "attacks" and "knowing"."""
    subject = digit_subject(seed, held)
    teach(subject, TeachConfig(fit=FitConfig(steps=steps), rounds=1), derive_seed(seed, "fit"))
    (method,) = choose(EVALUATIONS, ["gred"], {"gred.clean": clean, "gred.attacked": attacked})
    guard = apply(method, subject, derive_seed(seed, "guard")).module
    assert isinstance(guard, Guarded)
    network = subject.module.requires_grad_(False)
    guard.requires_grad_(False)
    test = subject.task.source("test").examples(torch.arange(len(subject.task.source("test"))))
    verdict = guard.inspect(test["input"])
    right = (verdict.label == test["label"]).nonzero().flatten()[:pictures]
    x, label = test["input"][right], test["label"][right]
    accuracy = {
        "bare": float((verdict.label == test["label"]).double().mean()),
        "guarded": float((verdict.repaired_label == test["label"]).double().mean()),
    }
    flagged = {
        "told right": float(verdict.flagged[verdict.label == test["label"]].double().mean()),
        "all": float(verdict.flagged.double().mean()),
    }
    rows = {}
    for name, attack in attacks(network, x, label, searching, seed).items():
        rows[name] = row(guard, x, label, attack(), torch.Generator().manual_seed(derive_seed(seed, f"noise {name}")))
    known = knowing(guard, x, label, eps, climbing, seed)
    return {"accuracy": accuracy, "flagged": flagged, "pictures": len(x), "attacks": rows, "knowing": known}


def attacks(network: nn.Module, x: Tensor, label: Tensor, searching: int, seed: int) -> dict[str, Callable[[], Tensor]]:
    """Return the attacks on the network alone, by name."""

    def objective(at: Tensor) -> Tensor:
        return functional.cross_entropy(network(at), label, reduction="none")

    def generator(name: str) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(seed, name))

    def bounded(attack: FGSM | PGD, name: str, eps: float) -> Callable[[], Tensor]:
        return lambda: attack.perturb(objective, x, BOX, eps, generator(name))

    def euclidean(eps: float) -> Callable[[], Tensor]:
        return lambda: climb(objective, x, BOX, eps, generator(f"l2 {eps:g}"))

    def least(confidence: float) -> Callable[[], Tensor]:
        config = CW2Config(steps=searching, searches=4, confidence=confidence)
        return lambda: CW2(config=config).least(network, x, label, BOX)

    return {
        "deepfool": lambda: DeepFool().least(network, x, label, BOX),
        "cw2 0": least(0.0),
        "cw2 5": least(5.0),
        "l2 1": euclidean(1.0),
        "l2 2": euclidean(2.0),
        "fgsm 0.1": bounded(FGSM(), "fgsm 0.1", 0.1),
        "fgsm 0.2": bounded(FGSM(), "fgsm 0.2", 0.2),
        "pgd 0.1": bounded(PGD(), "pgd 0.1", 0.1),
    }


def row(guard: Guarded, x: Tensor, label: Tensor, changed: Tensor, generator: torch.Generator) -> dict[str, float]:
    """Return what is measured of attacked pictures (B, 1, H, W)."""
    network = guard.network
    with torch.no_grad():
        wrong = network(changed).argmax(1) != label
    size = lengths(changed - x)
    found = {"success": share(wrong), "length": float(size[wrong].mean()) if wrong.any() else 0.0}
    before, after, true = x[wrong], changed[wrong], label[wrong]
    if not len(after):
        return found | dict.fromkeys(("auc_norm", "auc_learned", "walk", "noise", "guard", "as_long"), 0.0)
    everyone = torch.ones(len(after), dtype=torch.bool)
    shaken = after + GAUSSIAN * torch.randn(after.shape, generator=generator)
    verdict = guard.inspect(after)
    with torch.no_grad():
        return found | {
            "auc_norm": float(separation(sensitivity(network, before), sensitivity(network, after))),
            "auc_learned": float(separation(guard.suspicion(before), guard.suspicion(after))),
            "walk": share(network(walk(network, after, everyone)).argmax(1) == true),
            "noise": share(network(shaken.clamp(*BOX)).argmax(1) == true),
            "guard": share(verdict.repaired_label == true),
            # Noise as long as the attack's change, on the clean pictures: how many it moves over a border.
            "as_long": share(network(noise(before, BOX, size[wrong], generator)).argmax(1) != true),
        }


def knowing(guard: Guarded, x: Tensor, label: Tensor, eps: float, steps: int, seed: int) -> dict[str, float]:
    """Return accuracies against PGD of size eps, on the bare network and on the guarded, and seconds a picture."""
    network = guard.network
    attack = PGD(config=PGDConfig(steps=steps))

    def attacked(objective: Objective, name: str) -> tuple[Tensor, float]:
        generator = torch.Generator().manual_seed(derive_seed(seed, name))
        began = time.process_time()
        return attack.perturb(objective, x, BOX, eps, generator), (time.process_time() - began) / len(x)

    def loss_of(module: nn.Module) -> Objective:
        return lambda at: functional.cross_entropy(module(at), label, reduction="none")

    ways: dict[str, Objective] = {"through": loss_of(guard)}
    ways |= {f"hiding {weight:g}": hidden_objective(guard, label, weight) for weight in WEIGHTS}
    oblivious, plain = attacked(loss_of(network), "bare")
    shaken = Noise().perturb(loss_of(network), x, BOX, eps, torch.Generator().manual_seed(derive_seed(seed, "shaken")))
    with torch.no_grad():
        found = {
            "bare, noise": share(network(shaken).argmax(1) == label),
            "guarded, noise": share(guard(shaken).argmax(1) == label),
            "bare": share(network(oblivious).argmax(1) == label),
            "guarded, oblivious": share(guard(oblivious).argmax(1) == label),
        }
        left = guard(oblivious).argmax(1) == label
    found["seconds, bare"] = plain
    for name, objective in ways.items():
        changed, each = attacked(objective, name)
        with torch.no_grad():
            right = guard(changed).argmax(1) == label
        found[f"guarded, {name}"] = share(right)
        left &= right
        found[f"seconds, {name}"] = each
    return found | {"guarded, all": share(left)}


def share(which: Tensor) -> float:
    """Return the share of a mask (B,) that is true."""
    return float(which.double().mean())


def digit_subject(seed: int, held: int) -> Subject:
    """Return an untrained network for digits of 16 x 16, `held` of those for training kept back for validation."""
    whole = enlarged("train")
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(derive_seed(seed, "held back")))
    train, validation = Subset(whole, order[held:]), Subset(whole, order[:held])
    task = ClassifierTask(train, enlarged("test"), num_classes=CLASSES, validation=validation)
    module = ConvNet(1, SIZE, CLASSES, NETWORK, derive_seed(seed, "weights")).eval()
    base = network_base("conv", channels=1, size=SIZE, outputs=CLASSES, config=NETWORK)
    return Subject(module, task.source("test").examples(torch.arange(1))["input"], task, base)
