"""Export a trained policy as ONNX: ``python scripts/export_policy.py run=RUN_DIR output=policy.onnx``.

Observation normalizer, action bounds and, for ensembles (run=A,B source=runs, source=snapshots, ...), all members are
inside the file. It is checked in onnxruntime before the script ends; scripts/examples/run_exported_policy.py runs it in
plain Gymnasium. On a task with goals the policy takes own observation and desired goal, one behind the other. The last
line printed is JSON: path, bytes, largest difference, and of observations that were a Dict what each column is.
Pictures enter as the suite sees them: bytes (N, C, H, W), frames one behind the other. Choices leave as the
environment's own space has them, the likeliest of each.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from agents.assembly import make_env
from agents.export import difference_in_onnxruntime, export_onnx
from agents.loading import PolicyConfig, load_policy
from rlsuite.action_space import ActionLimits
from rlsuite.cli import command
from rlsuite.config.compose import script_config
from rlsuite.errors import UserError, require, require_finite
from rlsuite.extras import require_extras
from rlsuite.records.files import require_inside, require_writable
from rlsuite.records.json_text import to_json


@dataclass(frozen=True, kw_only=True)
class ExportConfig(PolicyConfig):
    """Where it goes.

    Attributes:
        output: the file; default <run>/policy.onnx.
        tolerance: largest difference to the agent's own actions that is accepted, as a share of the action range.
    """

    output: str = ""
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        require_finite("tolerance", self.tolerance, low=0.0)
        require(
            not self.output or self.output.endswith(".onnx"), f"output={self.output}: use a name that ends with .onnx"
        )


@command(ExportConfig)
def main(arguments: list[str]) -> int:
    """Export, check and print."""
    script = script_config(ExportConfig, arguments)
    require_extras("export_policy.py", "onnx", "onnxscript", "onnxruntime")
    agent, config, checkpoint = load_policy(script)
    path = Path(script.output) if script.output else checkpoint.parent.parent / "policy.onnx"
    if not script.output:
        require_inside(path, path.parent)
    require_writable(path)
    env = make_env(config, 64)
    observation, _ = env.reset(seed=0)
    shape = tuple(observation.shape[1:]) if env.goals is None else (env.goals.visible_size,)
    seen = slice(shape[0])  # a goal that only hindsight looks at lies behind
    action_space = env.native_action_space
    export_onnx(agent, shape, path, action_space=action_space, dtype=observation.dtype)
    # Random actions carry the check to more states than the starts alone.
    limits = ActionLimits(env.single_action_space)
    generator = torch.Generator().manual_seed(0)
    difference = 0.0
    for _ in range(5):
        found = difference_in_onnxruntime(agent, path, observation[:, seen], action_space=action_space)
        difference = max(difference, found)
        observation = env.step(limits.uniform(64, generator))[0]
    env.close()
    if difference > script.tolerance * float((limits.high - limits.low).max()):
        raise UserError(f"{path} differs from the agent by {difference:g}; report it, or accept it with tolerance=")
    found = {"path": str(path), "bytes": path.stat().st_size, "largest_difference": difference}
    names = env.observation_names
    print(to_json(found | ({"observation": list(names)} if names else {})))
    return 0


if __name__ == "__main__":
    sys.exit(main())
