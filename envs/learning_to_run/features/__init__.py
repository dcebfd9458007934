"""What agents are shown of the runner: the challenge's 41 numbers, or what its teams made of them."""

from __future__ import annotations

import importlib

from envs.learning_to_run.features.protocol import Features

FEATURES = ("raw", "ace", "reason8", "sj", "nnaisense")


def make_features(name: str) -> Features:
    """Return a feature map by its name, one of `FEATURES`."""
    return importlib.import_module(f"envs.learning_to_run.features.{name}").Map()
