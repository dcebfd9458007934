"""What ``evaluate_agent.py evaluation=attacks/pgd`` does: what a policy earns while its observations are attacked.

Noise of the same size and FGSM always stand beside the attacks named. eps is in standard deviations of the normalized
observation. Written to RUN/evaluations/<names>/: report.json with every return and the flags that say whether the
figures are to be trusted, report.md, and curve.png.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.loading import PolicyConfig
from agents.plain import Teacher, largest_difference
from agents.subject import JudgeConfig
from envs.evaluation.attacks.attack import Attack, averaged
from envs.evaluation.attacks.flags import Flag, is_random, masking_flags
from envs.evaluation.attacks.observation import (
    AttackedObservation,
    ObjectiveAt,
    action_change,
    feature_units,
    lost_value,
    on_pictures,
    on_states,
)
from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.policy_task import PolicyTask
from envs.evaluation.report import Report, Row
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, check_traits
from rlsuite.config.build import build
from rlsuite.errors import UserError, require, require_choice, require_threads
from rlsuite.extras import import_extra, require_extras
from rlsuite.methods import Method, choose
from rlsuite.records.json_text import to_json
from rlsuite.running.seeding import JUDGED_ON, derive_seed
from scripts import judging

BESIDE = ("attacks/noise", "attacks/fgsm")
OBJECTIVES = ("auto", "action", "value")
UNBOUNDED = 10.0  # standard deviations: more than any state is away from the mean
SAME = 1e-3  # actions that differ by less are the agent's own
DRAWS = 8  # over which the objective of a policy that draws random numbers is averaged


@dataclass(frozen=True, kw_only=True)
class AttackScriptConfig(PolicyConfig):
    """How a policy is attacked.

    Attributes:
        episodes: for each point of the curve, all from the same seed tree.
        seed: of the episodes' starts and of the attacks' draws.
        num_threads: threads of simulator and torch; 0 takes all cores.
        eps: how far any feature of an observation moves at most, in standard deviations; rising.
        objective: value (lower what the agent's critics expect), action (move the action as far as possible), or auto:
            value where the agent has critics. A large change of the action need not be a costly one.
    """

    episodes: int = 20
    seed: int = 0
    num_threads: int = 0
    eps: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.3)
    objective: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.episodes >= 1, f"episodes={self.episodes}: use 1 or more")
        require(self.seed >= 0, f"seed={self.seed}: use 0 or more")
        require_threads(self.num_threads)
        rising = all(one < other for one, other in zip(self.eps, self.eps[1:], strict=False))
        said = f"eps={list(self.eps)}: use rising numbers above 0, such as eps=[0.05,0.1]"
        require(bool(self.eps) and self.eps[0] > 0 and rising, said)
        require_choice("objective", self.objective, OBJECTIVES)


def are_attacks(methods: Sequence[Method]) -> bool:
    """Return whether all methods are attacks."""
    return all(issubclass(method.kind, Attack) for method in methods)


def attack_policy(methods: Sequence[Method], rest: Mapping[str, Any]) -> int:
    """Attack the policy, write and print what it earned.

    Args:
        methods: attacks.
        rest: the command line's other keys.

    Raises:
        UserError: if the policy is not such as an attack needs.
    """
    script: AttackScriptConfig = build(AttackScriptConfig, rest)
    require_extras("the curve of attacks/...", "matplotlib")
    names = [method.name for method in methods]
    beside = choose(EVALUATIONS, [name for name in BESIDE if name not in names])
    arms = {method.short_name: method for method in (*beside, *methods)}
    judged = JudgeConfig(episodes=script.episodes, num_threads=script.num_threads)
    branch = derive_seed(script.seed, f"{JUDGED_ON} attacks")
    subject, config, folder = judging.load_subject(script, judged, TeachConfig(), branch)
    check_traits(methods, subject.traits)
    task = subject.task
    assert isinstance(task, PolicyTask)
    curve = Curve(subject, task, script)
    clean = task.score(subject.module, script.seed)
    rows = [Row("no attack", clean)]
    for name, method in arms.items():
        for eps in script.eps:
            print(f"{name}, eps {eps:g} ...", flush=True)
            rows.append(Row(f"{name} {eps:g}", curve.returns(method, eps), {"eps": eps}))
    flags = curve.flags(arms, {row.name: row for row in rows})
    out = judging.own_folder(folder / "evaluations", "+".join(method.short_name for method in methods))
    notes = (curve.note, *(f"{'FLAG' if flag.raised else 'ok'}: {flag.name} ({flag.says})." for flag in flags))
    title = f"{' and '.join(names)} on {config.env.full_id}"
    report = Report(title, task.unit, task.floor, tuple(rows), notes=notes)
    more = {
        "eps": list(script.eps),
        "objective": curve.aim,
        "unit_of_eps": "standard deviations" if curve.of_states else "share of the pictures' range",
        "curve": {name: [float(row.scores.mean()) for row in rows if row.name.startswith(f"{name} ")] for name in arms},
        "flags": [asdict(flag) for flag in flags],
    }
    plain = report.plain() | more
    report.write(out, more)
    draw(out / "curve.png", title, script.eps, plain, curve.unit)
    print(report.markdown())
    print(f"written to {out}")
    print(to_json(plain))
    return 0


class Curve:
    """A policy's returns under attacks.

    Args:
        subject: the policy.
        task: its own.
        script: how it is attacked.

    Raises:
        UserError: if its agent has no critics and objective=value asks for them.
    """

    def __init__(self, subject: Subject, task: PolicyTask, script: AttackScriptConfig) -> None:
        self.policy, self.task, self.script = subject.module, task, script
        states = task.source("test").examples(torch.arange(min(1000, len(task.source("test")))))["input"]
        self.of_states = states.dim() == 2
        self.feature_units = feature_units(self.policy, states) if self.of_states else torch.ones(())
        self.random = is_random(self.policy, states)
        self.apart = largest_difference(self.policy, task.teacher, states)
        critics = isinstance(task.teacher, Teacher) and task.teacher.has_values
        self.aim = ("value" if critics else "action") if script.objective == "auto" else script.objective
        self.objective = self._objective()

    def _objective(self) -> ObjectiveAt:
        if self.aim == "value":
            teacher = self.task.teacher
            if not (isinstance(teacher, Teacher) and teacher.has_values):
                raise UserError("objective=value: there are no critics to ask; use objective=action")
            at = lost_value(self.policy, teacher.value)
        else:
            at = action_change(self.policy, self.task.half_range)
        return (lambda observation: averaged(at(observation), DRAWS)) if self.random else at

    @property
    def unit(self) -> str:
        """What eps is of."""
        return "eps, standard deviations of the observation" if self.of_states else "eps, share of the pictures' range"

    @property
    def note(self) -> str:
        """A sentence about the attacks."""
        wanted = "a large change of the action" if self.aim == "action" else "a low value by the critics"
        shares = "kept: (return - random actions') / (no attack's - theirs)."
        said = f"{self.unit}; the attacks look for {wanted}. {shares}"
        if self.apart < SAME:
            return said
        return f"{said} Attacked is a plain network that the agent taught; their actions differ by {self.apart:.3g}."

    def returns(self, method: Method, eps: float) -> np.ndarray:
        """Return what the policy earns (E,) under an attack."""
        attack: Attack = method.build()
        if self.of_states:
            perturb = on_states(attack, self.objective, eps, self.feature_units)
        else:
            perturb = on_pictures(attack, self.objective, eps)
        return self.task.score(
            self.policy, self.script.seed, seen=lambda env: AttackedObservation(env, perturb, seed=self.script.seed)
        )

    def flags(self, arms: Mapping[str, Method], rows: Mapping[str, Row]) -> tuple[Flag, ...]:
        """Return whether the figures are to be trusted; success is the share of the return that is lost."""
        clean = float(rows["no attack"].scores.mean())
        whole = clean - self.task.floor

        def lost(returns: np.ndarray) -> float:
            return (clean - float(returns.mean())) / whole if whole else float("nan")

        eps = self.script.eps
        success = {name: [lost(rows[f"{name} {one:g}"].scores) for one in eps] for name in arms}
        white = [name for name, method in arms.items() if method.build().white_box]
        strongest = arms[white[-1]]
        more = None
        if hasattr(strongest.config, "steps"):
            doubled = replace(strongest, config=replace(strongest.config, steps=2 * strongest.config.steps))
            more = (success[white[-1]][-1], lost(self.returns(doubled, eps[-1])))
        return masking_flags(
            eps,
            success,
            black_box=[name for name in arms if name not in white],
            white_box=white,
            more_steps=more,
            unbounded=lost(self.returns(strongest, UNBOUNDED if self.of_states else 1.0)),
            averaged_draws=DRAWS,
            random=self.random,
            tolerance=0.05,
        )


def draw(path: Path, title: str, eps: Sequence[float], plain: Mapping[str, Any], unit: str) -> None:
    """Draw mean returns over eps, with 95 % intervals of the mean over starts, and what random actions earn."""
    import_extra("matplotlib", "the curve of attacks/...").use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6.0, 4.0))
    rows = plain["rows"]
    for name in plain["curve"]:
        points = [rows["no attack"], *(rows[f"{name} {one:g}"] for one in eps)]
        places = [0.0, *eps]
        axis.plot(places, [point["score"] for point in points], marker="o", label=name)
        low, high = zip(*(point["interval"] for point in points), strict=True)
        if None not in (*low, *high):  # one episode has no interval
            axis.fill_between(places, low, high, alpha=0.15, linewidth=0)
    axis.axhline(plain["floor"], color="gray", linestyle=":", label="random actions")
    axis.set(xlabel=unit, ylabel=f"mean {plain['unit']}, 95 %")
    axis.set_title(title, parse_math=False, fontsize=9)
    axis.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
