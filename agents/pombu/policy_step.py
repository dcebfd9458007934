"""The conservative policy step, and the optimistic one of exploration policies (arXiv:1911.12574).

    improvement:  E[ min(D A, clip(D, -eps, eps) A) ]     D = pi(a|s) / pi_old(a|s) - 1
    its deviation under the posterior is at most  E[ |D| sigma ],  sigma = sqrt(U)

PPO's clipped surrogate is the improvement up to a constant. A transition with |A| < alpha sigma is better left alone:
at D = 0 the penalty's slope beats the gain.

Shapes: H steps, P policies, B trajectories, R = H B rows, M rows of a minibatch, K members.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rlsuite.running.advantages import generalized_advantages

_SMALLEST_DEVIATION = 1e-5  # of the released code: the first minibatch of a step starts from D = 0


class Targets(NamedTuple):
    """What imagined trajectories teach, every tensor (H, P, B)."""

    advantage: Tensor
    value: Tensor
    uncertainty: Tensor


def targets(
    reward: Tensor,
    local: Tensor,
    value: Tensor,
    uncertainty: Tensor,
    *,
    discount: float,
    trace_decay: float,
) -> Targets:
    """Return advantages and the targets of V and U: lambda-returns with gamma, and with gamma squared for U.

    Args:
        reward: (H, P, B) scaled.
        local: (H, P, B) local uncertainties u.
        value: (H, P, B) V at the trajectories' observations.
        uncertainty: (H, P, B) U there.
        discount: gamma.
        trace_decay: lambda.
    """
    ended = torch.zeros_like(reward, dtype=torch.bool)
    ended[-1] = True  # nothing is bootstrapped after the last imagined step

    def advantages(gain: Tensor, now: Tensor, factor: float) -> Tensor:
        following = torch.cat([now[1:], torch.zeros_like(now[:1])])
        shape = gain.shape
        flat = [tensor.flatten(1) for tensor in (gain, now, following, ended, ended)]
        return generalized_advantages(*flat, discount=factor, trace_decay=trace_decay).view(shape)

    of_value = advantages(reward, value, discount)
    of_uncertainty = advantages(local, uncertainty, discount**2)
    return Targets(of_value, of_value + value, of_uncertainty + uncertainty)


def scaled_advantage_and_sigma(
    advantage: Tensor, uncertainty: Tensor, *, largest_advantage: float, largest_uncertainty: float, u_scale: str
) -> tuple[Tensor, Tensor]:
    """Return standardized advantages and sigma = sqrt(U), both (H, P, B); each policy's are its own.

    U is scaled first and then clipped to [1e-8, largest_uncertainty].

    The released code standardizes advantages first and then divides U by the variance of what it has standardized,
    which is 1: sigma stays in units of scaled returns ("official"). "advantage" divides by the variance from before.
    """
    advantage = advantage.clamp(-largest_advantage, largest_advantage)
    std, mean = torch.std_mean(advantage, dim=(0, 2), correction=0, keepdim=True)
    if u_scale == "advantage":
        uncertainty = uncertainty / (std + 1e-8).square()
    return (advantage - mean) / (std + 1e-8), uncertainty.clamp(1e-8, largest_uncertainty).sqrt()


def improvement(change: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Return each policy's mean of min(D A, clip(D, -eps, eps) A), (P,), of D and A (P, M)."""
    return torch.minimum(change * advantage, change.clamp(-clip, clip) * advantage).mean(dim=1)


def objective(
    change: Tensor,
    advantage: Tensor,
    sigma: Tensor,
    *,
    clip: float,
    alpha: Tensor | float,
    kind: str,
    alpha_range: tuple[float, ...] = (0.0, 1.0),
) -> tuple[Tensor, Tensor]:
    """Return what each policy ascends, (P,), and the alpha in force, (P,).

    Args:
        change: (P, M) D.
        advantage: (P, M) standardized.
        sigma: (P, M).
        clip: eps.
        alpha: weight of the penalty, of kind="penalty" only. With the others the ratio is in force: up to a factor,
            gain / deviation has the slope of gain - ratio * deviation.
        kind: "penalty", "ratio" or "ratio_as_alpha"; see POMBUConfig.
        alpha_range: of "ratio_as_alpha".
    """
    gain, deviation = improvement(change, advantage, clip), (change.abs() * sigma).mean(dim=1)
    if kind == "penalty":
        return gain - alpha * deviation, torch.as_tensor(alpha).expand_as(gain)
    ratio = gain / (deviation + _SMALLEST_DEVIATION)
    if kind == "ratio":
        return ratio, ratio.detach()
    alpha = ratio.detach().clamp(*alpha_range)
    return gain - alpha * deviation, alpha
