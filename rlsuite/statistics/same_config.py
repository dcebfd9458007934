"""Whether runs are seeds of one thing: what in their configs decides how they learned, and where it differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

# What a run may have its own of and still be a seed among the others: it changes how long, how fast, or how closely
# watched a run is, and not what it learns.
NOT_LEARNING = (
    "seed",
    "steps",
    "num_threads",
    "device",
    "run_dir",
    "log",
    "checkpoint",
    "evaluate",
    "replay.device",
)


def learning_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted key -> value of all that decides how a run learned, its seed apart.

    What is off, None or False, is left out: an option that a later version has brought, and a run does not use, makes
    it no other run than those that were trained before.
    """
    flat = {key: value for key, value in _flat(config).items() if value is not None and value is not False}
    ignored = list(NOT_LEARNING)
    if flat.get("agent.final_learning_rate_share", 1.0) != 1.0:
        ignored.remove("steps")  # the learning rates fall along the whole run
    return {key: value for key, value in flat.items() if not any(f"{key}.".startswith(f"{one}.") for one in ignored)}


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the dotted keys, sorted, whose values are not the same in all configs; a key that one lacks is off."""
    found = [learning_config(config) for config in configs]
    keys = sorted({key for config in found for key in config})
    return [key for key in keys if any(config.get(key) != found[0].get(key) for config in found)]


def digest_of(config: Mapping[str, Any]) -> str:
    """Return a short digest that configs have in common if and, for all one needs, only if nothing in them differs."""
    return hashlib.sha256(json.dumps(learning_config(config), sort_keys=True).encode()).hexdigest()[:12]


def value_of(config: Any, key: str) -> Any:
    """Return what a config holds under a dotted key; None where it has no such key."""
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
