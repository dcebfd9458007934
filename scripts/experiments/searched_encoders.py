"""Policies that searches found: encoders of pixels that imitate a trained policy, and a plain policy made smaller.

The teacher is TD3 on Reacher. Students see cameras' pictures and learn its actions where it goes, then where they go
themselves; every search has the same pictures. All networks of an arm's kind learn alike.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.assembly import prepare_torch
from agents.loading import PolicyConfig, load_policy
from agents.plain import Teacher
from agents.subject import JudgeConfig, policy_subject
from envs.evaluation.attacks.adversarial_training import attacked_loss
from envs.evaluation.attacks.gradient import PGD, PGDConfig
from envs.evaluation.attacks.observation import AttackedObservation, action_change, on_pictures
from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.latency import measure_latency
from envs.evaluation.policy_task import PolicyTask
from envs.evaluation.probes import layer_macs, measure_size
from envs.evaluation.search.abandit_nas import ABanditNASConfig
from envs.evaluation.search.atomnas import AtomNASConfig
from envs.evaluation.search.autonl import AutoNLConfig
from envs.evaluation.search.bnas import BNASConfig
from envs.evaluation.search.cars import CARSConfig, EvolutionConfig
from envs.evaluation.search.cp_nas import CPNASConfig
from envs.evaluation.search.shared_weights import SharedConfig
from envs.evaluation.search.shrinking import ShrinkConfig
from envs.evaluation.search.spaces.cell import CellSpaceConfig
from envs.evaluation.search.spaces.chain import ChainConfig
from envs.evaluation.search.spaces.code import ActorConfig
from envs.evaluation.search.spaces.light_chain import LightChainConfig
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, apply, teach
from rlsuite.config.camera import CameraConfig
from rlsuite.fit import FitConfig
from rlsuite.methods import Method, choose
from rlsuite.nn.vision import NETWORKS
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed
from scripts.clone_policy import CloneConfig, pixel_task, taught

BATCH_SIZE = 64
PLAIN, ATTACKED = "conv", "conv+attacked"
ENCODERS = (PLAIN, ATTACKED, "cars", "bnas", "abandit_nas", "cp_nas", "autonl", "atomnas")
ACTORS = ("actor", "atomnas")
EPS = 8.0 / 255.0


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """How much the students see and learn.

    Attributes:
        run: the teacher's run directory.
        size: pixels a side.
        states: pictures of each round, and states of a plain policy's.
        steps: minibatches of each round.
        search: epochs of a search's shared weights, about, over half of the pictures.
        episodes: by which all are scored.
        seed: of everything.
    """

    run: str
    size: int
    states: int
    steps: int
    search: int
    episodes: int
    seed: int

    @property
    def teach(self) -> TeachConfig:
        """How a network learns."""
        optimizer, schedule = OptimizerConfig(learning_rate=3e-3), ScheduleConfig(kind="cosine")
        return TeachConfig(
            fit=FitConfig(
                steps=self.steps, batch_size=BATCH_SIZE, optimizer=optimizer, schedule=schedule, clip_norm=5.0
            ),
            rounds=2,
        )


def judge_encoder(arm: str, seed: int, folder: Path, **numbers: Any) -> dict[str, Any]:
    """Search, if the arm is one, let the network learn, and judge it: see `figures`, and the seconds all took."""
    torch.set_num_threads(1)
    teaching = Teaching(**numbers, seed=seed)
    began = time.process_time()
    subject = pixel_subject(teaching)
    if arm == ATTACKED:
        subject = dataclasses.replace(subject, module=subject.copy())
        task = subject.task

        def losses(module: Any, batch: Any) -> Any:
            return attacked_loss(task, module, batch, eps=EPS)

        teach(subject, teaching.teach, derive_seed(seed, "attacked"), losses=losses)
    elif arm != PLAIN:
        config = CONFIGS[arm](teaching)
        name = f"search/{arm}"
        subject = apply(Method(name, config, EVALUATIONS[name]), subject, derive_seed(seed, arm))
    seconds = time.process_time() - began
    attacked = [EPS, 2 * EPS] if arm in (PLAIN, ATTACKED, "abandit_nas") else []
    return {**figures(subject, seed, attacked), "seconds": round(seconds, 1)}


def judge_actor(arm: str, seed: int, folder: Path, **numbers: Any) -> dict[str, Any]:
    """Judge the teacher's own layers, or a policy whose units left while it learned (AtomNAS)."""
    torch.set_num_threads(1)
    teaching = Teaching(**numbers, seed=seed)
    began = time.process_time()
    agent, config, _ = load_policy(PolicyConfig(run=(teaching.run,), device="cpu"))
    prepare_torch(dataclasses.replace(config, num_threads=1))
    judging = JudgeConfig(episodes=teaching.episodes, states=teaching.states, num_threads=1)
    subject = policy_subject(agent, config, judging, teaching.teach, derive_seed(seed, "states"))
    if arm != "actor":
        fit = dataclasses.replace(
            teaching.teach.fit, steps=2 * teaching.steps, optimizer=OptimizerConfig(name="sgd", learning_rate=0.1)
        )
        shrink = ShrinkConfig(rho=0.002, threshold=0.01, fit=fit)
        actor = ActorConfig(depth=2, smallest=1, largest=64)
        chosen = AtomNASConfig(macs=2500, shrink=shrink, actor=actor, seed=seed, teach=teaching.teach)
        subject = apply(Method("search/atomnas", chosen, EVALUATIONS["search/atomnas"]), subject, seed)
    return {**figures(subject, seed, []), "seconds": round(time.process_time() - began, 1)}


def pixel_subject(teaching: Teaching) -> Subject:
    """Return a small convolutional student that has learned from pictures."""
    camera = CameraConfig(size=teaching.size, stack=2)
    script = CloneConfig(
        run=(teaching.run,),
        camera=camera,
        states=teaching.states,
        num_envs=16,
        rounds=2,
        fit=teaching.teach.fit,
        episodes=teaching.episodes,
        seed=teaching.seed,
        num_threads=1,
    )
    agent, config, _ = load_policy(PolicyConfig(run=script.run, device="cpu"))
    prepare_torch(dataclasses.replace(config, num_threads=1))
    task = pixel_task(dataclasses.replace(config, camera=camera), Teacher(agent), script)
    (network,) = choose(NETWORKS, ["conv"], {"conv.widths": [8, 16, 16], "conv.hidden": 32})
    return taught(task, network, script)


def figures(subject: Subject, seed: int, attacked: list[float]) -> dict[str, Any]:
    """Return "scores" of a policy, costs, milliseconds by backend, and the mean scores under attacks of some eps."""
    task = subject.task
    assert isinstance(task, PolicyTask)
    found: dict[str, Any] = {"scores": task.score(subject.module, seed).tolist(), "floor": task.floor}
    for eps in attacked:
        perturb = on_pictures(PGD(config=PGDConfig(steps=5)), action_change(subject.module, task.half_range), eps)

        def seen(env: Any, perturb: Any = perturb) -> Any:
            return AttackedObservation(env, perturb, seed=seed)

        found[f"eps {eps:.3f}"] = task.score(subject.module, seed, seen=seen).tolist()
    one_bit = 0
    for path, count in layer_macs(subject.module, subject.example).items():
        layer = subject.module.get_submodule(path)
        one_bit += count if getattr(layer, "weight_bits", 32) == getattr(layer, "input_bits", 32) == 1 else 0
    plan = subject.recipe[-1].plan if subject.recipe else None
    return {
        **found,
        **measure_size(subject),
        "one_bit_macs": float(one_bit),
        **measure_latency(subject.module, subject.example),
        "plan": None if plan is None else {key: plan[key] for key in ("space", "architecture")},
    }


# -- the searches, as small as the pictures are few ----------------------------------------------------------------


def cells(operations: tuple[str, ...], **options: Any) -> CellSpaceConfig:
    """Return two cells, the second a reduction, behind a stem that halves the picture."""
    found = {"nodes": 2, "width": 8, "layout": ("normal", "reduction"), "stem_stride": 2, "head": "all"}
    return CellSpaceConfig(operations=operations, **{**found, **options})


def shared() -> SharedConfig:
    """Return how shared weights learn: faster than in the papers, since there are few minibatches."""
    return SharedConfig(
        batch_size=BATCH_SIZE, optimizer=OptimizerConfig(name="sgd", learning_rate=0.05, weight_decay=3e-4)
    )


def cars(teaching: Teaching) -> CARSConfig:
    """Return CARS's numbers: the best network of at most 420,000 MACs; cells have 336,000 to 590,000."""
    return CARSConfig(
        space=cells(("max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")),
        macs=4.2e5,
        evolution=EvolutionConfig(population=6, warm_up=2, generations=3),
        shared=shared(),
        epochs=max(1, teaching.search // 5),
        statistics=2,
        seed=teaching.seed,
        teach=teaching.teach,
    )


def bnas(teaching: Teaching) -> BNASConfig:
    """Return BNAS's numbers: of three operations one goes after two rounds, then another."""
    return BNASConfig(
        space=cells(("max_pool_3x3", "sep_conv_3x3", "dil_conv_3x3"), convolution="xnor"),
        kilobytes=17.0,
        mixed_epochs=max(1, teaching.search // 4),
        tries=1,
        shared=shared(),
        statistics=2,
        seed=teaching.seed,
        teach=teaching.teach,
    )


def abandit_nas(teaching: Teaching) -> ABanditNASConfig:
    """Return ABanditNAS's numbers: of three operations, two defend or filter."""
    operations = ("conv_3x3", "denoise", "gabor_3x3")
    return ABanditNASConfig(
        space=cells(operations, inputs=1, picks=1, layout=("a", "b"), reductions=("b",)),
        tries=1,
        eps=EPS,
        shared=shared(),
        epochs=max(1, teaching.search // 5),
        statistics=2,
        seed=teaching.seed,
        teach=teaching.teach,
    )


def cp_nas(teaching: Teaching) -> CPNASConfig:
    """Return CP-NAS's numbers."""
    return CPNASConfig(
        space=cells(("max_pool_3x3", "sep_conv_3x3", "dil_conv_3x3"), convolution="xnor_one_bit"),
        tries=1,
        warm_up=max(1, teaching.search // 5),
        shared=shared(),
        statistics=2,
        seed=teaching.seed,
        teach=teaching.teach,
    )


CHAIN = ChainConfig(
    widths=(8, 8, 16), strides=(1, 2, 1), kernels=(3,), expansions=(2,), stem=8, stem_stride=2, head="all"
)


def autonl(teaching: Teaching) -> AutoNLConfig:
    """Return AutoNL's numbers: at most 185,000 MACs, where no block is 168,000 and all are 197,000."""
    search = dataclasses.replace(teaching.teach.fit, steps=teaching.steps)
    return AutoNLConfig(
        macs=1.85e5,
        weight=0.03,
        trials=2,
        space=LightChainConfig(chain=CHAIN),
        search=search,
        seed=teaching.seed,
        teach=teaching.teach,
    )


def atomnas(teaching: Teaching) -> AtomNASConfig:
    """Return AtomNAS's numbers: half of the oversized network's MACs at most."""
    optimizer = OptimizerConfig(name="sgd", learning_rate=0.1, weight_decay=1e-4)
    fit = dataclasses.replace(teaching.teach.fit, steps=2 * teaching.steps, optimizer=optimizer)
    return AtomNASConfig(
        macs=3e5,
        trials=3,
        shrink=ShrinkConfig(rho=0.02, threshold=0.01, fit=fit),
        space=dataclasses.replace(CHAIN, kernels=(3, 5), expansions=(4,)),
        seed=teaching.seed,
        teach=teaching.teach,
    )


CONFIGS: dict[str, Callable[[Teaching], Any]] = {
    "cars": cars,
    "bnas": bnas,
    "abandit_nas": abandit_nas,
    "cp_nas": cp_nas,
    "autonl": autonl,
    "atomnas": atomnas,
}


def mean(scores: list[float]) -> float:
    """Return the mean of some scores."""
    return float(np.mean(scores))
