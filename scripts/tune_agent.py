"""Search an agent's numbers with Optuna: ``python scripts/tune_agent.py agent=td3 env=Hopper steps=50000 trials=20``.

With ``"search=[agent.actor_learning_rate=1e-4..1e-2 log,agent.batch_size=128|256|512]"`` two are searched: a number
between two bounds, ``low..high``, evenly or with ``log``, where whole bounds give whole numbers; ``a|b|c`` are choices.
Every trial is a training of its own in ``run_dir``/trial-<number>, and its value the mean return of its last
evaluation; one that is behind the median of the others at the same evaluation is ended early. The study is kept in
``run_dir``/study.db: the same command goes on until ``trials`` are done. All other keys are train_agent.py's. The seeds
that numbers were chosen on say nothing of how good they are: score the winner on others. The last line printed is JSON:
value, trial, and the winner's keys.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.api import train
from rlsuite.cli import as_started, command
from rlsuite.config.build import build
from rlsuite.config.compose import compose_train, parse
from rlsuite.errors import UserError, require
from rlsuite.extras import import_extra
from rlsuite.records.files import require_writable
from rlsuite.records.json_text import to_json

_RANGE = re.compile(r"(?P<low>[-+.\deE]+)\.\.(?P<high>[-+.\deE]+)(?P<log> log)?")
OWN = ("search", "trials", "sampler_seed", "run_dir")


@dataclass(frozen=True, kw_only=True)
class Searched:
    """One number that is searched.

    Attributes:
        key: such as agent.discount.
        choices: values to choose among; empty for a range.
        low: lower bound.
        high: upper bound.
        log: whether evenly in the logarithm.
    """

    key: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values by which one sees whether all are right: every choice, or both bounds."""
        return self.choices or (self.low, self.high)

    def suggest(self, trial: Any) -> Any:
        """Return the value that a trial of Optuna tries."""
        if self.choices:
            return trial.suggest_categorical(self.key, self.choices)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.key, self.low, self.high, log=self.log)
        return trial.suggest_float(self.key, float(self.low), float(self.high), log=self.log)


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """What is searched; all other keys are train_agent.py's.

    Attributes:
        search: what is searched, each "key=low..high", "key=low..high log" or "key=a|b|c".
        trials: trainings in all.
        sampler_seed: of Optuna's draws.
        run_dir: where the study and its trainings are kept.
    """

    search: tuple[str, ...] = ()
    trials: int = 20
    sampler_seed: int = 0
    run_dir: str = "runs/tuned"

    def __post_init__(self) -> None:
        require(bool(self.search), 'search= is missing; for example "search=[agent.discount=0.95..0.999]"')
        require(self.trials >= 1, f"trials={self.trials}: use 1 or more")
        require(self.sampler_seed >= 0, f"sampler_seed={self.sampler_seed}: use 0 or more")


def read_search(text: str) -> Searched:
    """Return what "key=low..high log" or "key=a|b|c" says.

    Raises:
        UserError: for anything else.
    """
    key, equals, values = text.strip().partition("=")
    require(bool(key and equals and values), f"search={text}: write key=low..high, key=low..high log or key=a|b|c")
    if "|" in values:
        choices = tuple(value.strip() for value in values.split("|"))
        require(all(choices) and len(set(choices)) == len(choices), f"search={text}: two choices are alike, or empty")
        return Searched(key=key, choices=choices)
    found = _RANGE.fullmatch(values.strip())
    try:
        if found is None:
            raise ValueError
        low, high = (_number(found[name]) for name in ("low", "high"))
    except ValueError:
        raise UserError(f"search={text}: write key=low..high, key=low..high log or key=a|b|c") from None
    require(low < high, f"search={text}: the lower bound comes first")
    require(not found["log"] or low > 0, f"search={text}: log needs bounds above 0")
    return Searched(key=key, low=low, high=high, log=bool(found["log"]))


def _number(text: str) -> int | float:
    return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)


def split(arguments: Sequence[str]) -> tuple[TuneConfig, list[str]]:
    """Return what is ours, and what is train_agent.py's."""
    own: dict[str, Any] = {}
    rest = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "search":  # its values hold what the key=value grammar has other uses for
            own[key] = [part for part in value.strip("[]").split(",") if part.strip()]
        elif key in OWN:
            own[key] = parse([argument])[0].value()
        else:
            rest.append(argument)
    return build(TuneConfig, own), rest


def require_right(searched: Sequence[Searched], arguments: Sequence[str]) -> None:
    """Compose what trials will be, so that a wrong key or value is said before the search begins.

    Raises:
        UserError: as train_agent.py would.
    """
    for number in range(max(len(one.ends) for one in searched)):
        compose_train([*arguments, *(f"{one.key}={one.ends[min(number, len(one.ends) - 1)]}" for one in searched)])


@command(TuneConfig)
def main(arguments: list[str]) -> int:
    """Search, and print the winner."""
    config, rest = split(arguments)
    searched = [read_search(text) for text in config.search]
    settings = {override.key_or_group: override.get_value_element_as_str() for override in parse(rest)}
    agent, env = settings.pop("agent", "ace"), settings.pop("env", "")
    require(bool(env), "env= is missing; name a task, such as env=Hopper")
    taken = [one.key for one in searched if one.key in settings]
    require(not taken, f"{', '.join(taken)} is searched and set; leave one of them out")
    require_right(searched, [f"agent={agent}", *(one for one in rest if not one.startswith("agent="))])
    optuna = import_extra("optuna", "tune_agent.py")
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a trial's error is raised; as a warning it is a traceback
    folder = Path(config.run_dir)
    require_writable(folder / "study.db", "run_dir")
    name, storage = f"{agent} on {env}: {', '.join(config.search)}", f"sqlite:///{folder / 'study.db'}"
    used = any(folder.glob("trial-*"))
    require(
        not used or name in optuna.get_all_study_names(storage),
        f"run_dir={folder} holds another search; choose another run_dir=",
    )
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=config.sampler_seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
        load_if_exists=True,
    )

    def objective(trial: Any) -> float:
        chosen = {one.key: one.suggest(trial) for one in searched}
        values: list[float] = []

        def watch(step: int, kind: str, numbers: Any) -> bool:
            if kind == "evaluate":
                values.append(numbers["mean"])
                trial.report(numbers["mean"], step)
                return not trial.should_prune()
            return True

        run_dir = folder / f"trial-{trial.number:03}"
        train(agent, env, run_dir=run_dir, callbacks=[watch], console=False, settings={**settings, **chosen})
        require(bool(values), "evaluate.every=0: trials are told apart by their evaluations; use 1 or more")
        said = ", ".join(f"{key}={value}" for key, value in chosen.items())
        print(f"trial {trial.number}: {values[-1]:.1f} with {said}", flush=True)
        if trial.should_prune():
            raise optuna.TrialPruned
        return values[-1]

    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    study.optimize(objective, n_trials=max(0, config.trials - len(study.get_trials(states=ended))))
    best = study.best_trial
    others = [argument for argument in rest if argument.partition("=")[0] not in ("agent", "env")]
    found = [f"{key}={value}" for key, value in best.params.items()]
    train_it = shlex.join(["python", "scripts/train_agent.py", f"agent={agent}", f"env={env}", *others, *found])
    print(as_started(f"best: trial {best.number}, {best.value:.1f}; {train_it}"))
    print(to_json({"value": best.value, "trial": best.number, **best.params}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
