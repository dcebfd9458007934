"""What policies still earn at fewer and fewer bits, in one table: ``python scripts/compare_bits.py runs=[RUN,RUN]``.

Each row is what ``evaluate_agent.py run=RUN evaluation=...`` gives of the same numbers, to the last digit; the policy
as it is and the control (the same learning, nothing else done) are judged once for all. Rows end with the weights'
bits between the first and the last layer, which SAT keeps at 8 and others as floats. With peers=true other libraries'
int8 stands beside them, where these are installed.

The last line printed is JSON; output= keeps it, and table=FILE prints the table of such a file again. page=FILE puts it
between that page's two marks as well, which is how docs/evaluation.md has its table.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from agents.loading import PolicyConfig
from agents.subject import JudgeConfig
from envs.evaluation.quantization.swapping import few_bits_teaching
from envs.evaluation.report import Report, Row
from envs.evaluation.transform import TeachConfig
from rlsuite.cli import command
from rlsuite.config.compose import plain_values, script_config
from rlsuite.errors import UserError, require, require_threads
from rlsuite.experiment.results import commit
from rlsuite.records.files import require_writable, write_atomically
from rlsuite.records.json_text import to_json
from rlsuite.records.pages import put_between
from rlsuite.statistics.digits import bracketed
from scripts import judging
from scripts.bit_peers import peers_at_hand

ADAM = ("optimizer.name=adam", "optimizer.learning_rate=1e-3", "optimizer.weight_decay=0")
ROUNDS = 2
MARKS = ("<!-- bits -->", "<!-- end of bits -->")


class Way(NamedTuple):
    """A way to fewer bits.

    Attributes:
        weights: bits of weights between the first and the last layer.
        inputs: bits of what these layers take in.
        method: of the catalogue.
        numbers: that differ from the method's own, "key=value"; those of an optimizer without "teach.fit.".
    """

    weights: int
    inputs: int
    method: str
    numbers: tuple[str, ...] = ()

    def arguments(self, steps: int) -> list[str]:
        """Return what evaluate_agent.py is called with.

        Args:
            steps: minibatches of each round of learning.
        """
        short = self.method.rpartition("/")[2]
        told = (*self.numbers, f"teach.fit.steps={steps}", f"teach.rounds={ROUNDS}")
        keys = (f"teach.fit.{entry}" if entry.startswith("optimizer.") else entry for entry in told)
        return [f"evaluation={self.method}", *(f"{short}.{key}" for key in keys)]


WAYS = (
    Way(8, 8, "quantization/brelu"),
    Way(8, 8, "quantization/pams", ("bits=8", "places.first=8", "places.last=8")),
    Way(8, 8, "quantization/sat", ("bits=8", "input_bits=8")),
    Way(4, 4, "quantization/sat", ("bits=4", "input_bits=4")),
    Way(3, 3, "quantization/sat", ("bits=3", "input_bits=3")),
    Way(2, 2, "quantization/sat", ("bits=2", "input_bits=2")),
    Way(2, 4, "quantization/quantization_networks", ("levels=ternary", "input_bits=4", "other_rate=1", *ADAM)),
    Way(1, 4, "quantization/quantization_networks", ("levels=binary", "input_bits=4", "other_rate=1", *ADAM)),
    Way(1, 32, "quantization/rbnn", ("input_bits=32", *ADAM)),
    Way(1, 1, "quantization/rbnn", ("input_bits=1", *ADAM)),
)


@dataclass(frozen=True, kw_only=True)
class CompareBitsConfig:
    """What to compare.

    Attributes:
        runs: run directories, or policies that evaluate_agent.py has written.
        bits: of weights; ways to others are left out.
        steps: minibatches of each of two rounds of learning, for all ways.
        states: visited and labelled for each round.
        episodes: scored for each row, all from the same starts.
        seed: of episodes and of learning.
        num_threads: threads of simulator and torch; 0 takes all cores.
        peers: rows of onnxruntime's static int8 and torchao's int8 weights, where these are installed.
        output: a JSON file for the rows; "" for none.
        table: instead of all that, such a file, whose table is printed.
        page: a page of Markdown with the lines of MARKS, between which the table is put.
    """

    runs: tuple[str, ...] = ()
    bits: tuple[int, ...] = (8, 4, 3, 2, 1)
    steps: int = 1000
    states: int = 10_000
    episodes: int = 20
    seed: int = 0
    num_threads: int = 1
    peers: bool = False
    output: str = ""
    table: str = ""
    page: str = ""

    def __post_init__(self) -> None:
        require(bool(self.runs) != bool(self.table), "runs= or table= is missing; give one, such as runs=[runs/...]")
        known = sorted({way.weights for way in WAYS})
        for bits in self.bits:
            require(bits in known, f"bits={bits}: use some of {known}")
        for name in ("steps", "states", "episodes"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.seed >= 0, f"seed={self.seed}: use 0 or more")
        require_threads(self.num_threads)


@command(CompareBitsConfig)
def main(arguments: list[str]) -> int:
    """Compare and print."""
    config: CompareBitsConfig = script_config(CompareBitsConfig, arguments)
    if config.table:
        return shown(read(Path(config.table)), config.page)
    if config.output:
        require_writable(Path(config.output))
    found: dict[str, Any] = {
        "command": shlex.join(["python", "scripts/compare_bits.py", *arguments]),
        "commit": commit(),
        "policies": [],
    }
    for run in config.runs:
        found["policies"].append(compared(run, config))
    if config.output:
        write_atomically(Path(config.output), (to_json(found, indent=1) + "\n").encode())
    shown(found, config.page)
    print(to_json(found))
    return 0


def shown(found: Mapping[str, Any], page: str) -> int:
    """Print the table, and put it into a page, "" for none.

    Raises:
        UserError: if there is no such page, or no place for it there.
    """
    print(table(found))
    if page:
        put_between(Path(page), MARKS, table(found))
    return 0


def compared(run: str, config: CompareBitsConfig) -> dict[str, Any]:
    """Return a policy's report as plain data, with "ways": row -> [bits of weights, of inputs, arguments].

    Raises:
        UserError: if the policy is not such as every way needs; before anything is learned.
    """
    judge = JudgeConfig(episodes=config.episodes, states=config.states, num_threads=config.num_threads)
    teaching = few_bits_teaching()
    teaching = TeachConfig(fit=replace(teaching.fit, steps=config.steps), rounds=ROUNDS)
    branch = judging.branch_of(config.seed)
    script = PolicyConfig(run=(run,), device="cpu")
    ways = {way: way.arguments(config.steps) for way in WAYS if way.weights in config.bits}
    methods = {way: judging.split_arguments(plain_values(told))[0] for way, told in ways.items()}
    subject, trained, _ = judging.load_subject(script, judge, teaching, branch, list(methods.values()))
    rows = [judging.row_of("before", subject, config.seed)]
    rows.append(judging.row_of("control", judging.control_of(subject, [teaching], branch), config.seed))
    said: dict[str, Any] = {}
    for way, each in methods.items():
        row = judging.row_of(
            f"{way.weights} x {way.inputs}, {way.method}", judging.applied(each, subject, branch), config.seed
        )
        print(f"{row.name}: {row.scores.mean():.4g}", flush=True)
        rows.append(row)
        said[row.name] = [way.weights, way.inputs, ways[way]]
    for name, make in peers_at_hand().items() if config.peers else ():
        peer = make(subject)
        rows.append(Row(name, subject.task.score(peer.policy, config.seed), peer.costs))  # type: ignore[arg-type]
        print(f"{name}: {rows[-1].scores.mean():.4g}", flush=True)
    title = trained.env.full_id.rpartition("/")[2]
    report = Report(title, subject.task.unit, subject.task.floor, tuple(rows))
    return {**report.plain(), "ways": said}


def read(path: Path) -> dict[str, Any]:
    """Return what output= wrote.

    Raises:
        UserError: if it cannot be read, or is something else.
    """
    try:
        found = json.loads(path.read_text())
        table(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: compare_bits.py wrote no such file; make one with output=") from None
    return found


def table(found: Mapping[str, Any]) -> str:
    """Return the rows of all policies as one table."""
    lines = [
        "| policy | bits (weights x inputs) | by | return [95 %] | kept | bytes | bit operations | ms |",
        "|" + "---|" * 8,
    ]
    for policy in found["policies"]:
        for name, row in policy["rows"].items():
            bits, by = _way(name, policy["ways"].get(name))
            operations = row.get("bit_operations")
            low, high = row["interval"]
            cells = (
                policy["title"],
                bits,
                by,
                f"{row['score']:,.0f}{bracketed(low, high, ',.0f')}",
                "" if row["kept"] is None else f"{row['kept']:.3f}",
                f"{row['bytes']:,.0f}",
                "" if operations is None else f"{operations / 1e6:.2f} M",
                ", ".join(f"{backend} {row[key]:.3f}" for key, backend in BACKENDS.items() if key in row),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


BACKENDS = {"milliseconds/torch": "torch", "milliseconds/onnxruntime": "onnxruntime"}
FIXED = {"before": ("32 x 32", "as it was"), "control": ("32 x 32", "control")}


def _way(name: str, way: Sequence[Any] | None) -> tuple[str, str]:
    """Return the cells that say which bits and by what."""
    if way is None:
        return FIXED.get(name, ("8 x 32" if "weights" in name else "8 x 8", name))
    weights, inputs, arguments = way
    return f"{weights} x {inputs}", f"`{arguments[0].partition('=')[2]}`"


if __name__ == "__main__":
    sys.exit(main())
