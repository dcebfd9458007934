"""Stroke-based character recognition (arXiv:1806.08990), small: digits redrawn in four strokes are read all the same.

scikit-learn's digits, enlarged to 32 pixels, on white paper. For each seed an extractor learns to redraw noisy digits
in four strokes, and recognizers to read: the picture itself (raw), behind a median filter or one bit a pixel, the
redrawn glyph, the stroke numbers (params), or picture and glyph (both). Attacks are oblivious, made on the plain
recognizer, or adaptive, made through the very way of reading that they are shown to; no figure of one stands without
the other's.

And an agent learns the same strokes by reinforcement, one at a time: model-based, through the renderer, and model-free.

Claims: under strong noise (0.7 and 30 %, at which the plain recognizer fails more than now and then; at the paper's 0.3
and 15 % it hardly does) the redrawn glyph is read better than the picture, and no worse than behind the median filter,
and of clean digits few are lost; oblivious attacks do far less, CW-2 no more than behind the median filter; adaptive
ones do no less than oblivious ones, and with steps and size enough they win, or else gradients would be masked; the
model-based agent's return is above a bar and above the model-free one's, and random strokes earn next to nothing. Bars
are those that were set before the first run; the claim on CW-2 came after it, with the bar that the median filter had.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from agents.assembly import load_agent, make_evaluation_env, prepare_torch
from agents.stroke_recognizer.recognizer import WAYS
from agents.stroke_recognizer.teaching import NOISES, TeachingConfig
from envs.characters.task import Characters
from rlsuite.errors import require, require_choice
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from scripts.experiments.scr_mnist import MnistBars, mnist_claims
from scripts.experiments.scr_reading import AttackNumbers, measure
from scripts.experiments.training_runs import for_seeds, train_all

CLEAN, PAPER, STRONG = NOISES
EPISODES = 256
AGENTS = {"model-based": "scribe", "model-free": "scribe_ddpg"}
FULL_SCALE = (
    "python scripts/train_extractor.py data=mnist size=64 network=vgg16 learning_rate=3e-4 steps=100000 "
    "noises=[all] output=reader-64.safetensors; python scripts/train_agent.py agent=scribe env=Characters data=mnist "
    "preset=paper env.renderer_weights=<of scripts/painter/train_renderer.py brush=glyph size=64 decoder=nearest>"
)


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        data: "digits" (scikit-learn's), or "mnist" where RLSUITE_DATA says.
        steps: minibatches of 64 for the extractor.
        schedule: of its learning rate, see train_extractor.py.
        recognizer_steps: for each recognizer.
        redrawn: examples that the recognizers of redrawn digits learn from.
        attacks: how readers are attacked.
        updates: of each agent, with 32 transitions.
        overrides: further arguments for train_agent.py.
        over_raw: under strong noise, redrawn minus raw accuracy, at least, mean over seeds.
        over_median: redrawn minus median-filtered, there and under oblivious CW-2, at least, mean over seeds.
        clean_loss: on clean digits, redrawn minus raw, at least, mean over seeds.
        oblivious_gain: under oblivious FGSM and DeepFool, redrawn minus raw, at least, in every seed.
        unbounded: accuracy left by adaptive PGD at its largest eps, at most, in every seed.
        return_bar: the model-based agent's mean return, at least.
        over_free: that minus the model-free agent's, at least.
        random_bar: random strokes' mean return, at most.
        mnist: the bars of data=mnist, instead of all these.
    """

    seeds: int = 3
    data: str = "digits"
    steps: int = 1500
    schedule: str = "constant"
    recognizer_steps: int = 400
    redrawn: int = 2000
    attacks: AttackNumbers = field(default_factory=AttackNumbers)
    updates: int = 400
    overrides: tuple[str, ...] = ()
    over_raw: float = 0.05
    over_median: float = 0.0
    clean_loss: float = -0.05
    oblivious_gain: float = 0.20
    unbounded: float = 0.1
    return_bar: float = 0.5
    over_free: float = 0.15
    random_bar: float = 0.05
    mnist: MnistBars = field(default_factory=MnistBars)

    def __post_init__(self) -> None:
        for name in ("seeds", "steps", "recognizer_steps", "redrawn", "updates"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require_choice("data", self.data, ("digits", "mnist"))

    @property
    def teaching(self) -> TeachingConfig:
        """How the readers are taught, but for their seed."""
        return TeachingConfig(
            data=self.data,
            steps=self.steps,
            schedule=self.schedule,
            redrawn=self.redrawn,
            recognizer_steps=self.recognizer_steps,
            save_every=200,
        )

    def arguments(self, arm: str) -> list[str]:
        """Return the arguments of train_agent.py for an arm, seed and run directory apart."""
        steps = 128 + 32 * self.updates
        return [
            f"agent={AGENTS[arm]}",
            "env=Characters",
            f"data={self.data}",
            f"env.noise={PAPER}",
            "num_envs=32",
            "learning_starts=128",
            f"train_ratio={1 / 32}",
            f"steps={steps}",
            "replay.capacity=3072",
            f"evaluate.every={steps // 2}",
            "evaluate.episodes=32",
            f"checkpoint.every={steps // 2}",
            *self.overrides,
        ]


DEBUG = Numbers(
    seeds=1,
    steps=3,
    recognizer_steps=3,
    redrawn=20,
    attacks=AttackNumbers(pgd_steps=1, pgd_eps=(0.2, 0.5), pictures=4, cw2_steps=1, cw2_through=4, tested=16),
    updates=2,
    overrides=("agent.width=4", "agent.batch_size=4", "env.size=16"),
)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Teach and train, attack, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    numbers.teaching.glyphs("test")  # where there are none, that is told before anything is taught
    inputs = {"teaching": numbers.teaching, "attacks": numbers.attacks, "noises": NOISES}
    arm = numbers.data
    reading: list[dict[str, Any]] = list(jobs.grid(measure, arms=(arm,), seeds=seeds, **inputs)[arm])
    print("\n".join(table(reading)), flush=True)
    if numbers.data == "mnist":
        bars = mnist_claims(reading, numbers.mnist)
        return Result(seeds=seeds, claims=bars, figures={"reading": reading}, full_scale=FULL_SCALE)
    folders = train_all(for_seeds({arm: numbers.arguments(arm) for arm in AGENTS}, seeds), jobs)
    returns = {arm: tuple(mean_return(folders[f"{arm}-s{seed}"]) for seed in seeds) for arm in AGENTS}
    returns["random"] = tuple(random_return(numbers.data, seed) for seed in seeds)
    for arm, values in returns.items():
        print(f"{arm:12} mean return by seed: {', '.join(f'{value:.3f}' for value in values)}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(reading, returns, numbers),
        figures={"reading": reading, "returns": returns},
        full_scale=FULL_SCALE,
    )


def claims(
    reading: list[dict[str, Any]], returns: Mapping[str, tuple[float, ...]], numbers: Numbers
) -> tuple[Claim, ...]:
    """Return the claims for what was read, by seed, and returns by arm and seed."""

    def lead(kind: str, name: str, over: str) -> tuple[float, ...]:
        return tuple(one[kind][name]["redraw"] - one[kind][name][over] for one in reading)

    largest = f"pgd {numbers.attacks.pgd_eps[-1]:g}"
    attacks = ("fgsm", *(f"pgd {eps:g}" for eps in numbers.attacks.pgd_eps))
    own, free = returns["model-based"], returns["model-free"]
    return (
        Claim(
            statement="strong noise: redrawn minus raw",
            margin=numbers.over_raw,
            figures=lead("noise", STRONG, "raw"),
        ),
        Claim(
            statement="strong noise: redrawn minus median-filtered",
            margin=numbers.over_median,
            figures=lead("noise", STRONG, "median"),
        ),
        Claim(statement="clean: redrawn minus raw", margin=numbers.clean_loss, figures=lead("noise", CLEAN, "raw")),
        *(
            Claim(
                statement=f"oblivious {attack}: redrawn minus raw, least over the seeds",
                margin=numbers.oblivious_gain,
                figures=(min(lead("oblivious", attack, "raw")),),
            )
            for attack in ("fgsm", "deepfool")
        ),
        Claim(
            statement="oblivious cw2: redrawn minus median-filtered",
            margin=numbers.over_median,
            figures=lead("oblivious", "cw2", "median"),
        ),
        Claim(
            statement="adaptive minus oblivious accuracy, largest over attacks, ways and seeds",
            margin=0.0,
            figures=(
                max(
                    one["adaptive"][attack][way] - one["oblivious"][attack][way]
                    for one in reading
                    for attack in attacks
                    for way in WAYS
                ),
            ),
            at_least=False,
        ),
        Claim(
            statement=f"adaptive {largest}: accuracy of redrawn, largest over the seeds (more: masked gradients)",
            margin=numbers.unbounded,
            figures=(max(one["adaptive"][largest]["redraw"] for one in reading),),
            at_least=False,
        ),
        Claim(statement="model-based return", margin=numbers.return_bar, figures=own),
        Claim(
            statement="model-based minus model-free return",
            margin=numbers.over_free,
            figures=tuple(one - other for one, other in zip(own, free, strict=True)),
        ),
        Claim(statement="random strokes' return", margin=numbers.random_bar, figures=returns["random"], at_least=False),
    )


def table(reading: list[dict[str, Any]]) -> list[str]:
    """Return mean accuracies over seeds as lines of text: noise and attacks x ways of reading."""
    ways = list(reading[0]["noise"][CLEAN])
    lines = [f"{'accuracy':40}" + "".join(f"{way:>9}" for way in ways)]
    for kind in ("noise", "oblivious", "adaptive"):
        for name in reading[0][kind]:
            cells = ""
            for way in ways:
                values = [one[kind][name][way] for one in reading if way in one[kind][name]]
                cells += f"{sum(values) / len(values):9.3f}" if values else f"{'':9}"
            lines.append(f"{kind + ' ' + name:40}{cells}")
    return lines


@torch.no_grad()
def mean_return(folder: Path) -> float:
    """Return a finished run's mean return over test digits, its strokes drawn by the exact rasterizer."""
    agent, config = load_agent(folder)
    prepare_torch(config)
    env: Any = make_evaluation_env(config, EPISODES, options={"renderer": "exact"})
    observation, _ = env.reset(seed=1)
    total = torch.zeros(EPISODES)
    for _ in range(env.max_episode_steps):
        observation, reward, _, _, _ = env.step(agent.act(observation, False))
        total += reward
    return float(total.mean())


def random_return(data: str, seed: int) -> float:
    """Return the mean return of uniform random strokes on test digits."""
    env = Characters(data=data, noise=PAPER, split="test", renderer="exact").make_vector(EPISODES)
    env.reset(seed=seed)
    generator, total = torch.Generator().manual_seed(seed), torch.zeros(EPISODES)
    for _ in range(Characters.max_episode_steps):
        total += env.step(torch.rand(EPISODES, env.action_size, generator=generator))[1]
    return float(total.mean())
