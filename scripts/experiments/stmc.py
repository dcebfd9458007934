"""STMC (arXiv:2002.03187), small: cues and a taught pose read a hand's words better than full frames do.

A planar hand, drawn with exact key points, signs sentences of two or three of eight words (one of which is a motion)
before uneven grounds, in 24 x 24 pixels; no sentence of the tests is among those learned from. Four networks learn from
sentences alone, the first of them of one word, with equal minibatches and normalized cues (without either, none of them
got so far as to write a word): STMC; STMC without its intra heads; its cues without a taught pose, crops at
fixed places; and the full frame alone, with as many weights. Where the pose is taught, the pose branch learns alone in
a few minibatches before, which count. Then STMC watches an environment where a script signs what is asked for, and
where actions are drawn at random.

Claims: STMC's word error rate (WER, in points of 100) is lower than the full frame's, and no higher than without a
taught pose; key points are near the true ones; without intra heads the WER is higher; and the WER of the script in the
environment is far below that of random actions. The paper's own data, PHOENIX-2014 (WER 20.7 on its test part), need a
GPU. The bars are set before the first run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from envs.perception.gestures.score import GestureScore
from envs.perception.gestures.sentences import VOCABULARY, SigningConfig, gesture_videos
from envs.perception.gestures.signing import SigningHand, script
from envs.perception.gestures.spatial import SpatialConfig
from envs.perception.gestures.stmc import STMC, STMCConfig, pose_error
from envs.perception.gestures.training import pose_losses, sentence_losses
from rlsuite.data.source import Source
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig, Loss, fit
from rlsuite.metrics.text import word_error_rate
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

SIGNING = SigningConfig()
SPATIAL = SpatialConfig(
    stem=(8, 0, 16),
    middle=(0, 32, 0, 32),
    top=(48,),
    pose_width=24,
    hands=(2, 5),  # knuckles and the middle finger's tip: where palm and fingers are
    face=1,  # the wrist
    hand_crop=6,
    face_crop=4,
    crop_width=16,
    pose_cue=32,
    normalize=True,
)
NET = STMCConfig(spatial=SPATIAL, channels=128, hidden=48, intra_hidden=24)
FIXED = ((0.0, 0.0), (0.0, -0.4), (0.0, 0.4))
ARMS = {
    "stmc": NET,
    "no intra heads": replace(NET, alpha=0.0),
    "no taught pose": replace(NET, beta=0.0, spatial=replace(SPATIAL, anchors=FIXED)),
    "full frame": replace(NET, beta=0.0, channels=120, spatial=replace(SPATIAL, cues=("full",), top=(72,))),
}
NAMES = {name: name.replace(" ", "-") for name in ARMS}
CLIP = 5.0  # norm of gradients at most
WARMUP = 20  # minibatches
CHECKS = 5  # WERs along each training; the last is the result


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        sentences: to learn from.
        test_sentences: to read.
        steps: minibatches, those of the pose branch alone included.
        batch_size: sentences of each.
        pose_steps: of these, minibatches in which the pose branch learns alone.
        word_steps: of these, minibatches of sentences of one word, which come next.
        learning_rate: the largest.
        hands: environments that are watched.
        full_bar: points of WER, full frame minus STMC, on the mean, at least.
        pose_bar: points of WER, without a taught pose minus STMC, at least.
        keypoint_bar: key points' mean distance from true ones, as a share of the picture's width, at most.
        intra_bar: points of WER without intra heads above STMC's, at least.
        loop_bar: points of WER in the environment, random actions minus the script, at least.
    """

    seeds: int = 1
    sentences: int = 600
    test_sentences: int = 100
    steps: int = 680
    batch_size: int = 6
    pose_steps: int = 120
    word_steps: int = 140
    learning_rate: float = 3e-3
    hands: int = 32
    full_bar: float = 3.0
    pose_bar: float = 0.0
    keypoint_bar: float = 0.06
    intra_bar: float = 1.0
    loop_bar: float = 40.0

    def __post_init__(self) -> None:
        for name in ("seeds", "batch_size", "pose_steps", "word_steps", "hands"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        for name in ("sentences", "test_sentences"):
            require(getattr(self, name) >= 8, f"{name}={getattr(self, name)}: use 8 or more")
        least = self.pose_steps + self.word_steps
        require(self.steps > least, f"steps={self.steps}: use more than pose_steps + word_steps={least}")


DEBUG = Numbers(seeds=1, sentences=16, test_sentences=8, steps=3, pose_steps=1, word_steps=1, hands=2)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Learn, read, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    names = ("sentences", "test_sentences", "steps", "batch_size", "pose_steps", "word_steps", "learning_rate", "hands")
    kept = jobs.grid(learn, arms=tuple(NAMES.values()), seeds=seeds, **{name: getattr(numbers, name) for name in names})
    found = {name: kept[key] for name, key in NAMES.items()}
    for name, results in found.items():
        for seed, one in zip(seeds, results, strict=True):
            curve = ", ".join(f"{rate:.1f}" for rate in one["curve"])
            about = f"{one['weights']} weights, {one['seconds']:.0f} s"
            print(f"{name}, seed {seed}: WER {curve}; key points {one['keypoints']:.3f}; {about}", flush=True)
    for seed, one in zip(seeds, found["stmc"], strict=True):
        print(f"in the environment, seed {seed}: WER {one['loop']}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(found, numbers),
        figures={name: list(results) for name, results in found.items()},
        full_scale=(
            "python scripts/reproduce.py paper=stmc seeds=3 sentences=5672 steps=20000 batch_size=16 pose_steps=500"
            " word_steps=2000 learning_rate=1e-3 (the planar hand; the paper's PHOENIX-2014 needs its videos and a GPU)"
        ),
    )


def claims(found: dict[str, tuple[dict[str, Any], ...]], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for the results of each arm by seed."""

    def worse(arm: str) -> tuple[float, ...]:
        pairs = zip(found[arm], found["stmc"], strict=True)
        return tuple(one["curve"][-1] - other["curve"][-1] for one, other in pairs)

    return (
        Claim(statement="WER, full frame minus STMC", margin=numbers.full_bar, figures=worse("full frame")),
        Claim(
            statement="WER, without a taught pose minus STMC", margin=numbers.pose_bar, figures=worse("no taught pose")
        ),
        Claim(
            statement="key points' distance from true ones, share of the width",
            margin=numbers.keypoint_bar,
            figures=tuple(one["keypoints"] for one in found["stmc"]),
            at_least=False,
        ),
        Claim(
            statement="WER, without intra heads minus STMC", margin=numbers.intra_bar, figures=worse("no intra heads")
        ),
        Claim(
            statement="WER in the environment, random actions minus the script",
            margin=numbers.loop_bar,
            figures=tuple(one["loop"]["random"] - one["loop"]["script"] for one in found["stmc"]),
        ),
    )


def learn(
    arm: str,
    seed: int,
    folder: Path,
    *,
    sentences: int,
    test_sentences: int,
    steps: int,
    batch_size: int,
    pose_steps: int,
    word_steps: int,
    learning_rate: float,
    hands: int,
) -> dict[str, Any]:
    """Train one network and read the test videos.

    Returns:
        "curve" (WER in points at equal distances of the training, the first before it), "keypoints" (their error; 0
        where nobody looks for them), "weights", "seconds" of the training's CPU, and STMC's "loop".
    """
    torch.set_num_threads(1)
    config = next(config for name, config in ARMS.items() if NAMES[name] == arm)
    train, test = (
        gesture_videos(count, part, seed, SIGNING) for part, count in (("train", sentences), ("test", test_sentences))
    )
    single = replace(SIGNING, least=1, most=1)
    words = gesture_videos(max(sentences // 3, batch_size), "train", derive_seed(seed, "words"), single)
    model = STMC(VOCABULARY, config, derive_seed(seed, "weights"))
    optimizer = OptimizerConfig(learning_rate=learning_rate)
    taught = pose_steps if config.beta else 0
    curve = [read(model, test)["rate"]]
    at = {round(part * steps / CHECKS) for part in range(1, CHECKS)}

    def stage(name: str, source: Source, loss: Loss, first: int, after: int, schedule: ScheduleConfig) -> None:
        def check(step: int, share: float) -> None:
            if first + step in at:
                at.remove(first + step)
                curve.append(read(model, test)["rate"])

        how = FitConfig(
            steps=after - first, batch_size=batch_size, optimizer=optimizer, schedule=schedule, clip_norm=CLIP
        )
        fit(model, loss, source, how, seed=derive_seed(seed, name), hooks=(check,))

    began = time.process_time()
    if taught:
        stage("pose", train, pose_losses, 0, taught, ScheduleConfig())
    stage("words", words, sentence_losses, taught, taught + word_steps, ScheduleConfig(warmup=WARMUP))
    rest = ScheduleConfig(kind="cosine", warmup=WARMUP)
    stage("sentences", train, sentence_losses, taught + word_steps, steps, rest)
    seconds = time.process_time() - began
    last = read(model, test, beam=config.beam)
    return {
        "curve": [*curve, last["rate"]],
        "keypoints": last["keypoints"],
        "weights": sum(weight.numel() for weight in model.parameters()),
        "seconds": seconds,
        "loop": in_the_loop(model, seed, hands) if arm == "stmc" else {},
    }


@torch.no_grad()
def read(model: STMC, source: Source, beam: int = 0) -> dict[str, float]:
    """Return the WER in points, and the key points' error, over a source."""
    model.eval()
    references, hypotheses, errors = [], [], []
    for index in torch.arange(len(source)).split(50):
        batch = source.examples(index)
        references += [[VOCABULARY[label - 1] for label in row if label] for row in batch["words"].tolist()]
        hypotheses += model.decode(batch["video"], batch["length"], beam)
        keypoints = model.streams(batch["video"], batch["length"]).keypoints if beam else None
        if keypoints is not None:
            errors.append(pose_error(keypoints, batch["keypoints"], batch["length"]))
    found = float(torch.cat(errors).mean()) if errors else 0.0
    model.train()
    return {"rate": 100.0 * word_error_rate(references, hypotheses), "keypoints": found}


def in_the_loop(model: STMC, seed: int, hands: int) -> dict[str, float]:
    """Return the mean WER in points of one episode of each hand, of a script that signs what is asked and of none."""
    limit = 32
    found = {}
    for policy in ("script", "random"):
        env = GestureScore(SigningHand(hands, SIGNING, max_episode_steps=limit), model.eval(), most=SIGNING.most)
        _, info = env.reset(seed=derive_seed(seed, "loop"))
        actions = policy_actions(policy, info["gesture/words"], limit, seed)
        for step in range(limit):
            *_, info = env.step(actions[:, step])
        found[policy] = 100.0 * float(info["gesture/word_error_rate"].mean())
    return found


def policy_actions(policy: str, words: Tensor, limit: int, seed: int) -> Tensor:
    """Return actions (N, limit, J) of a policy for the words (N, L) asked for."""
    sentences = [[label - 1 for label in row if label] for row in words.tolist()]
    wanted = script(sentences, derive_seed(seed, "script"), SIGNING)
    wanted = torch.cat([wanted, wanted[:, -1:].expand(-1, max(0, limit - wanted.shape[1]), -1)], 1)[:, :limit]
    if policy == "script":
        return wanted
    drawn = torch.rand(wanted.shape, generator=torch.Generator().manual_seed(derive_seed(seed, "random")))
    return (2.0 * drawn - 1.0)[:, ::7].repeat_interleave(7, 1)[:, :limit]  # held as long as words are
