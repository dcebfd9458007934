"""Muscle forces: activation dynamics, and what an activated muscle pulls with at a length and a speed.

Tendons do not stretch: the muscle's length is the path's less the tendon's, which is the slack one times (1 + half the
strain at full force) and so stands in for its stretch. Two sets of curves: "mujoco", those of MuJoCo's muscle actuator;
"source", those of Thelen (2003), which the model was made with, with its pennation. Activation follows
the same law in both: da/dt = (u - a) / tau, tau = 0.01 (0.5 + 1.5 a) s while it rises, else 0.04 / (0.5 + 1.5 a) s.

Shapes: N environments; legs right, left; nine muscles, in the order of `envs.learning_to_run.paths.ORDER`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from envs.constants import constant
from envs.learning_to_run.paths import ORDER
from envs.simulation.base import Movable

CURVES = ("mujoco", "source")
START = 0.05  # of every activation, when an episode begins

# By muscle: the force at optimal length N, the optimal length m,
# the tendon's slack length m, its strain at full force, the pennation at optimal length rad, the passive strain at
# full force and the passive curve's shape.
PARAMETERS = {
    "hamstrings": (4105.465574, 0.069, 0.349, 0.049, 0.26179939, 0.6, 5.0),
    "bifemsh": (557.115, 0.110, 0.117, 0.049, 0.40142573, 0.6, 5.0),
    "glut_max": (3337.584, 0.157, 0.048, 0.049, 0.0, 0.6, 5.0),
    "iliopsoas": (2697.344, 0.117, 0.130, 0.049, 0.13962634, 0.6, 5.0),
    "rect_fem": (2191.741, 0.076, 0.346, 0.049, 0.08726646, 1.0, 5.0),
    "vasti": (9593.951, 0.099, 0.102, 0.049, 0.05235988, 1.0, 9.0),
    "gastroc": (4690.574, 0.051, 0.384, 0.1, 0.29670597, 0.6, 5.0),
    "soleus": (7924.997, 0.044, 0.244, 0.1, 0.43633231, 0.6, 5.0),
    "tib_ant": (2116.818, 0.068, 0.238, 0.049, 0.08726646, 0.6, 5.0),
}
_ACTIVATION_TIME, _DEACTIVATION_TIME = 0.01, 0.04  # s
# MuJoCo's curves (mju_muscleGain, mju_muscleBias): lmin 0.5, lmax 1.6, vmax 10 lengths/s, fvmax 1.4, fpmax 1.
_SHORT, _LONG = 0.25, 0.3  # (1 - lmin) / 2, (lmax - 1) / 2
_FASTEST, _ECCENTRIC = 10.0, 1.4
# Thelen's: width of the active curve, speed in lengths/s at full activation, force-velocity shape, eccentric limit.
_WIDTH, _FASTEST_SOURCE, _SHAPE, _LEAST = 0.45, 15.0, 0.25, 0.01


class Muscles(Movable):
    """The nine muscles of both legs.

    Args:
        curves: "mujoco" or "source".
    """

    def __init__(self, curves: str) -> None:
        self.curves = curves
        columns = (
            torch.tensor([PARAMETERS[muscle] for muscle in ORDER], dtype=torch.float64).t().unsqueeze(2)
        )  # (7, 9, 1)
        force, optimal, slack, strain, pennation, passive, shape = columns.unbind()
        tendon = slack * (1.0 + 0.5 * strain)
        if curves == "mujoco":
            self._tendon, self._force = tendon, force * pennation.cos()
            self._per_length = 1.0 / (optimal * pennation.cos())  # of the muscle along the tendon
        else:
            self._tendon, self._force = tendon, force
            self._per_length = 1.0 / optimal
            self._width = pennation.sin()  # the constant height of the pennate muscle, in optimal lengths
            self._passive_rate, self._passive_scale = shape / passive, 1.0 / (shape.exp() - 1.0)

    def force(self, length: Tensor, speed: Tensor, activation: Tensor, strength: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tendons' tension in N, (2, 9, N), and its derivative with the speed in N s/m, 0 or more.

        Args:
            length: (2, 9, N) of the paths, in m.
            speed: (2, 9, N) its rate of change, in m/s.
            activation: (2, 9, N) in [0, 1].
            strength: (2, 9, N) factor of the force.
        """
        along = (length - self._tendon) * self._per_length
        rate = speed * self._per_length
        curves = self._mujoco if self.curves == "mujoco" else self._source
        pull, slope = curves(along, rate, activation)
        force = self._force * strength
        return pull * force, slope * (force * self._per_length)

    def _mujoco(self, length: Tensor, speed: Tensor, activation: Tensor) -> tuple[Tensor, Tensor]:
        excess = length - 1.0
        # Distance from the optimum in half widths: 1 - z^2 / 2, and from one half width on (2 - z)^2 / 2, to zero.
        stretch = excess * (1.0 / _LONG)
        away = torch.maximum(excess * (-1.0 / _SHORT), stretch).clamp_(max=2.0)
        beyond = (away - 1.0).clamp_(min=0.0)
        active = activation * (1.0 - 0.5 * (away * away) + beyond * beyond)
        # Shortening at v in [-1, 0]: (1 + v)^2; lengthening at v in [0, 0.4]: 1 + 2 v - v^2 / 0.4.
        rate = speed * (1.0 / _FASTEST)
        lengthening = rate.clamp(0.0, _ECCENTRIC - 1.0)
        shortening = (rate + 1.0).clamp_(0.0, 1.0)
        half_slope = shortening - lengthening * (1.0 / (_ECCENTRIC - 1.0))
        by_speed = shortening * shortening + lengthening * (half_slope + 1.0)
        stretch.clamp_(min=0.0)
        linear = (stretch - 1.0).clamp_(min=0.0)
        passive = 0.5 * (stretch * stretch - linear * linear)
        return active * by_speed + passive, active * half_slope * (2.0 / _FASTEST)

    def _source(self, along: Tensor, rate: Tensor, activation: Tensor) -> tuple[Tensor, Tensor]:
        def number(value: float) -> Tensor:
            return constant((value,), along)

        # The muscle leans on the tendon: its height stays, its length and the angle's cosine follow.
        along = along.clamp(min=0.01)
        length = (along * along + self._width * self._width).sqrt()
        cosine = along / length
        excess = length - 1.0
        activation = activation.clamp(min=_LEAST)
        active = activation * (excess * excess * (-1.0 / _WIDTH)).exp()
        fastest = (0.25 + 0.75 * activation) * _FASTEST_SOURCE
        share = (rate * cosine / fastest).clamp_(min=-1.0)
        shortens = share <= 0.0
        steepness = (2.0 + 2.0 / _SHAPE) / (_ECCENTRIC - 1.0)
        # Of a hyperbola (1 + p s) / (1 + q s) the slope is (p - q) / (1 + q s)^2; which one depends on the sign.
        below = 1.0 + share * torch.where(shortens, number(-1.0 / _SHAPE), number(steepness))
        above = 1.0 + share * torch.where(shortens, number(1.0), number(steepness * _ECCENTRIC))
        rise = torch.where(shortens, number(1.0 + 1.0 / _SHAPE), number(steepness * (_ECCENTRIC - 1.0)))
        slope = torch.where(share > -1.0, rise / (below * below * fastest), 0.0)
        passive = ((excess.clamp(min=0.0) * self._passive_rate).exp() - 1.0) * self._passive_scale
        # A passive force has a bound here, of four times the strongest; the curve's exponential has none.
        pull = (active * above / below + passive.clamp(max=4.0)) * cosine
        return pull, active * slope * (cosine * cosine)


def activated(activation: Tensor, excitation: Tensor, seconds: float) -> Tensor:
    """Return activations (...) after some seconds of excitations (...) in [0, 1], by one explicit step."""
    pace = 0.5 + 1.5 * activation
    per_second = torch.where(
        excitation > activation, (1.0 / _ACTIVATION_TIME) / pace, pace * (1.0 / _DEACTIVATION_TIME)
    )
    return activation + (excitation - activation) * per_second * seconds
