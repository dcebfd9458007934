"""CHER's curriculum: of many relabelled candidates keep those of varied goals, ever nearer to what was achieved.

Curriculum-guided hindsight experience replay (Fang et al. 2019), as the sampler of SHER's released code does it:
greedy picks that maximize the gain of a facility-location term over goals minus a growing weight times the distance
from goal to achieved goal. The released code picks 64 of 128 for each worker; a larger minibatch is picked in
groups of that size, side by side. Two of its habits are left out: there what rejected picks cover stays counted as
covered, and the rows that the normalizer learns from pass through the selection, too.

Shapes: P groups, C candidates and S kept in each, G goal.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlsuite.replay.config import CurriculumConfig

_LARGEST_LOG_WEIGHT = 60.0  # beyond it the distance decides alone anyway


def nearest_neighbour_similarity(goals: Tensor) -> Tensor:
    """Return (P, C, C): what picking candidate k covers of candidate j, exp(-(d / mean d)^2) if k is j's nearest.

    Only each candidate's nearest neighbour covers it, at distance d; the mean is over all of a group's.

    Args:
        goals: (P, C, G).
    """
    # By differences: the faster way by products loses the small distances, which are the ones that count.
    distance = torch.cdist(goals, goals, compute_mode="donot_use_mm_for_euclid_dist")
    distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    nearest, place = distance.min(dim=2)
    mean = nearest.mean(dim=1, keepdim=True).clamp_min(torch.finfo(nearest.dtype).tiny)
    covered = torch.exp(-(nearest / mean).square())
    return torch.zeros_like(distance).scatter_(1, place.unsqueeze(1), covered.unsqueeze(1))


def select(
    config: CurriculumConfig,
    achieved: Tensor,
    desired: Tensor,
    batches: int,
    generator: torch.Generator,
) -> Tensor:
    """Return the rows to keep, (P * S,) int64, of candidates' achieved and desired goals (P * C, G).

    Args:
        config: see CurriculumConfig.
        achieved: what was achieved where each candidate starts.
        desired: what it was asked for.
        batches: minibatches chosen before this one.
        generator: of the candidates that each pick looks at.
    """
    if config.columns:
        achieved, desired = achieved[:, list(config.columns)], desired[:, list(config.columns)]
    goals = desired.unflatten(0, (-1, config.candidates))
    similarity = nearest_neighbour_similarity(goals)
    cost = (desired - achieved).square().sum(-1).sqrt().unflatten(0, (-1, config.candidates))
    weight = 0.0
    if config.weight:
        weight = math.exp(min(math.log(config.weight) + batches * math.log1p(config.growth), _LARGEST_LOG_WEIGHT))
    covered = torch.zeros_like(cost)  # each candidate's similarity to the nearest one picked
    group = torch.arange(len(goals), device=goals.device)
    lottery = torch.rand((config.kept, *cost.shape), generator=generator, device=goals.device)
    picked = []
    for draw in lottery:
        taken = torch.stack(picked, dim=1) if picked else group.new_zeros((len(group), 0))
        tried = draw.scatter(1, taken, -1.0).topk(min(config.tried, config.candidates - len(picked)), dim=1).indices
        near = similarity[group.unsqueeze(1), tried]  # (P, tried, C)
        gain = (near - covered.unsqueeze(1)).clamp_min(0.0).sum(dim=2) - weight * cost.gather(1, tried)
        best = tried.gather(1, gain.argmax(dim=1, keepdim=True)).squeeze(1)
        picked.append(best)
        covered = torch.maximum(covered, similarity[group, best])
    return (torch.stack(picked, dim=1) + (group * config.candidates).unsqueeze(1)).flatten()
