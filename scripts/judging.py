"""What ``evaluate_agent.py evaluation=[...]`` does: before, control and after in one table.

Every transform is applied to the agent's policy in the order given. The control is the same policy after the same
learning with nothing else done to it. Written to RUN/evaluations/<names>/: report.json, report.md and
policy.safetensors, which run= takes again; a second evaluation of the same name gets a number.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from agents.assembly import make_evaluation_env, prepare_torch
from agents.loading import PolicyConfig, load_policy
from agents.plain import Teacher, plain_policy
from agents.policy_file import is_policy_file, load_policy_file, save_policy
from agents.subject import JudgeConfig, policy_subject
from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.latency import measure_latency
from envs.evaluation.policy_task import PolicyTask
from envs.evaluation.probes import itemize_bytes, measure_size
from envs.evaluation.quantization.integer_onnx import onnx_session, run_onnx
from envs.evaluation.recipe import load_network, same_bits
from envs.evaluation.report import Report, Row
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, Transform, apply, check_traits, teach
from rlsuite.cli import as_started, typed
from rlsuite.config.imports import trusted_arguments
from rlsuite.config.schema import TrainConfig
from rlsuite.errors import UserError, require
from rlsuite.extras import require_extras
from rlsuite.methods import Method, choose, split_numbers
from rlsuite.records.files import new_folder, require_writable
from rlsuite.records.json_text import to_json
from rlsuite.running.seeding import JUDGED_ON, derive_seed

KEY = "evaluation"


def split_arguments(values: Mapping[str, Any]) -> tuple[tuple[Method, ...], dict[str, Any]]:
    """Return the methods that evaluation= names, with their numbers, and the arguments that are left.

    Raises:
        UserError: for an unknown method or number.
    """
    named = values.get(KEY, [])
    names = [str(name) for name in (named if isinstance(named, list | tuple) else [named])]
    require(bool(names), "evaluation=[]: name a method, such as evaluation=quantization/pams")
    own, rest = split_numbers(values, EVALUATIONS)
    return choose(EVALUATIONS, names, own), {key: value for key, value in rest.items() if key != KEY}


def judge(
    methods: Sequence[Method],
    script: PolicyConfig,
    judging: JudgeConfig,
    seed: int,
    output: str = "",
    history: str = "",
) -> int:
    """Apply the transforms to the policy, score all, write and print the report.

    Args:
        methods: the transforms, in their order.
        script: whose policy it is.
        judging: how it is judged.
        seed: of episodes and of learning.
        output: an ONNX file for what the last transform leaves of whole numbers alone; "" for none.
        history: a folder where searches keep what they have done; "" for none.

    Raises:
        UserError: if the policy is not such as a method needs; before anything is learned.
    """
    for method in methods:
        require(issubclass(method.kind, Transform), f"{method.name} is no transform; name transforms alone here")
    if output:
        whole = "integer" in methods[-1].kind.gives
        require(whole, f"output={output}: ONNX is written of integer networks; end with evaluation=quantization/brelu")
        require_extras("output=", "onnx", "onnxruntime")
        require_writable(Path(output))
    branch = branch_of(seed)
    subject, config, folder = load_subject(script, judging, TeachConfig(), branch, [methods])
    control = control_of(subject, [method.config.teach for method in methods], branch)
    after = applied(methods, subject, branch, history)
    rows = tuple(
        row_of(name, one, seed, methods)
        for name, one in {"before": subject, "control": control, "after": after}.items()
    )
    own, said = agents_own(subject, seed)
    out = own_folder(folder / "evaluations", "+".join(method.short_name for method in methods))
    title = f"{' and '.join(method.name for method in methods)} on {config.env.full_id}"
    report = Report(title, after.task.unit, after.task.floor, (*rows, *own), notes=(said, *notes(after)))
    report.write(out)
    save_policy(out / "policy.safetensors", after.module, after.base, after.recipe, config, {"report": report.plain()})
    check_file(out / "policy.safetensors", after)
    if output:
        write_integers(Path(output), after)
    print(report.markdown())
    policy = typed(out / "policy.safetensors") + trusted_arguments(config)
    print(as_started(f"written to {out}; evaluate the policy with: python scripts/evaluate_agent.py run={policy}"))
    print(to_json(report.plain()))
    return 0


def branch_of(seed: int) -> int:
    """Return the seed of all that is learned, from the one that is typed."""
    return derive_seed(seed, f"{JUDGED_ON} transforms")


def control_of(subject: Subject, teachings: Sequence[TeachConfig], branch: int) -> Subject:
    """Return the subject after the same learning, one after another, with nothing else done to it."""
    control = dataclasses.replace(subject, module=subject.copy())
    for number, teaching in enumerate(teachings):
        teach(control, teaching, derive_seed(branch, f"control {number}" if number else "control"))
    return control


def applied(methods: Sequence[Method], subject: Subject, branch: int, history: str = "") -> Subject:
    """Return the subject after the transforms, one after another; searches keep what they tried under `history`."""
    for number, method in enumerate(methods):
        print(f"{method.name} ...", flush=True)
        kept = Path(history) / method.short_name if history else None
        subject = apply(method, subject, derive_seed(branch, f"step {number}"), kept)
    return subject


def row_of(name: str, subject: Subject, seed: int, methods: Sequence[Method] = ()) -> Row:
    """Return a subject's row in a report: scores, size, milliseconds, and what these methods ask of it."""
    costs = {**measure_size(subject), **measure_latency(subject.module, subject.example)}
    for method in methods:
        costs |= method.build().figures(subject)
    return Row(name, subject.task.score(subject.module, seed), costs)


def load_subject(
    script: PolicyConfig,
    judging: JudgeConfig,
    teaching: TeachConfig,
    seed: int,
    pipelines: Sequence[Sequence[Method]] = (),
) -> tuple[Subject, TrainConfig, Path]:
    """Return the policy of a run directory or file as a subject, its run's config, and the folder to write to.

    Raises:
        UserError: if there is none, or one of the pipelines of methods will refuse it: before anything is learned.
    """

    def examine(subject: Subject) -> None:
        for methods in pipelines:
            check_traits(methods, subject.traits)
            for method in methods:
                method.build().examine(subject)

    if not script.run or not is_policy_file(script.run[0]):
        agent, config, checkpoint = load_policy(script)
        prepare_torch(dataclasses.replace(config, num_threads=judging.num_threads))
        subject = policy_subject(agent, config, judging, teaching, seed, examine=examine)
        return subject, config, checkpoint.parent.parent
    path = Path(script.run[0])
    found = load_policy_file(path, device=script.device, imports=script.imports)
    prepare_torch(dataclasses.replace(found.config, num_threads=judging.num_threads))
    make_env = functools.partial(make_evaluation_env, found.config, num_threads=judging.num_threads, device="cpu")
    teacher = copy.deepcopy(found.module)  # it learns no more; the subject's copies do
    task = PolicyTask(make_env, teacher, episodes=judging.episodes, states=judging.states, seed=seed)
    example = task.source("test").tensors["input"][:1].clone()
    given = frozenset(trait for method in from_recipe(found.recipe) for trait in method.kind.gives)
    subject = Subject(found.module, example, task, found.base, found.recipe, given | {"policy"})
    examine(subject)
    return subject, found.config, path.parent


def from_recipe(recipe: Sequence[Any]) -> tuple[Method, ...]:
    """Return the methods of a recipe."""
    return choose(EVALUATIONS, [step.name for step in recipe]) if recipe else ()


def own_folder(root: Path, name: str) -> Path:
    """Return a new folder: `name`, or with a number behind it where that is taken. Nothing is ever overwritten."""
    try:
        return new_folder(root / name)
    except OSError as error:
        raise UserError(f"{root / name}: cannot be written ({error.strerror}); evaluate a copy of the run") from None


def agents_own(subject: Subject, seed: int) -> tuple[tuple[Row, ...], str]:
    """Return the agent's own row where "before" is a network that it taught, and a sentence of what "before" is."""
    teacher = subject.task.teacher if isinstance(subject.task, PolicyTask) else None
    if not isinstance(teacher, Teacher):
        return (), "before: the policy of the file."
    plain = plain_policy(teacher.agent)
    if plain.exact:
        return (), f"before: {plain.origin}."
    said = f"before: {plain.origin}; agent: what the agent itself earns."
    return (Row("agent", subject.task.score(teacher, seed)),), said


def notes(subject: Subject) -> tuple[str, ...]:
    """Return sentences that belong under every table."""
    shares = "kept: (return - random actions') / (before's - random actions')."
    spent = ", ".join(f"{count:,} {kind}" for kind, count in itemize_bytes(subject).items())
    return (
        shares,
        "control: the same learning, nothing else done.",
        f"bytes of the last row's file: {spent}.",
        f"one example, one thread: {backend()}.",
        *lacking(),
    )


def lacking() -> tuple[str, ...]:
    """Return a sentence about the packages without which a report has fewer columns, if they are absent."""
    there = find_spec("onnxruntime") is not None and find_spec("onnxscript") is not None
    return () if there else ("no row of onnxruntime, which is not installed: pip install 'rlsuite[export]'.",)


def backend() -> str:
    """Return what milliseconds are of."""
    return f"torch {torch.__version__} on {'CUDA' if torch.cuda.is_available() else 'CPU'}"


@torch.no_grad()
def write_integers(path: Path, subject: Subject) -> None:
    """Write an integer network as ONNX, and raise RuntimeError unless onnxruntime gives its bytes on test states."""
    model: Any = subject.module
    model.write_onnx(path)
    source = subject.task.source("test")
    numbers = model.enter(source.examples(torch.arange(min(1000, len(source))))["input"])
    if not np.array_equal(run_onnx(onnx_session(path.read_bytes()), numbers.numpy()), model.network(numbers).numpy()):
        raise RuntimeError(f"{path} does not give in onnxruntime what it gives here")
    print(as_started(f"written to {path}; check it with: python scripts/check_integers.py {typed(path)}"))


@torch.no_grad()
def check_file(path: Path, subject: Subject) -> None:
    """Raise RuntimeError unless the written policy gives the same bits on the states of the test."""
    module: nn.Module = load_network(path)[0]
    states = subject.task.source("test").examples(torch.arange(min(1000, len(subject.task.source("test")))))["input"]
    if not same_bits(module(states), subject.module(states)):
        raise RuntimeError(f"{path} does not give the actions it was saved with")
