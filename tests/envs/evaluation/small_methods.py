"""Every transform of the catalogue small enough for a second, and a network that it can be tried on."""

import torch
from judged import classifier, stripes

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.recipe import network_base
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import ClassifierTask
from envs.evaluation.transform import TeachConfig, apply, teach
from envs.perception.counting.density import density_map
from envs.perception.counting.losses import SPPLoss
from envs.perception.counting.task import CountTask
from rlsuite.data.arrays import Arrays
from rlsuite.fit import FitConfig
from rlsuite.methods import choose, short_name
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig
from rlsuite.optim.choice import OptimizerConfig

TEACH = {
    "teach.rounds": 1,
    "teach.fit.steps": 30,
    "teach.fit.batch_size": 32,
    "teach.fit.optimizer.learning_rate": 1e-2,
}
ADAM = {"teach.fit.optimizer.name": "adam"}
CELLS = {"space.nodes": 1, "space.width": 4, "space.layout": ["reduction"]}
CELLS |= {"shared.batch_size": 64, "statistics": 1}
CHAIN = {"widths": [4, 6], "strides": [1, 2], "stem": 4, "expansions": [2], "kernels": [3]}
CODES = {"macs": 60_000, "candidate.fit.steps": 4, "candidate.fit.batch_size": 32}
CODES |= {"encoder.stages": 2, "encoder.blocks": 1, "encoder.largest": 16}


def of(prefix, numbers):
    return {f"{prefix}.{key}": value for key, value in numbers.items()}


NUMBERS = {
    "defences/gred": {"clean": 40, "attacked": 20, "steps": 5, "repair": "learned", "width": 4},
    "pruning/cogd": {"learn.rounds": 1, "learn.fit.steps": 20, "learn.fit.batch_size": 32, "mask_every": 2},
    "quantization/adabits": {"bits": [4, 2], "recalibration": 2},
    "quantization/addernet": {"layers": ["body.3.0"], "teach.fit.optimizer.learning_rate": 0.1},
    "quantization/brelu": {
        "calibration": 2,
        "weights.rounds": 1,
        "weights.fit.steps": 30,
        "weights.fit.batch_size": 32,
        "weights.fit.optimizer.learning_rate": 1e-2,
    },
    "quantization/fracbits": {"average": 4.0},
    "quantization/pams": {"calibration": 2},
    "quantization/quantization_networks": {"epochs": 2, "renormalize": 2, "teach.fit.optimizer.learning_rate": 0.05},
    "quantization/rbnn": ADAM | {"epochs": 2, "cycles": 1, "teach.fit.schedule.warmup": 0},
    "regularization/itid": {"factors": ["tint"], "rounds": 2, "states": 16},
    "search/abandit_nas": CELLS
    | {"space.reductions": ["reduction"], "space.operations": ["skip_connect", "conv_3x3"]}
    | {"tries": 1, "eps": 0.1},
    "search/assessor": CODES
    | {"trials": 3, "ranked.labels": 2, "ranked.others": 4, "ranked.candidates": 4, "ranked.picks": 1}
    | {"assessor.width": 4, "assessor.code": 4, "assessor.hidden": 8, "assessor.steps": 4, "assessor.batch_size": 8},
    "search/atomnas": of("space", CHAIN)
    | of("shrink.fit", {"steps": 30, "batch_size": 32, "optimizer.learning_rate": 0.1})
    | {"trials": 1, "shrink.average_batch": 64, "shrink.average": 0.9, "shrink.statistics": 1},
    "search/autonl": of("space.chain", CHAIN)
    | {"trials": 1, "search.steps": 10, "search.batch_size": 32, "search.optimizer.learning_rate": 0.05},
    "search/autospace": of("chain", CHAIN)
    | {"top": 1, "evolve.population": 4, "evolve.drawn": 2, "evolve.rounds": 1, "evolve.steps": 2, "evolve.alone": 2}
    | {"evolve.contest": 2, "evolve.uniform": 1, "evolve.batch_size": 32},
    "search/bnas": CELLS | {"space.operations": ["skip_connect", "sep_conv_3x3"], "mixed_epochs": 1, "tries": 1},
    "search/cars": CELLS
    | {"space.operations": ["skip_connect", "sep_conv_3x3"], "epochs": 1}
    | {"evolution.population": 2, "evolution.warm_up": 1, "evolution.generations": 1},
    "search/cp_nas": CELLS | {"space.operations": ["skip_connect", "sep_conv_3x3"], "tries": 1},
    "search/nas_count": {"space.levels": 2, "space.nodes": 1, "space.width": 4, "levels": 2, "partial": 2}
    | {"space.extraction": ["conv_1x1", "skip_connect"], "space.fusion": ["conv_1x1", "skip_connect"]}
    | {"search.steps": 10},
    "search/ncp": CODES | {"labels": 4, "predictor.hidden_sizes": [8, 8], "predictor.epochs": 2, "edit.steps": 5},
}


def small(name):
    """Return a transform with numbers for a second's work."""
    numbers = {} if name == "quantization/bn_fixed_point" else TEACH
    numbers = numbers | NUMBERS.get(name, {})
    return choose(EVALUATIONS, [name], of(short_name(name), numbers))[0]


def normalized():
    """A classifier with BatchNorm."""
    config = ConvNetConfig(widths=(4, 4), hidden=8, batch_norm=True)
    task = ClassifierTask(stripes(256, 1), stripes(100, 2), num_classes=2)
    base = network_base("conv", channels=1, size=8, outputs=2, config=config)
    module = ConvNet(1, 8, 2, config, 0).eval()
    return Subject(module, task.source("test").examples(torch.arange(1))["input"], task, base)


def in_levels():
    """The same in levels from end to end."""
    numbers = TEACH | {"calibration": 2, "bits": 6, "places.first": 8, "places.last": 8}
    return apply(choose(EVALUATIONS, ["pams"], of("pams", numbers))[0], normalized(), 0)


def dots(count, seed):
    """Pictures (count, 1, 16, 16) of up to six dots, and their densities at half the sides."""
    generator = torch.Generator().manual_seed(seed)
    pictures, densities = [], []
    for number in torch.randint(7, (count,), generator=generator).tolist():
        centres = 2 + 12 * torch.rand(number, 2, generator=generator).double()
        pictures.append((density_map(centres, (16, 16), 1.0) * 5).clamp(max=1.0)[None])
        densities.append(density_map((centres - 0.5) / 2, (8, 8), 1.0)[None])
    return Arrays({"input": torch.stack(pictures), "density": torch.stack(densities)})


def counter():
    """A network that is told to count, and cannot yet."""
    subject = classifier()
    task = CountTask(dots(64, 0), dots(40, 1), SPPLoss(2), floor=-2.0)
    return Subject(subject.module, torch.zeros(1, 1, 16, 16), task, subject.base)


def taught():
    """A classifier that can tell its classes apart, and so can be attacked."""
    subject = classifier()
    fit = FitConfig(steps=60, batch_size=32, optimizer=OptimizerConfig(learning_rate=1e-2))
    teach(subject, TeachConfig(fit=fit, rounds=1), 0)
    return subject


SUBJECTS = {
    "defences/gred": taught,
    "quantization/addernet": normalized,
    "quantization/bn_fixed_point": in_levels,
    "search/nas_count": counter,
}


def subject_for(name):
    """Return a network that a transform takes."""
    return SUBJECTS.get(name, classifier)()
