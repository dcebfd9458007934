"""Judge what the searches are for, each use once and small: ``python scripts/judge_searches.py``.

On Reacher, whose episodes are short, TD3 learns first. Then encoders of pictures that searches found imitate it, its
own layers are made smaller, critics are chosen by a predictor and trained online, and on a floor of discs a policy
sweeps by a camera's count. Every use is a job that is kept in folder=, so a stopped command goes on. Written are
output= and, with document=true, the table in page=.

The last line printed is JSON.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import envs  # noqa: F401
from rlsuite.cli import command
from rlsuite.config.compose import script_config
from rlsuite.errors import require
from rlsuite.experiment.jobs import Jobs
from rlsuite.experiment.results import commit, write_whole
from rlsuite.records.files import require_writable
from rlsuite.records.json_text import to_json
from rlsuite.records.pages import put_between
from rlsuite.statistics.digits import bracketed
from rlsuite.statistics.means import mean_interval
from scripts.experiments.searched_critics import judge_run, search_critics
from scripts.experiments.searched_encoders import ACTORS, ENCODERS, EPS, judge_actor, judge_encoder, mean
from scripts.experiments.sweeping import count_and_sweep
from scripts.experiments.training_runs import train_all

USES = ("encoders", "actors", "critics", "counts")
MARKS = ("<!-- uses, by scripts/judge_searches.py -->", "<!-- end of uses -->")


@dataclass(frozen=True, kw_only=True)
class JudgeSearchesConfig:
    """How much is learned, and where it is kept.

    Attributes:
        teacher_steps: of TD3 on Reacher, the teacher's and those with other critics.
        size: pixels a side of what encoders see.
        states: pictures, or states, of each of two rounds.
        steps: minibatches of each round.
        search: epochs of shared weights, about.
        labels: codes of critics that learn.
        critic_steps: minibatches of each.
        pictures: of discs to learn from.
        search_epochs: of the search for a counting network.
        epochs: of its learning anew.
        episodes: that everything is scored in.
        seed: of everything.
        parallel: jobs at a time; 0: in this process.
        folder: where jobs are kept.
        output: the figures.
        page: the page whose table is written.
        document: write it.
    """

    teacher_steps: int = 8000
    size: int = 24
    states: int = 800
    steps: int = 150
    search: int = 10
    labels: int = 16
    critic_steps: int = 200
    pictures: int = 200
    search_epochs: int = 4
    epochs: int = 10
    episodes: int = 20
    seed: int = 0
    parallel: int = 1
    folder: str = "runs/searched"
    output: str = "docs/results/searched_uses.json"
    page: str = "docs/evaluation.md"
    document: bool = False

    def __post_init__(self) -> None:
        for name in ("states", "steps", "search", "critic_steps", "search_epochs", "epochs", "episodes"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.teacher_steps >= 2000, f"teacher_steps={self.teacher_steps}: use 2000 or more")
        require(self.labels >= 5, f"labels={self.labels}: use 5 or more")
        require(self.pictures >= 16, f"pictures={self.pictures}: use 16 or more")
        require(self.size >= 8, f"size={self.size}: use 8 or more")
        require(self.parallel >= 0, f"parallel={self.parallel}: use 0 (in this process) or more")
        require(self.seed >= 0, f"seed={self.seed}: use 0 or more")


@command(JudgeSearchesConfig)
def main(arguments: list[str]) -> int:
    """Train, search, judge, and write."""
    config: JudgeSearchesConfig = script_config(JudgeSearchesConfig, arguments)
    require_writable(Path(config.output))
    found = {
        "config": vars(config),
        "commit": commit(),
        "rows": judged(config, Jobs(Path(config.folder), config.parallel)),
    }
    found["machine"] = f"{platform.machine()}, {platform.processor() or platform.system()}"
    write_whole(Path(config.output), to_json(found, indent=1) + "\n")
    lines = table(found["rows"])
    print("\n".join(lines))
    if config.document:
        put_between(Path(config.page), MARKS, "\n".join(["", *lines, ""]))
    print(to_json({"output": config.output, "rows": len(found["rows"])}))
    return 0


def judged(config: JudgeSearchesConfig, jobs: Jobs) -> list[dict[str, Any]]:
    """Run all uses; return the table's rows."""
    run = str(train_all({"teacher": training(config)}, jobs)["teacher"])
    seeds = (config.seed,)
    seen = {"run": run, "size": config.size, "states": config.states, "steps": config.steps, "search": config.search}
    seen["episodes"] = config.episodes
    encoders = jobs.grid(judge_encoder, arms=ENCODERS, seeds=seeds, **seen)
    actors = jobs.grid(judge_actor, arms=ACTORS, seeds=seeds, **seen)
    (critics,) = jobs.grid(
        search_critics, arms=("critics",), seeds=seeds, run=run, labels=config.labels, steps=config.critic_steps
    )["critics"]
    (counts,) = jobs.grid(
        count_and_sweep,
        arms=("sweeping",),
        seeds=seeds,
        pictures=config.pictures,
        search_epochs=config.search_epochs,
        epochs=config.epochs,
        episodes=config.episodes,
    )["sweeping"]
    own = actors["actor"][0]
    rows = [row("actor", "the teacher's layers", own, own)]
    rows += [row("actor", "`atomnas`", actors["atomnas"][0], own)]
    rows += [row("encoder", arm if arm.startswith("conv") else f"`{arm}`", encoders[arm][0], own) for arm in ENCODERS]
    others = {name: each for name, each in critics["critics"].items() if name != "own"}  # the teacher has its own
    runs = {f"critic-{name}": [*training(config), *each["arguments"]] for name, each in others.items()}
    folders = {"critic-own": run, **train_all(runs, jobs)}
    for name, each in critics["critics"].items():
        scores = judge_run(str(folders[f"critic-{name}"]), config.episodes, config.seed)
        said = {"chosen": "`ncp`", "own": "the agent's own", "smallest": "the smallest"}[name]
        words = ", ".join(argument.removeprefix("agent.critic.") for argument in each["arguments"])
        rows.append(row("critic", f"{said}: {words}", {**each, "scores": scores, "floor": own["floor"]}, own))
        rows[-1] |= {"error": each["error"], "tau": critics["tau"]}
    for name, said in (("true", "true counts"), ("count", "`nas_count`"), ("random", "no counts")):
        costs = counts if name == "count" else {}
        base = {"scores": counts["scores"]["true"], "floor": 0.0}
        rows.append(row("sweeping", said, {**costs, "scores": counts["scores"][name], "floor": 0.0}, base))
    return rows


def training(config: JudgeSearchesConfig) -> list[str]:
    """Return the arguments of the teacher's training."""
    found = ["agent=td3", "env=Reacher", f"steps={config.teacher_steps}", "learning_starts=1000", "num_threads=1"]
    return [*found, "device=cpu", f"seed={config.seed}"]


def row(use: str, network: str, found: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row: mean return with its interval, the share kept of `whole`'s over the floor, and costs."""
    floor = found["floor"]
    kept = (mean(found["scores"]) - floor) / (mean(whole["scores"]) - floor)
    return {
        "use": use,
        "network": network,
        "return": mean(found["scores"]),
        "interval": mean_interval(found["scores"]).ends,
        "kept": kept,
        "attacked": {key: mean(found[key]) for key in found if key.startswith("eps ")},
        **{key: value for key, value in found.items() if not key.startswith("eps ")},
    }


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the rows as Markdown."""
    head = ["use", "network", "return [95 %]", "kept", f"attacked, eps {EPS:.3f} / {2 * EPS:.3f}", "MACs (of 1 bit)"]
    head += ["bytes", "ms torch / onnxruntime", "CPU s"]
    lines = [line(head), line(["---"] * len(head))]
    for each in rows:
        low, high = each["interval"]
        one_bit = each.get("one_bit_macs", 0.0)
        macs = f"{each['macs']:,.0f}" + (f" ({one_bit:,.0f})" if one_bit else "") if "macs" in each else ""
        times = [each.get(f"milliseconds/{backend}") for backend in ("torch", "onnxruntime")]
        cells = [
            each["use"],
            each["network"],
            f"{each['return']:.2f}{bracketed(low, high, '.2f')}",
            f"{each['kept']:.2f}",
            " / ".join(f"{value:.2f}" for value in each["attacked"].values()),
            macs,
            f"{each['bytes']:,.0f}" if "bytes" in each else "",
            " / ".join("-" if value is None else f"{value:.3f}" for value in times) if times[0] is not None else "",
            f"{each['seconds']:.0f}" if "seconds" in each else "",
        ]
        lines.append(line(cells))
    return lines


def line(cells: Sequence[str]) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
