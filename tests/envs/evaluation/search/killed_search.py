"""Searches, small, that kill their own process by signal 9 at a moment, for `test_killed_searches.py`.

A moment is an event and its number: "step" (of any optimizer: in a trial, or while what was found learns), "write" (a
file about to be made safe), "rebuild" (a network about to be put in or cut), "score" (a candidate about to be judged).
"""

import dataclasses
import hashlib
import json
import os
import signal
from pathlib import Path

import numpy as np
import torch
from judged import classifier
from torch.optim.optimizer import register_optimizer_step_pre_hook

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.search import door, shrinking
from envs.evaluation.search.abandit_nas import ABanditNASConfig
from envs.evaluation.search.assessor import AssessorConfig
from envs.evaluation.search.assessor_search import AssessorSearchConfig
from envs.evaluation.search.atomnas import AtomNASConfig
from envs.evaluation.search.autonl import AutoNLConfig
from envs.evaluation.search.autospace import AutoSpaceConfig
from envs.evaluation.search.bandit import Arms
from envs.evaluation.search.bnas import BNASConfig
from envs.evaluation.search.cars import CARSConfig, EvolutionConfig
from envs.evaluation.search.cell_evolution import EvolveConfig
from envs.evaluation.search.cp_nas import CPNASConfig
from envs.evaluation.search.elimination import Trials, fair_then_lowest_mean
from envs.evaluation.search.evaluators import FunctionEvaluator
from envs.evaluation.search.evolution import EvolutionConfig as RegularizedConfig
from envs.evaluation.search.evolution import RegularizedEvolution
from envs.evaluation.search.local_search import LocalSearch
from envs.evaluation.search.nas_count import NASCountConfig
from envs.evaluation.search.ncp import NCPConfig, PredictorConfig
from envs.evaluation.search.nsga import NSGA2, NSGAConfig
from envs.evaluation.search.predictors import Ridge
from envs.evaluation.search.prefilter import Prefilter, Ranked, RankedConfig
from envs.evaluation.search.random import RandomSearch
from envs.evaluation.search.shared_weights import SharedConfig
from envs.evaluation.search.shrinking import ShrinkConfig
from envs.evaluation.search.space import Space
from envs.evaluation.search.spaces.cell import CellSpaceConfig
from envs.evaluation.search.spaces.chain import ChainConfig
from envs.evaluation.search.spaces.code import EncoderConfig
from envs.evaluation.search.spaces.counting import CountingConfig
from envs.evaluation.search.spaces.light_chain import LightChainConfig
from envs.evaluation.search.strategy import search
from envs.evaluation.transform import TeachConfig, apply
from envs.perception.counting.density import density_map
from envs.perception.counting.losses import SPPLoss
from envs.perception.counting.task import CountTask
from rlsuite.data.arrays import Arrays
from rlsuite.fit import FitConfig
from rlsuite.methods import Method
from rlsuite.optim.choice import OptimizerConfig

SGD = OptimizerConfig(name="sgd", learning_rate=0.05)
LEARN = FitConfig(steps=12, batch_size=32, optimizer=SGD, save_every=5, check_every=5)
TEACH = TeachConfig(fit=FitConfig(steps=8, batch_size=32, optimizer=SGD), rounds=1)
SHARED = SharedConfig(batch_size=64)
CHAIN = ChainConfig(widths=(4, 6), strides=(1, 2), stem=4, kernels=(3,), expansions=(2,))


def cells(*operations, **options):
    options = {"nodes": 2, "width": 4, "layout": ("normal", "reduction"), **options}
    return CellSpaceConfig(operations=operations, **options)


CONFIGS = {
    "search/cars": CARSConfig(
        space=cells("max_pool_3x3", "sep_conv_3x3"),
        evolution=EvolutionConfig(population=3, warm_up=1, generations=2),
        shared=SHARED,
        epochs=1,
        statistics=1,
        teach=TEACH,
    ),
    "search/bnas": BNASConfig(
        space=cells("max_pool_3x3", "sep_conv_3x3", convolution="xnor"),
        mixed_epochs=1,
        tries=1,
        shared=SHARED,
        statistics=1,
        teach=TEACH,
    ),
    "search/abandit_nas": ABanditNASConfig(
        space=cells("conv_3x3", "denoise", inputs=1, picks=1, layout=("a", "r"), reductions=("r",)),
        tries=1,
        shared=SHARED,
        statistics=1,
        teach=TEACH,
    ),
    "search/cp_nas": CPNASConfig(
        space=cells("skip_connect", "sep_conv_3x3", convolution="rbnn"),
        tries=1,
        shared=SHARED,
        statistics=1,
        teach=TEACH,
    ),
    "search/ncp": NCPConfig(
        labels=4,
        candidate=TEACH,
        predictor=PredictorConfig(hidden_sizes=(8, 8), epochs=3),
        encoder=EncoderConfig(stages=2, blocks=2, largest=16),
        teach=TEACH,
    ),
    "search/assessor": AssessorSearchConfig(
        trials=5,
        ranked=RankedConfig(labels=3, others=8, candidates=10, picks=2),
        assessor=AssessorConfig(steps=5, batch_size=8),
        candidate=TEACH,
        encoder=EncoderConfig(stages=2, blocks=2, largest=16),
        teach=TEACH,
    ),
    "search/autospace": AutoSpaceConfig(
        chain=CHAIN,
        evolve=EvolveConfig(population=4, drawn=2, rounds=3, steps=3, alone=3, contest=2, uniform=1, batch_size=32),
        top=2,
        teach=TEACH,
    ),
    "search/autonl": AutoNLConfig(
        macs=15_400,
        weight=5.0,
        trials=2,
        space=LightChainConfig(chain=CHAIN),
        search=LEARN,
        teach=TEACH,
    ),
    "search/atomnas": AtomNASConfig(
        macs=25_000,
        trials=2,
        space=dataclasses.replace(CHAIN, kernels=(3, 5)),
        shrink=ShrinkConfig(
            rho=0.12,
            rise=0.1,
            threshold=0.1,
            average_batch=64,
            average=0.9,
            statistics=1,
            fit=dataclasses.replace(LEARN, steps=32, optimizer=dataclasses.replace(SGD, learning_rate=0.1)),
        ),
        teach=TEACH,
    ),
    "search/nas_count": NASCountConfig(
        space=CountingConfig(
            levels=2, nodes=2, width=4, extraction=("conv_1x1", "skip_connect"), fusion=("conv_1x1", "skip_connect")
        ),
        partial=2,
        levels=2,
        search=dataclasses.replace(LEARN, batch_size=8),
        teach=TEACH,
    ),
}


def subject_of(name):
    subject = classifier()
    if name != "search/nas_count":
        return subject
    rng, pictures, densities = np.random.default_rng(0), [], []
    for _ in range(64):
        centres = torch.from_numpy(rng.uniform(2, 14, size=(3, 2)))
        pictures.append(density_map(centres, (16, 16), 1.0)[None])
        densities.append(density_map((centres - 0.5) / 2, (8, 8), 1.0)[None])
    data = Arrays({"input": torch.stack(pictures), "density": torch.stack(densities)})
    task = CountTask(data, data, SPPLoss(2), floor=-2.0)
    return dataclasses.replace(subject, task=task, example=data.tensors["input"][:1])


class Places(Space):
    """Four places of five; each has a best choice."""

    name, sizes = "places", (5, 5, 5, 5)

    def cost(self, architecture):
        return {"macs": float(sum(architecture)), "parameters": 1.0}


def ridge(number):
    return Ridge(Places())


RANKED = RankedConfig(labels=8, others=0, candidates=30, picks=5)
STRATEGIES = {
    "random": lambda space: RandomSearch(space, seed=3),
    "evolution": lambda space: RegularizedEvolution(space, RegularizedConfig(population=6, sample=3), seed=3),
    "local": lambda space: LocalSearch(space, seed=3),
    "nsga2": lambda space: NSGA2(space, lambda one: space.cost(one)["macs"], NSGAConfig(population=6), seed=3),
    "ranked": lambda space: Ranked(space, ridge, RANKED, seed=3),
    "prefilter": lambda space: Prefilter(
        space, RandomSearch(space, seed=3), ridge, keep=0.3, warm_up=8, every=5, sample=20, seed=3
    ),
    "elimination": lambda space: Trials(fair_then_lowest_mean(Arms(space.sizes), 2, np.random.default_rng(3))),
}


# -- in a process of its own ----------------------------------------------------------------------------------------


class Moments:
    """Counts events, and kills this process before one of them."""

    def __init__(self, event, number):
        self.counts, self.event, self.number = {}, event, number

    def passed(self, event):
        self.counts[event] = self.counts.get(event, 0) + 1
        if event == self.event and self.counts[event] == self.number:
            os.kill(os.getpid(), signal.SIGKILL)


def run(name, folder, event, number, output):
    """Search, or go on; write what was found, and how often each event passed, to output."""
    torch.set_num_threads(1)
    moments = Moments(event, number)
    register_optimizer_step_pre_hook(lambda *_: moments.passed("step"))
    for home, called, what in (
        (os, "fsync", "write"),
        (door.Search, "rebuild", "rebuild"),
        (shrinking, "cut_module", "rebuild"),
    ):
        original = getattr(home, called)

        def before(*arguments, original=original, what=what):
            moments.passed(what)
            return original(*arguments)

        setattr(home, called, before)
    if name in STRATEGIES:
        found = run_strategy(name, Path(folder), moments)
    else:
        method = Method(name, CONFIGS[name], EVALUATIONS[name])
        changed = apply(method, subject_of(name), 1, Path(folder))
        found = {"plan": changed.recipe[-1].plan, "weights": digest(changed.module)}
    Path(output).write_text(json.dumps({"found": found, "counts": moments.counts}))


def run_strategy(name, folder, moments):
    def value(architecture):
        moments.passed("score")
        return 1.0 - sum((choice - 3) ** 2 for choice in architecture) / 36.0

    space = Places()
    outcome = search(
        space, STRATEGIES[name](space), FunctionEvaluator(value), budget=25, folder=folder, description={"name": name}
    )
    return {"judged": [[list(one), score] for one, score in outcome.judged], "queries": outcome.queries}


def digest(module):
    hashed = hashlib.sha256()
    for key, value in module.state_dict().items():
        hashed.update(key.encode() + value.contiguous().numpy().tobytes())
    return hashed.hexdigest()
