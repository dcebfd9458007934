"""Learning to Paint (arXiv:1903.04411, card "Small"): a policy learns to paint through a differentiable renderer.

Digits of scikit-learn, resized to 32 pixels and tinted with a random colour on black, 1,500 to learn from and 297 to
judge by, painted with 15 strokes. Model-based DDPG through the neural renderer, the same through the soft rasterizer,
and model-free DDPG, each with the same number of updates; and bundles of one stroke against bundles of five.

Claims: the model-based painter's error is at most `model_based_bar` and at most `share_bar` of the model-free one's;
its strokes, drawn by the exact rasterizer, keep it below `exact_bar`; bundles of five end lower than single strokes.

"Drawn exactly" is with the 100 circles along a curve that every other user of the exact rasterizer draws, while the
neural renderer imitates `renderer_circles` of them, the card's 40: what it cannot know of the others is in its figures.
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
from renderers.photo import read_picture
from rlsuite.config.schema import build
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.extras import import_extra
from rlsuite.weights_file import read_about
from scripts.experiments.training_runs import train_all

SIZE, TRAIN, TEST = 32, 1500, 297
FULL_SCALE = (
    "python scripts/painter/train_renderer.py output=renderer.safetensors && "
    "python scripts/train_agent.py agent=painter env=Painting preset=paper "
    "env.renderer_weights=renderer.safetensors data=<CelebA folder>"
)
AGENTS = {
    "model-based": "painter",
    "model-based-soft": "painter",
    "model-free": "painter_ddpg",
    "one-stroke": "painter",
}


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What rlsuite/conf/paper/painting.yaml holds, and explains."""

    seeds: int
    updates: int
    bundle: int
    bundles: int
    overrides: tuple[str, ...]
    renderer_steps: int
    renderer_pool: int
    renderer_circles: int
    model_based_bar: float
    share_bar: float
    exact_bar: float
    parallel: int
    runs: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("seeds", "updates", "bundle", "bundles", "renderer_steps", "parallel"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(len(self.runs) == 1, "runs=: name one folder")

    def arguments(self, arm: str, folder: Path) -> list[str]:
        """Return the arguments of train_agent.py for an arm, seed and run directory apart."""
        bundle = 1 if arm == "one-stroke" else self.bundle
        length = self.bundle * self.bundles // bundle
        neural = ["env.renderer=neural", f"env.renderer_weights={folder / 'renderer.safetensors'}"]
        steps = 32 * length + 32 * self.updates
        return [
            f"agent={AGENTS[arm]}",
            "env=Painting",
            f"data={folder / 'digits'}",
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


def run(config: dict[str, Any]) -> Result:
    """Make digits and renderer, train, judge, and test the claims."""
    numbers: Numbers = build(Numbers, config)
    folder = Path(numbers.runs[0])
    write_digits(folder / "digits")
    renderer_error = make_neural(folder / "renderer.safetensors", numbers)
    seeds = tuple(range(numbers.seeds))
    runs = {
        f"{arm}-s{seed}": [*numbers.arguments(arm, folder), f"seed={seed}", "num_threads=1"]
        for arm in AGENTS
        for seed in seeds
    }
    folders = train_all(runs, folder / "runs", numbers.parallel)
    errors = {arm: tuple(measure(folders[f"{arm}-s{seed}"]) for seed in seeds) for arm in AGENTS}
    exact = {arm: tuple(measure(folders[f"{arm}-s{seed}"], "exact") for seed in seeds) for arm in AGENTS}
    for arm in AGENTS:
        shown = ", ".join(f"{own:.4f} ({true:.4f})" for own, true in zip(errors[arm], exact[arm], strict=True))
        print(f"{arm:18} test MSE by seed (drawn exactly): {shown}", flush=True)
    return Result(
        paper="painting",
        seeds=seeds,
        claims=claims(errors, exact, numbers),
        figures={
            "numbers": config,
            "test_mse": errors,
            "test_mse_exact": exact,
            "renderer_mse": renderer_error,
            "blank_canvas_mse": blank_error(folder / "digits" / "test"),
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
    for index in random.permutation(len(digits))[: TRAIN + TEST]:
        split = "train" if len(list((folder / "train").glob("*"))) < TRAIN else "test"
        (folder / split).mkdir(parents=True, exist_ok=True)
        grey = Image.fromarray((digits[index] / 16 * 255).astype(np.uint8))
        grey = grey.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        tinted = np.asarray(grey, np.float64)[..., None] * random.uniform(0.3, 1.0, 3)
        Image.fromarray(tinted.astype(np.uint8)).save(folder / split / f"{index:04}.png")


def make_neural(path: Path, numbers: Numbers) -> float:
    """Train the neural renderer, unless it is there; return its error on strokes it has not seen."""
    if not path.exists():
        torch.set_num_threads(numbers.parallel)
        config = ImitationConfig(
            size=SIZE,
            steps=numbers.renderer_steps,
            pool=numbers.renderer_pool,
            circles=numbers.renderer_circles,
            learning_rates=(3e-4, 1e-4),
            milestones=(int(0.8 * numbers.renderer_steps),),
        )

        def report(step: int, mse: float) -> None:
            print(f"renderer: step {step}, mse {mse:.5f}", flush=True)

        renderer, error = train_renderer(config, report)
        save_renderer(renderer, path, {"mse": error, **dataclasses.asdict(config)})
    return float(read_about(path)["mse"])


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
    return float(np.mean([((np.asarray(picture, np.float64) / 255) ** 2).mean() for picture in pictures]))
