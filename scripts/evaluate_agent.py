"""Evaluate a trained agent: ``python scripts/evaluate_agent.py RUN_DIR episodes=20 seed=0``; also ``run=RUN_DIR``.

The last line printed is JSON: mean, std, interval (95 %, of the mean over starts) and interval_kind (how it was made:
docs/statistics.md), returns, lengths; for tasks with goals also success_rate, the share of episodes whose goal is
reached at the last step; failed, the number of episodes that a simulation's failure cut short, which no mean has in it,
and cut, of those that did not end within 100,000 steps, if there are any. The starts are never those of a run's own
learning curve, whatever the seeds: recipes are chosen on curves.
``video=true`` writes the first episode as mp4, ``render=human`` shows it in a window at the task's own pace.
``env.KEY=VALUE`` sets an option of the task for this evaluation alone: ``env.max_obstacles=10`` of the runner.

ACE ensembles of trained members, with no further training: ``run=RUN_A,RUN_B source=runs``, ``run=RUN_DIR
source=snapshots num_members=5``, ``source=mixed``; ``num_actors=`` and ``num_critics=`` choose AxCy.

``pretrained=HalfCheetah video=true`` evaluates an agent that comes along; ``pretrained=list`` names them.

``evaluation=[pruning/l1,quantization/pams] l1.ratio=0.3 pams.bits=8`` changes the policy first and compares it with
what it was: docs/evaluation.md. ``run=FILE.safetensors`` takes such a changed policy again. ``evaluation=attacks/pgd
eps=[0.05,0.1]`` leaves it as it is and attacks what it sees. ``evaluation=quantization/brelu output=int8.onnx`` also
writes the integer network, which check_integers.py looks through.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.assembly import make_evaluation_env, prepare_torch
from agents.loading import PolicyConfig, load_policy
from agents.policy_file import is_policy_file, load_policy_file
from agents.pretrained import store
from agents.subject import JudgeConfig
from envs import VectorEnv
from envs.visible import visible
from envs.window import Window
from rlsuite.cli import command, positional
from rlsuite.config.build import build
from rlsuite.config.compose import parse, plain_values, script_config
from rlsuite.config.schema import TrainConfig
from rlsuite.errors import require, require_threads
from rlsuite.records.files import require_inside, require_writable
from rlsuite.records.json_text import to_json
from rlsuite.records.video import VideoWriter
from rlsuite.running.seeding import JUDGED_ON, derive_seed
from rlsuite.scoring import Evaluation, cut_note, evaluate
from rlsuite.statistics.digits import shown
from rlsuite.statistics.means import NONE
from scripts import attacking, judging


@dataclass(frozen=True, kw_only=True)
class EvaluateScriptConfig(PolicyConfig):
    """How it is evaluated.

    Attributes:
        episodes: episodes, one environment each, all from the same seed tree.
        seed: of the episodes' starts, from another branch of the seed tree than any run's own evaluations.
        video: write the first episode as mp4.
        render: "human" shows the first episode in a window, where there is a display; Esc closes it.
        output: where the video goes; default <run>/videos/step<step>-seed<seed>.mp4. With evaluation= ending in an
            integer network (quantization/brelu), an ONNX file of it.
        num_threads: threads of simulator and torch; 0 takes all cores.
        states: with evaluation=, states visited and labelled for each round of learning.
        history: with evaluation=search/..., a folder where the search keeps what it has done: killed, the same command
            goes on from there. "" keeps nothing.
    """

    episodes: int = 20
    seed: int = 0
    video: bool = False
    render: str = ""
    output: str = ""
    num_threads: int = 0
    states: int = JudgeConfig.states
    history: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.episodes >= 1, f"episodes={self.episodes}: use 1 or more")
        require(self.render in ("", "human"), f"render={self.render}: use human, or leave it out")
        require(self.states >= 1, f"states={self.states}: use 1 or more")
        require_threads(self.num_threads)
        require(
            not self.output or self.video or self.output.endswith(".onnx"),
            f"output={self.output}: only the video is written to a file; add video=true",
        )
        require(
            not (self.output and self.video) or self.output.lower().endswith(".mp4"),
            f"output={self.output}: the video is an mp4; use a name such as output=film.mp4",
        )
        require(self.seed >= 0, f"seed={self.seed}: use 0 or more")


def _come_along() -> str:
    return "\n".join(["agents that come along:", *(f"  pretrained={line}" for line in store.summaries())])


@command(EvaluateScriptConfig, more=_come_along)
def main(arguments: list[str]) -> int:
    """Evaluate and print."""
    arguments = positional(arguments, "run")
    if any(argument.partition("=")[0] == judging.KEY for argument in arguments):
        return judge_policy(arguments)
    arguments, options = options_apart(arguments)
    script = script_config(EvaluateScriptConfig, arguments)
    if script.pretrained == "list":
        print("\n".join(store.summaries()))
        return 0
    require(
        script.video or not script.output,
        f"output={script.output}: an ONNX file is written of integer networks; add evaluation=quantization/brelu",
    )
    if script.run and is_policy_file(script.run[0]):
        require(not options, f"env.{next(iter(options), '')}=: a policy file is judged in its own task; leave it out")
        return evaluate_file(script)
    agent, config, checkpoint = load_policy(script)
    path = _video_path(script, checkpoint) if script.video else None
    if path is not None:
        require_writable(path)
    prepare_torch(dataclasses.replace(config, num_threads=script.num_threads))
    render_mode = "rgb_array" if script.video or script.render else None
    keys = {"num_threads": script.num_threads, "render_mode": render_mode}
    env = make_evaluation_env(config, script.episodes, options=options, **keys)
    require_same_spaces(config, env, options)

    def policy(observation: torch.Tensor) -> torch.Tensor:
        return agent.act(observation, False)

    rate = env.metadata.get("render_fps", 30)
    watchers: list[Callable[[np.ndarray], None]] = []
    with contextlib.ExitStack() as stack:
        if script.render:
            window = Window(f"{config.env.name}, step {checkpoint.name}", rate)
            watchers.append(stack.enter_context(contextlib.closing(window)).show)
        if path is not None:
            watchers.append(stack.enter_context(VideoWriter(path, frames_per_second=rate)).add)

        def show(frame: np.ndarray) -> None:
            for watch in watchers:
                watch(frame)

        if path is not None:
            print(f"filming the first of {script.episodes} episodes", flush=True)
        seed, on_frame = derive_seed(script.seed, JUDGED_ON), show if watchers else None
        result = evaluate(policy, env, seed=seed, on_frame=on_frame, count_only=agent.count_only)
    if path is not None:
        print(f"video: {path}")
    for failure in env.failures:
        print(f"failed: {failure.message}", file=sys.stderr)
    if result.cut:
        print(cut_note(result), file=sys.stderr)
    env.close()
    chosen = agent.diagnostics().get("chosen_actor")
    if chosen is not None:
        counts = torch.bincount(chosen)
        print("chosen actor, share: " + " ".join(f"{share:.3f}" for share in (counts / counts.sum()).tolist()))
    report(result, config.env.full_id)
    return 0


def options_apart(arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Return the arguments that are not env.KEY=VALUE, and those that are, by KEY."""
    others = [argument for argument in arguments if not argument.startswith("env.")]
    chosen = [argument for argument in arguments if argument.startswith("env.")]
    options = {}
    for override in parse(chosen):
        require(not override.is_sweep_override(), f"{override.input_line}: one evaluation takes one value")
        options[override.key_or_group.removeprefix("env.")] = override.value()
    return others, options


def require_same_spaces(config: TrainConfig, env: VectorEnv, options: dict[str, Any]) -> None:
    """Raise UserError where options change what the policy sees or what its actions are."""
    if not options:
        return
    with contextlib.closing(make_evaluation_env(config, 1)) as own:
        same = (own.single_observation_space, own.single_action_space) == (
            env.single_observation_space,
            env.single_action_space,
        )
    names = " ".join(f"env.{name}=" for name in options)
    require(same, f"{names}: the policy was trained on other observations or actions; leave it out")


def _video_path(script: EvaluateScriptConfig, checkpoint: Path) -> Path:
    """Return where the film goes."""
    if script.output:
        return Path(script.output)
    run = checkpoint.parent.parent
    path = run / "videos" / f"step{checkpoint.name}-seed{script.seed}.mp4"
    require_inside(path, run)
    return path


def report(result: Evaluation, name: str) -> None:
    """Print what was scored, and its JSON as the last line."""
    number = len(result.returns)
    require(result.failed < number, f"the simulation failed in every one of {number} episodes: there is no return")
    summary, (low, high, kind) = result.summary(), result.interval()
    reached = f", success {summary['success_rate']:.3f}" if "success_rate" in summary else ""
    cut = f"; {result.failed} more failed and are in no mean" if result.failed else ""
    interval = f" ({kind})" if kind == NONE else f" [{shown(low)}, {shown(high)}] (95 %, {kind})"
    print(f"{name}: {shown(result.mean)}{interval} over {number - result.failed} episodes{reached}{cut}")
    print(to_json(summary))


def judge_policy(arguments: list[str]) -> int:
    """Change the policy as evaluation= says, and compare."""
    methods, rest = judging.split_arguments(plain_values(arguments))
    if attacking.are_attacks(methods):
        require("output" not in rest, "attacks write no file; leave out output=")
        return attacking.attack_policy(methods, rest)
    script: EvaluateScriptConfig = build(EvaluateScriptConfig, rest)
    require(not script.video, "evaluation= writes no video; leave out video=")
    require(not script.render, "evaluation= shows no pictures; leave out render=")
    judged = JudgeConfig(episodes=script.episodes, states=script.states, num_threads=script.num_threads)
    return judging.judge(methods, script, judged, script.seed, script.output, script.history)


def evaluate_file(script: EvaluateScriptConfig) -> int:
    """Evaluate the policy of a file in the task it is for."""
    require(not script.video, "video=true is for run directories; leave it out")
    require(not script.render, "render=human is for run directories; leave it out")
    found = load_policy_file(script.run[0], device="cpu", imports=script.imports)
    prepare_torch(dataclasses.replace(found.config, num_threads=script.num_threads))
    env = visible(make_evaluation_env(found.config, script.episodes, num_threads=script.num_threads, device="cpu"))
    result = evaluate(found.act, env, seed=derive_seed(script.seed, JUDGED_ON))
    env.close()
    report(result, found.config.env.full_id)
    return 0


if __name__ == "__main__":
    sys.exit(main())
