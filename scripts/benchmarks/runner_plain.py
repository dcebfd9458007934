"""The runner written plainly: one environment, one muscle after the other, in Python and NumPy around mujoco.mj_step.

The peer that the stepping benchmark measures LearningToRun against: the same bodies, paths, curves, joint stops and
contacts by the engine, without balls, features and shaping.
"""

# MuJoCo's compiled modules have no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math

import mujoco
import numpy as np

from envs.learning_to_run.muscles import PARAMETERS, START
from envs.learning_to_run.path_points import ANKLE, CALCANEUS, CONDITIONS, HIP, KNEE_FUNCTIONS, MUSCLES, PATHS
from envs.learning_to_run.splines import spline_slopes
from envs.simulation.model import find_model

_SUBSTEPS = 10
_STOPS = {"hip": (-30.0, 120.0), "knee": (-140.0, 10.0), "ankle": (-40.0, 20.0)}
_MOVING = {"rect_fem": ("rect_fem_x", "rect_fem_y"), "vasti": ("vasti_x", "vasti_y")}
_NEARBY = 1e-6  # rad, for the derivatives of lengths


class PlainRunner:
    """One runner."""

    def __init__(self) -> None:
        self.model = mujoco.MjModel.from_xml_path(str(find_model("runner.xml")))
        self.data = mujoco.MjData(self.model)
        self._slopes = {name: spline_slopes(*map(np.asarray, knots)) for name, knots in KNEE_FUNCTIONS.items()}
        self._tibiae = [self.model.body(f"tibia_{side}").id for side in "rl"]
        self.activation = np.full(18, START)

    def reset(self) -> None:
        """Stand the runner up."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:3] = 0.0, 0.91, -0.05
        self.activation[:] = START

    def step(self, action: np.ndarray) -> tuple[float, float]:
        """Make 10 ms under excitations (18,); return the pelvis's x and y."""
        for _ in range(_SUBSTEPS):
            self._substep(np.clip(action, 0.0, 1.0))
        return float(self.data.qpos[0]), float(self.data.qpos[1])

    def _substep(self, excitation: np.ndarray) -> None:
        step = self.model.opt.timestep
        for leg, tibia in enumerate(self._tibiae):
            start = 3 + 3 * leg
            angles: dict[str, float] = dict(zip(_STOPS, self.data.qpos[start : start + 3], strict=True))
            rates: dict[str, float] = dict(zip(_STOPS, self.data.qvel[start : start + 3], strict=True))
            torque = {name: self._stop(name, angles[name], rates[name]) for name in angles}
            for index, muscle in enumerate(MUSCLES):
                length = self.length(muscle, angles)
                arms = {}
                for name in self._crossed(muscle):
                    near = self.length(muscle, {**angles, name: angles[name] + _NEARBY})
                    arms[name] = (near - length) / _NEARBY
                speed = sum(arm * rates[name] for name, arm in arms.items())
                place = 9 * leg + index
                tension = self._tension(muscle, length, speed, self.activation[place])
                for name, arm in arms.items():
                    torque[name] -= tension * arm
                self._activate(place, excitation[place], step)
            self.data.qfrc_applied[start : start + 3] = list(torque.values())
            self.model.body_pos[tibia, 0] = self._function("tibia_x", angles["knee"])
            self.model.body_pos[tibia, 2] = self._function("tibia_y", angles["knee"])
        mujoco.mj_step(self.model, self.data)

    def _activate(self, place: int, excitation: float, step: float) -> None:
        activation = self.activation[place]
        pace = 0.5 + 1.5 * activation
        time = 0.01 * pace if excitation > activation else 0.04 / pace
        self.activation[place] += step * (excitation - activation) / time

    @staticmethod
    def _crossed(muscle: str) -> list[str]:
        bones = {bone.rstrip("?") for bone, _ in PATHS[muscle]}
        joints = []
        if "pelvis" in bones:
            joints.append("hip")
        if muscle == "gastroc" or (bones & {"tibia", "moving"} and bones & {"pelvis", "femur"}):
            joints.append("knee")
        if "calcn" in bones:
            joints.append("ankle")
        return joints

    def _function(self, name: str, angle: float) -> float:
        knots, values = KNEE_FUNCTIONS[name]
        slopes = self._slopes[name]
        if angle <= knots[0]:
            return values[0] + slopes[0] * (angle - knots[0])
        if angle >= knots[-1]:
            return values[-1] + slopes[-1] * (angle - knots[-1])
        cell = int(np.searchsorted(knots, angle, side="right")) - 1
        width = knots[cell + 1] - knots[cell]
        t = (angle - knots[cell]) / width
        return (
            (2 * t**3 - 3 * t**2 + 1) * values[cell]
            + (t**3 - 2 * t**2 + t) * width * slopes[cell]
            + (3 * t**2 - 2 * t**3) * values[cell + 1]
            + (t**3 - t**2) * width * slopes[cell + 1]
        )

    def length(self, muscle: str, angles: dict[str, float]) -> float:
        """Return a path's length at the angles of hip, knee and ankle."""
        places = []
        for bone, place in PATHS[muscle]:
            if bone.endswith("?"):
                angle, low, high = CONDITIONS[muscle]
                if not low - 1e-5 <= angles[angle] <= high + 1e-5:
                    continue
            places.append(self._place(muscle, bone.rstrip("?"), place, angles))
        return sum(math.dist(one, other) for one, other in zip(places, places[1:], strict=False))

    def _place(
        self, muscle: str, bone: str, place: tuple[float, float, float], angles: dict[str, float]
    ) -> tuple[float, float, float]:
        """Return a point in the pelvis's frame."""
        x, y, z = place
        if bone == "pelvis":
            return place
        if bone == "moving":
            x, y = (self._function(name, angles["knee"]) for name in _MOVING[muscle])
        if bone == "calcn":
            x, y, z = x + CALCANEUS[0], y + CALCANEUS[1], z + CALCANEUS[2]
            x, y = _turned(angles["ankle"], x, y)
            x, y = x + ANKLE[0], y + ANKLE[1]
        if bone != "femur":
            x, y = _turned(angles["knee"], x, y)
            x, y = x + self._function("tibia_x", angles["knee"]), y + self._function("tibia_y", angles["knee"])
        x, y = _turned(angles["hip"], x, y)
        return x + HIP[0], y + HIP[1], z + HIP[2]

    @staticmethod
    def _tension(muscle: str, length: float, speed: float, activation: float) -> float:
        """Return a tendon's tension by MuJoCo's own curves."""
        force, optimal, slack, strain, pennation, _, _ = PARAMETERS[muscle]
        cosine = math.cos(pennation)
        tendon = slack * (1.0 + 0.5 * strain)
        span = np.array([tendon, tendon + optimal * cosine])
        parameters = np.array([0.0, 1.0, force * cosine, 200.0, 0.5, 1.6, 10.0, 1.0, 1.4])
        gain = mujoco.mju_muscleGain(length, speed, span, 1.0, parameters)
        return -(gain * activation + mujoco.mju_muscleBias(length, span, 1.0, parameters))

    @staticmethod
    def _stop(name: str, angle: float, rate: float) -> float:
        low, high = (math.radians(limit) for limit in _STOPS[name])
        stiffness, damping, width = math.degrees(20.0), math.degrees(0.25), math.radians(10.0)

        def stiff(excess: float) -> float:
            t = min(max(excess / width, 0.0), 1.0)
            return stiffness * (10 * t**3 - 15 * t**4 + 6 * t**5)

        upper, lower = stiff(angle - high), stiff(low - angle)
        return -upper * (angle - high) + lower * (low - angle) - damping * (upper + lower) / stiffness * rate


def _turned(angle: float, x: float, y: float) -> tuple[float, float]:
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * x - sin * y, sin * x + cos * y
