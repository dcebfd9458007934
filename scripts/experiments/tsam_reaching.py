"""The part of TSAM's experiment that reaches: a policy of clean pictures that sees a patch over them, or past it."""

from __future__ import annotations

import functools
from pathlib import Path

import torch

import envs
from envs.evaluation.policy_task import PolicyTask
from envs.evaluation.transform import teach
from envs.perception.catalogue import PERCEPTIONS
from envs.perception.perceiver import Perceiver
from envs.perception.recording import record
from envs.perception.weights import choose_perceivers, save_perceiver
from rlsuite.fit import FitConfig, fit
from rlsuite.methods import Method, choose
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments.reaching import ends_of_the_scale, reach_camera, reach_learning, reach_student, reach_task

BEHIND = ("patch", "filled", "last seen")
SMALL = {"tsam.network.width": 16}
FRAMES = 200  # steps of 8 environments that TSAM learns from


def reach(
    arm: str, seed: int, folder: Path, *, size: int, states: int, taught: int, episodes: int, filled: int
) -> dict[str, float]:
    """Return mean returns of one policy by what it sees: "clean", and behind a patch that hides a fifth, BEHIND.

    And those of standing "still" and of the "expert".

    Args:
        arm: unused.
        seed: of policy, pictures and episodes.
        folder: where TSAM's weights are put.
        size: side of the pictures, in pixels.
        states: pictures labelled in each of two rounds.
        taught: minibatches of each.
        episodes: scored.
        filled: minibatches that TSAM learns from.
    """
    torch.set_num_threads(1)
    task = reach_task(size=size, states=states, episodes=episodes, seed=derive_seed(seed, "reaching"))
    student = reach_student(task, seed)
    teach(student, reach_learning(taught), derive_seed(seed, "taught"))
    folder.mkdir(parents=True, exist_ok=True)
    tsam = learned_tsam(folder / "tsam.safetensors", size, filled, seed)
    (patch,) = choose(PERCEPTIONS, ["inpainting/patch"], {"patch.seed": derive_seed(seed, "patch") % 1000})
    (last,) = choose(PERCEPTIONS, ["inpainting/last_seen"], {})
    seen = {"clean": (), "patch": (patch,), "filled": (patch, tsam), "last seen": (patch, last)}
    found = ends_of_the_scale(episodes, seed)
    for name, methods in seen.items():
        judged = PolicyTask(
            functools.partial(
                envs.make_vector, "Reacher", num_threads=1, camera=reach_camera(size), perception=methods
            ),
            task.teacher,
            teacher_sees="state",
            episodes=episodes,
            states=states,
        )
        found[name] = float(judged.score(student.module, seed).mean())
    return found


def learned_tsam(path: Path, size: int, steps: int, seed: int) -> Method:
    """Return TSAM with weights in a file, learned from what cameras see of Reacher."""
    (method,) = choose(PERCEPTIONS, ["inpainting/tsam"], SMALL)
    tsam: Perceiver = method.build(seed=derive_seed(seed, "tsam"))
    clips = record("Reacher", size, FRAMES, derive_seed(seed, "clips"))
    fit(
        tsam,
        lambda _, batch: tsam.losses(batch),
        tsam.source("", size, derive_seed(seed, "windows"), clips),
        FitConfig(
            steps=steps,
            batch_size=4,
            order="random",
            optimizer=OptimizerConfig(name="adam", learning_rate=2e-3),
            schedule=ScheduleConfig(kind="cosine", warmup=min(20, steps - 1), final=0.05),
            clip_norm=1.0,
        ),
        seed=seed,
    )
    save_perceiver(path, tsam, method)
    (chosen,) = choose_perceivers(["inpainting/tsam"], {"tsam.weights": str(path)})
    return chosen
