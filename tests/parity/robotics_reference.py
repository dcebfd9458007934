"""Gymnasium-Robotics' own environments, made to run on today's MuJoCo.

MuJoCo's enums no longer compare equal to NumPy's integers, which that package relies on; here it is shown plain ones.
"""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium

# Ours to theirs; the version of a task that starts as its documentation says.
REFERENCE_IDS = {
    **{f"Fetch{what}": f"Fetch{what}-v4" for what in ("Reach", "Push", "Slide", "PickAndPlace")},
    "HandReach": "HandReach-v3",
    **{
        f"HandManipulate{what}": f"HandManipulate{what}-v1"
        for what in (
            "BlockRotateZ",
            "BlockRotateParallel",
            "BlockRotateXYZ",
            "BlockFull",
            "EggRotate",
            "EggFull",
            "PenRotate",
            "PenFull",
        )
    },
}


class _PlainEnums:
    """A module whose enums hold plain integers."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if name.startswith("mjt") and hasattr(found, "__members__"):
            return type(name, (), {member: int(value) for member, value in found.__members__.items()})
        return found


def make_reference(name: str, reward_type: str = "sparse") -> Any:
    """Return Gymnasium-Robotics' environment of one of our task names, without wrappers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import gymnasium_robotics
        from gymnasium_robotics.utils import mujoco_utils

        gymnasium.register_envs(gymnasium_robotics)
        mujoco_utils.mujoco = _PlainEnums(mujoco_utils.mujoco)  # pyright: ignore[reportAttributeAccessIssue]
        suffix = "Dense" if reward_type == "dense" else ""
        family, version = REFERENCE_IDS[name].rsplit("-", 1)
        return gymnasium.make(f"{family}{suffix}-{version}", disable_env_checker=True).unwrapped
