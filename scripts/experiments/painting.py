"""Learning to Paint (arXiv:1903.04411), small: a policy learns to paint through a differentiable renderer.

Digits of scikit-learn, resized to 32 pixels and tinted with a random colour on black, 1,500 to learn from and 297 to
judge by, painted with 15 strokes. Model-based DDPG through the neural renderer, the same through the soft rasterizer,
and model-free DDPG, each with the same number of updates; and bundles of one stroke against bundles of five.

Claims: the model-based painter's error is at most `model_based_bar` and at most `share_bar` of the model-free one's;
its strokes, drawn by the exact rasterizer, keep it below `exact_bar`; bundles of five end lower than single strokes.
The bars are our own choices, set before the first run.

"Drawn exactly" is with the 100 circles along a curve that every other user of the exact rasterizer draws, while the
neural renderer imitates `renderer_circles` of them: what it cannot know of the others is in its figures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from agents.assembly import load_agent, make_evaluation_env, prepare_torch
from renderers.imitation import ImitationConfig, train_renderer
from renderers.neural import save_renderer
from rlsuite.data.pictures import read_picture
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.experiment.kinds import FunctionJob
from rlsuite.extras import import_extra
from scripts.experiments.training_runs import for_seeds, train_all

SIZE, TRAIN, TEST = 32, 1500, 297
FULL_SCALE = (
    "python scripts/painter/train_renderer.py output=renderer.safetensors && "
    "python scripts/train_agent.py agent=painter env=Painting preset=paper "
    "env.renderer_weights=renderer.safetensors data=<CelebA folder>"
)
RENDERER = "renderer.safetensors"  # in its job's folder
AGENTS = {
    "model-based": "painter",
    "model-based-soft": "painter",
    "model-free": "painter_ddpg",
    "one-stroke": "painter",
}


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        updates: of each run.
        bundle: strokes an action.
        bundles: actions an episode.
        overrides: further arguments for train_agent.py.
        renderer_steps: of the neural renderer's training, minibatches of 64 strokes.
        renderer_pool: strokes drawn for it.
        renderer_circles: of the exact rasterizer along a curve.
        model_based_bar: test MSE, at most, in every seed.
        share_bar: of the model-free painter's, at most, in every seed.
        exact_bar: test MSE with the exact rasterizer, at most, in every seed.
    """

    seeds: int = 3
    updates: int = 1200
    bundle: int = 5
    bundles: int = 3
    overrides: tuple[str, ...] = ()
    renderer_steps: int = 4000
    renderer_pool: int = 20_000
    renderer_circles: int = 40
    model_based_bar: float = 0.010
    share_bar: float = 0.2
    exact_bar: float = 0.015

    def __post_init__(self) -> None:
        for name in ("seeds", "updates", "bundle", "bundles", "renderer_steps"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")

    def arguments(self, arm: str, digits: Path, renderer: Path) -> list[str]:
        """Return the arguments of train_agent.py for an arm, seed and run directory apart.

        Args:
            arm: which.
            digits: the pictures' folder.
            renderer: the neural renderer's file.
        """
        bundle = 1 if arm == "one-stroke" else self.bundle
        length = self.bundle * self.bundles // bundle
        neural = ["env.renderer=neural", f"env.renderer_weights={renderer}"]
        steps = 32 * length + 32 * self.updates
        return [
            f"agent={AGENTS[arm]}",
            "env=Painting",
            f"data={digits}",
            f"env.size={SIZE}",
            f"env.bundle={bundle}",
            f"env.max_episode_steps={length}",
            "env.crop=1",
            "env.start=black",
            "env.flip=false",
            *(neural if arm != "model-based-soft" else ["env.renderer=soft"]),
            "num_envs=32",
            f"learning_starts={32 * length}",
            f"train_ratio={1 / 32}",
            f"steps={steps}",
            "replay.capacity=3072",
            f"evaluate.every={steps // 4}",
            "evaluate.episodes=32",
            f"checkpoint.every={steps // 2}",
            "agent.network=small",
            "agent.width=64",
            "agent.batch_size=32",
            "agent.reward=l2",
            "agent.reward_scale=20",
            "agent.target_rate=0.005",
            f"agent.discount={0.95**bundle}",
            *self.overrides,
        ]


DEBUG = Numbers(
    seeds=1, updates=2, overrides=("agent.width=4", "agent.batch_size=4"), renderer_steps=5, renderer_pool=50
)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Make digits and renderer, train, judge, and test the claims."""
    digits = jobs.folder / "digits"
    write_digits(digits)
    config = ImitationConfig(
        size=SIZE,
        steps=numbers.renderer_steps,
        pool=numbers.renderer_pool,
        circles=numbers.renderer_circles,
        learning_rates=(3e-4, 1e-4),
        milestones=(int(0.8 * numbers.renderer_steps),),
    )
    imitation = FunctionJob(function=imitate, arm="neural", seed=config.seed, inputs={"config": config})
    renderer_error = jobs.run([imitation])[imitation.name]["mse"]
    weights = jobs.path(imitation) / RENDERER
    seeds = tuple(range(numbers.seeds))
    folders = train_all(for_seeds({arm: numbers.arguments(arm, digits, weights) for arm in AGENTS}, seeds), jobs)
    errors = {arm: tuple(measure(folders[f"{arm}-s{seed}"]) for seed in seeds) for arm in AGENTS}
    exact = {arm: tuple(measure(folders[f"{arm}-s{seed}"], "exact") for seed in seeds) for arm in AGENTS}
    for arm in AGENTS:
        shown = ", ".join(f"{own:.4f} ({true:.4f})" for own, true in zip(errors[arm], exact[arm], strict=True))
        print(f"{arm:18} test MSE by seed (drawn exactly): {shown}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(errors, exact, numbers),
        figures={
            "test_mse": errors,
            "test_mse_exact": exact,
            "renderer_mse": renderer_error,
            "blank_canvas_mse": blank_error(digits / "test"),
        },
        full_scale=FULL_SCALE,
    )


def claims(
    errors: Mapping[str, tuple[float, ...]], exact: Mapping[str, tuple[float, ...]], numbers: Numbers
) -> tuple[Claim, ...]:
    """Return the claims for the test errors, by arm and seed; each must hold in its worst seed."""
    own, free = errors["model-based"], errors["model-free"]
    return (
        Claim(
            statement="model-based test MSE, the worst seed's",
            margin=numbers.model_based_bar,
            figures=(max(own),),
            at_least=False,
        ),
        Claim(
            statement="model-based test MSE as a share of model-free, the worst seed's",
            margin=numbers.share_bar,
            figures=(max(one / other for one, other in zip(own, free, strict=True)),),
            at_least=False,
        ),
        Claim(
            statement="model-based test MSE drawn by the exact rasterizer, the worst seed's",
            margin=numbers.exact_bar,
            figures=(max(exact["model-based"]),),
            at_least=False,
        ),
        Claim(
            statement="bundles of five: test MSE as a share of single strokes', the worst seed's",
            margin=1.0,
            figures=(max(one / other for one, other in zip(own, errors["one-stroke"], strict=True)),),
            at_least=False,
        ),
    )


def write_digits(folder: Path) -> None:
    """Write the tinted digits as PNG files under train and test, unless they are there."""
    load_digits = import_extra("sklearn.datasets", "paper=painting").load_digits
    if len(list(folder.rglob("*.png"))) == TRAIN + TEST:
        return
    digits, random = load_digits(return_X_y=True)[0].reshape(-1, 8, 8), np.random.default_rng(0)
    for place, index in enumerate(random.permutation(len(digits))[: TRAIN + TEST]):
        split = "train" if place < TRAIN else "test"
        (folder / split).mkdir(parents=True, exist_ok=True)
        grey = Image.fromarray((digits[index] / 16 * 255).astype(np.uint8))
        grey = grey.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        tinted = np.asarray(grey, np.float64)[..., None] * random.uniform(0.3, 1.0, 3)
        Image.fromarray(tinted.astype(np.uint8)).save(folder / split / f"{index:04}.png")


def imitate(arm: str, seed: int, folder: Path, *, config: ImitationConfig) -> dict[str, float]:
    """Train the neural renderer; return its error on strokes it has not seen."""

    def report(step: int, mse: float) -> None:
        print(f"renderer: step {step}, mse {mse:.5f}", flush=True)

    made, error = train_renderer(config, report)
    save_renderer(made, folder / RENDERER, {"mse": error, **dataclasses.asdict(config)})
    return {"mse": error}


@torch.no_grad()
def measure(folder: Path, renderer: str = "") -> float:
    """Return a finished run's mean squared error on the test pictures, painted once each.

    Args:
        folder: the run.
        renderer: draws the strokes; "" for the one it learned through.
    """
    agent, config = load_agent(folder)
    prepare_torch(config)
    env: Any = make_evaluation_env(config, TEST, options={"renderer": renderer} if renderer else {})
    observation, _ = env.reset_to(env.pool)
    mse = torch.zeros(TEST)
    for _ in range(env.max_episode_steps):
        observation, _, _, _, info = env.step(agent.act(observation, False))
        mse = info["mse"]
    return float(mse.mean())


def blank_error(folder: Path) -> float:
    """Return the mean squared error of black canvases."""
    pictures = [read_picture(path) for path in sorted(folder.glob("*.png"))]
    return float(np.mean([((picture.double() / 255) ** 2).mean() for picture in pictures]))
