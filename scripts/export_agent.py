"""Keep a trained agent as one small file: ``python scripts/export_agent.py run=RUN_DIR output=agent.safetensors``.

The file holds what the deterministic policy reads (its networks, the normalizer, of ACE the critics that choose) and
how it was made: config, steps, commits, what was typed where command= says it, and the returns of 20 episodes it is
scored in. Those that come along with the suite (agents/pretrained/) were made by this; ``evaluate_agent.py
pretrained=list`` names them. The last line printed is JSON: path, bytes, mean, steps.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from agents.assembly import prepare_torch
from agents.loading import PolicyConfig, load_policy
from agents.pretrained import store
from rlsuite.cli import command
from rlsuite.config.compose import script_config
from rlsuite.errors import require
from rlsuite.records.checkpoint import read_checkpoint
from rlsuite.records.files import require_writable
from rlsuite.records.json_text import to_json


@dataclass(frozen=True, kw_only=True)
class ExportAgentConfig(PolicyConfig):
    """Where it goes.

    Attributes:
        output: the file; its name ends with .safetensors.
        command: what was typed to train it, for the record, where that is to be said (the file holds the config in any
            case); in quotes of its own: "command='python ... steps=8000'".
        overwrite: whether a file of that name may be replaced.
    """

    output: str = ""
    command: str = ""
    overwrite: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.output.endswith(".safetensors"),
            f"output={self.output}: name the file, and let it end with .safetensors",
        )
        require(not self.pretrained, f"pretrained={self.pretrained} is such a file already; name a run")
        require(self.source == "latest", f"source={self.source}: one run's agent is kept; leave source= out")


@command(ExportAgentConfig)
def main(arguments: list[str]) -> int:
    """Write, score and print."""
    script = script_config(ExportAgentConfig, arguments)
    path = Path(script.output)
    require(script.overwrite or not path.exists(), f"output={path} is there already; add overwrite=true to replace it")
    require_writable(path)
    agent, config, checkpoint = load_policy(script)
    prepare_torch(config)
    about = {"commits": read_checkpoint(checkpoint, parts=[]).metadata.get("commits", [])}
    if script.command:  # a run does not know what was typed, presets least of all
        about["command"] = script.command
    kept = store.save(path, agent, config, steps=int(checkpoint.name), about=about)
    print(to_json({"path": str(path), "bytes": path.stat().st_size, "mean": kept.mean, "steps": kept.about["steps"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
